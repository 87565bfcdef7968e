"""Edited file: its parsed content, beside the store's rows that it showed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from pend_storage._layouts.layout import ParsedFile
from pend_storage._model.records import Delete, LegacyFile, Put
from pend_storage.stores.json._legacy_sync.file_contents import FileContents, SeenRecord
from pend_storage.stores.json._legacy_sync.read_set import ReadSet

__all__ = ["EditedFile", "Operation", "Rows"]

Rows: TypeAlias = dict[str, tuple[int, bytes]]
"""Token to version and body."""
Operation: TypeAlias = Put | Delete


@dataclass(slots=True)
class EditedFile:
    """An edited file, compared with the store."""

    parsed: ParsedFile
    seen: list[SeenRecord]
    content: FileContents
    base: Rows
    """The rows that the file showed before the edit: base of the three-way merge."""
    header: tuple[int, LegacyFile | None]
    """Version and content of the header with which the file was written before the edit;
    None if the content is not known any more."""
    operations: list[Operation]
    reads: ReadSet
    """Other records that were read to compute the operations, with their versions."""
    source_entry: dict[str, int]
    """Key of each put record to the index of its entry in the file."""
    asides: list[Put] = field(default_factory=list)
    """Values to quarantine, independent of the outcome of the commit."""
    kept: frozenset[str] = frozenset()
    """Tokens of records whose text in the file is stale; the store's value stays."""
