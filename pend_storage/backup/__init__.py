"""Copies of a JSON directory, complete and verified."""

from pend_storage.backup.directory import (
    DirectoryCopy,
    copy_directory,
    verify_copy,
)

__all__ = ["DirectoryCopy", "copy_directory", "verify_copy"]
