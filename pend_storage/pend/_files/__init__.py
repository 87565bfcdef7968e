"""Mappings of the Pend server's legacy files to records, one module for each file."""
