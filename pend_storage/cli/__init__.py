"""Command line: parse, call, render. The work of the commands is in ``operations``."""
