"""The place of a layout's file, or of its files."""

from __future__ import annotations

from pathlib import Path

from pend_storage.layout import Layout
from pend_storage.stores.json._legacy_sync.atomic_replace import Place
from pend_storage.stores.json._legacy_sync.file_manifest import view_path
from pend_storage.stores.json._legacy_sync.synced_folder import FolderPlace

__all__ = ["place_of"]


def place_of(layout: Layout, path: Path, own: Path) -> Place:
    """The place of a layout's file.

    Args:
        layout: of the file.
        path: of the file; of a folder, the pattern of its files.
        own: the store's own directory, where what is known of it is kept.
    """
    kept = view_path(own, layout.file)
    if layout.is_folder:
        return FolderPlace(path, kept)
    return Place(path, kept, layout.file if layout.is_part else "")
