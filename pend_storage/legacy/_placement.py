"""Placement of records in a legacy file: member names, positions, and their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from typing_extensions import override

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.duplicate_members import is_superseded
from pend_storage._layouts.layout import Layout
from pend_storage._model.conditions import Condition
from pend_storage._model.records import LegacyFile, Put, QuarantinedRecord
from pend_storage._transaction import Transaction
from pend_storage.legacy import _quarantine as quarantine
from pend_storage.legacy._exact_json import as_plain
from pend_storage.legacy._file_division import FileShapes
from pend_storage.legacy._file_envelope import JSON_LINES, NAMED, FileEnvelope
from pend_storage.legacy._mapping import RecordMapping
from pend_storage.legacy._record_reader import newest
from pend_storage.schema import LEGACY_FILES, Schema
from pend_storage.store import Store

__all__ = ["RecordPlacement", "envelope_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MANY: Final = 1 << 64
"""More than any version."""


class RecordPlacement(Layout):
    """The place of each record in the file of one layout.

    What reads and writes the records of a file needs no more of its layout: how a file is
    divided, adopted and shown live is up to :class:`~pend_storage.legacy.RecordLayout`.

    Attributes:
        mapping: what the records become.
        shapes: what the file may be, the usual one first: some of ``LIST``, ``MAP``,
            ``WRAPPED``, ``WRAPPED_MAP``, ``OBJECT`` and ``SCALAR``, or ``JSON_LINES``
            alone. Where there is no record yet, any.
        wrapper: the member that holds the records of a wrapped file.
        newest_first: the file grows at the front.
        blank_is_empty: a file of 0 bytes, or of white space, has no records. Else it is
            broken as a whole, as it is for every JSON parser.
    """

    def __init__(
        self,
        file: str,
        mapping: RecordMapping,
        *,
        shapes: tuple[str, ...],
        wrapper: str | None = None,
        newest_first: bool = False,
        blank_is_empty: bool = False,
    ) -> None:
        self.file = file
        self.collection: str = mapping.collection
        self.key_member: str | None = getattr(mapping, "inside", None)
        self.mapping: Final = mapping
        self.shapes: Final = shapes
        self.wrapper: Final = wrapper
        self.newest_first: Final = newest_first
        self.blank_is_empty: Final = blank_is_empty
        self._shapes: Final = FileShapes(shapes, wrapper, blank_is_empty)
        if JSON_LINES in shapes:
            self.is_one_text = False
        self._named: Final = not NAMED.isdisjoint(shapes)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.file!r})"

    @property
    @override
    def where(self) -> tuple[Condition, ...]:
        return self.mapping.where

    @override
    def missing(self) -> LegacyFile:
        return self._shapes.usual.header(self.file)

    @override
    def set_aside(
        self, schema: Schema, header: LegacyFile, record: Any, reason: str
    ) -> Put:
        position = self.position(record)
        rank = self.rank(record)  # where it stands, though no file has said so
        aside = quarantine.make(
            self.file,
            self.place(record),
            self.render_one(header, record),
            position=newest() if rank is None else rank,
            # Apart from those that reading the file has put aside.
            occurrence=-1 if position is None else -2 - position,
            code="value-taken",
            reason=reason,
        )
        return quarantine.kept(schema, aside)

    @override
    def owns(self, record: Any) -> bool:
        if isinstance(record, QuarantinedRecord):
            return record.file == self.file
        return self.mapping.owns(record)

    @override
    def member_name(self, record: Any) -> str | None:
        if not self._named:
            return None
        if not isinstance(record, QuarantinedRecord):
            return self.mapping.name(record)
        return None if record.position is None else quarantine.name_of(record)

    @override
    def order(self, record: Any, version: int) -> tuple[Any, ...]:
        sign = -1 if self.newest_first else 1
        if isinstance(record, QuarantinedRecord) and is_whole_file(record):
            return (-2, 0, -version)
        rank = self.rank(record)
        if rank is not None and is_superseded(record):  # in front of what counts
            return (0, sign * rank, -_MANY)
        if rank is None:  # the newest of all, as far as anybody can tell
            return (sign, 0, sign * version)
        return (0, sign * rank, sign * version)

    @override
    def rank(self, record: Any) -> int | None:
        """The position, else the microsecond of its making.

        That is later than any position that a file gives. None where nothing is known.
        """
        position = self.position(record)
        if position is not None or isinstance(record, QuarantinedRecord):
            return position
        born = self.mapping.born(record)
        return None if born is None else (born - _EPOCH) // _MICROSECOND

    @override
    def placed(self, record: Any, position: int) -> Any:
        if isinstance(record, QuarantinedRecord):
            return replace(record, position=position)
        return replace(record, legacy_position=position)

    @override
    def position(self, record: Any) -> int | None:
        if isinstance(record, QuarantinedRecord):
            return record.position
        position: int | None = record.legacy_position
        return position

    @override
    def place(self, record: Any) -> str:
        if isinstance(record, QuarantinedRecord):
            return record.place
        if self.shapes[0] in NAMED:
            return self.mapping.name(record)
        return str(self.position(record))

    @override
    def merged(self, present: Any, read: Any) -> Any:
        return self.mapping.merge(present, read)

    @override
    def render_one(self, header: LegacyFile, record: Any) -> bytes:
        if isinstance(record, QuarantinedRecord):
            return record.raw
        envelope = FileEnvelope.of(header)
        name = self.mapping.name(record) if envelope.shape in NAMED else None
        return envelope.text(self.mapping.write(record), name)

    @override
    def assemble(self, header: LegacyFile, texts: Iterable[bytes]) -> Iterator[bytes]:
        return FileEnvelope.of(header).whole(texts)

    @override
    def shown(self, record: Any) -> tuple[str | None, Any]:
        if isinstance(record, QuarantinedRecord):
            name = quarantine.name_of(record)
            return record.place if name is None else name, quarantine.value(record)
        name = self.mapping.name(record) if self._named else None
        return name, as_plain(self.mapping.write(record))


def envelope_of(layout: RecordPlacement, reads: Store | Transaction) -> FileEnvelope:
    """How a store knows a file to be written; the usual way where it does not."""
    found = reads.collection(LEGACY_FILES).get(layout.file)
    return FileEnvelope.of(layout.missing() if found is None else found)
