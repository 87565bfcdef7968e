"""The command line: parse, call, show. What the commands do is in ``operations``."""
