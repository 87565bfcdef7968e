"""Copies of a JSON directory, complete and verified."""

from pend_storage.backup.directory import (
    DirectoryCopy,
    copy_directory,
    verify_copy,
)
from pend_storage.backup.tree import Keeps

__all__ = ["DirectoryCopy", "Keeps", "copy_directory", "verify_copy"]
