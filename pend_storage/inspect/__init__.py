"""Inspection of the JSON files of any server, and generation of a schema module for them.

The inspected directory is only read, and no report contains a value of a field that may be
a telephone number, a mail address, or a secret.
"""

from pend_storage.inspect._directory_scan import inspect_directory
from pend_storage.inspect._model import (
    DirectoryReport,
    FieldReport,
    FileReport,
    Guess,
    Hazard,
    Part,
    Reference,
    Severity,
    Shape,
)

__all__ = [
    "DirectoryReport",
    "FieldReport",
    "FileReport",
    "Guess",
    "Hazard",
    "Part",
    "Reference",
    "Severity",
    "Shape",
    "inspect_directory",
]
