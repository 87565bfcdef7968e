"""Backup: complete, verified copies of a JSON directory."""

from pend_storage.backup._directory_copy import (
    DirectoryCopy,
    copy_directory,
    verify_copy,
)
from pend_storage.backup._tree import Keeps

__all__ = ["DirectoryCopy", "Keeps", "copy_directory", "verify_copy"]
