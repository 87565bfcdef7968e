"""An edited file: what it says, beside what the store says."""

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
    """What an edited file says, beside what the store says."""

    parsed: ParsedFile
    seen: list[SeenRecord]
    content: FileContents
    base: Rows
    """The rows that the file showed before the edit."""
    header: tuple[int, LegacyFile | None]
    """Version and content of the header by which the file was written before the edit;
    no content where that is not known any more."""
    operations: list[Operation]
    reads: ReadSet
    """What else was read of the store to compute the operations."""
    source_entry: dict[str, int]
    """Keys of records of the file that the operations put: to which of its entries says
    so."""
    asides: list[Put] = field(default_factory=list)
    """Values that lose, whatever the commit finds."""
    kept: frozenset[str] = frozenset()
    """Tokens of records of which the file says what is stale."""
