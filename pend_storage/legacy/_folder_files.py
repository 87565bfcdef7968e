"""Layout of a folder with one file for each record, such as ``users/*.json``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from typing_extensions import override

from pend_storage._layouts.layout import ParsedFile
from pend_storage._model.records import LegacyFile, QuarantinedRecord
from pend_storage.legacy._file_envelope import MAP, FileEnvelope
from pend_storage.legacy._layout import RecordLayout
from pend_storage.schema import Schema

__all__ = ["FolderLayout"]

_FRAME = FileEnvelope(MAP, b"{\n", b"\n}", b",\n", nothing=b"{}")
"""Envelope of a folder as a store reads it: one object, a member for each file."""


class FolderLayout(RecordLayout):
    """Layout of one file for each record: the file name is the key, and the order."""

    is_folder = True

    @override
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        parsed = super().parse(schema, raw)
        found = FileEnvelope.of(parsed.header)
        if found.shape != MAP:
            return parsed
        header = replace(_FRAME, unit=found.unit).header(self.file)
        return replace(parsed, header=header)

    @override
    def missing(self) -> LegacyFile:
        return _FRAME.header(self.file)

    @override
    def order(self, record: Any, version: int) -> tuple[Any, ...]:
        return (str(self.member_name(record)), version)

    @override
    def rank(self, record: Any) -> int | None:
        """Return None: files have no positions, so that a new one moves no others."""
        return None

    @override
    def placed(self, record: Any, position: int) -> Any:
        return record

    @override
    def position(self, record: Any) -> int | None:
        return record.position if isinstance(record, QuarantinedRecord) else None
