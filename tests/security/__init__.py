"""Tests of what other users may do to a directory, a process, a server or a flag."""
