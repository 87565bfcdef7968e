"""Files: the one door through which files are opened, created, replaced and removed.

A directory is a descriptor, and a name is looked up in it: a path that changes meanwhile
leads nowhere else. No other module of the library calls the functions of the system that
open, create, rename or remove a file, or change its mode or owner; a test verifies it.
"""
