"""What the commands do, for Python programs as well: settings in, reports out.

Nothing here prints or parses, and nothing here ends a process.
"""
