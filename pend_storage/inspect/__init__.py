"""Looking at the JSON files of any server, and writing a schema module for them.

Nothing here writes to the directory that is looked at, and nothing shows a value of a
field that may be a telephone number, an address of mail, or a secret.
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
