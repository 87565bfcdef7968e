"""Copies of a JSON directory, complete and verified."""

from pend_storage.backup._directory_copy import (
    DirectoryCopy,
    copy_directory,
    verify_copy,
)
from pend_storage.backup._tree import Keeps

__all__ = ["DirectoryCopy", "Keeps", "copy_directory", "verify_copy"]
