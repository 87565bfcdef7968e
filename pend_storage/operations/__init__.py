"""Commands without a terminal: settings in, reports out; for Python programs as well.

Nothing here prints or parses, and nothing here ends a process.
"""
