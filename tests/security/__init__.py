"""Attacks that the library resists, played against real files and servers."""
