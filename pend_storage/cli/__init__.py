"""Command line: parses arguments, calls ``operations``, renders the reports."""
