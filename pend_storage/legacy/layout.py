"""The layout of one legacy file: a frame around records, and a mapping for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from typing_extensions import override

from pend_storage._records import JSON, Delete, LegacyFile, Put, QuarantinedRecord
from pend_storage.conditions import Condition
from pend_storage.diagnosis import diagnose
from pend_storage.layout import (
    Entry,
    Find,
    Layout,
    ParsedFile,
    broken_header,
    is_whole_file,
)
from pend_storage.legacy import quarantine
from pend_storage.legacy.adoption import adopt
from pend_storage.legacy.dividing import Divided, Shapes
from pend_storage.legacy.exact import as_plain
from pend_storage.legacy.frame import JSON_LINES, NAMED, WRAPPED, WRAPPERS, Frame
from pend_storage.legacy.mapping import RecordMapping
from pend_storage.legacy.member_names import superseded
from pend_storage.legacy.overruled import overruled
from pend_storage.legacy.reader import Piece, Reader, newest
from pend_storage.legacy.scan import (
    BrokenFileError,
    Container,
    lines,
    name_at,
    top_level,
)
from pend_storage.legacy.views import view_of
from pend_storage.legacy.working_copy import content_of, text_of
from pend_storage.namesakes import is_superseded
from pend_storage.schema import QUARANTINE, Schema
from pend_storage.store import Store
from pend_storage.transaction import Transaction

__all__ = ["RecordLayout"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MANY: Final = 1 << 64
"""More than any version."""


class RecordLayout(Layout):
    """A file whose records become records of one collection.

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

    computed: frozenset[str] = frozenset({"legacy_position", "content_hash"})

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
        self._shapes: Final = Shapes(shapes, wrapper, blank_is_empty)
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

    # -- reading ----------------------------------------------------------------------

    @override
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        try:
            frame, top, records = self._divide(raw)
        except BrokenFileError as error:
            entry = self._broken(schema, raw, error)
            return ParsedFile(broken_header(entry.home.record), (entry,))
        header = frame.header(self.file)
        entries: list[Iterator[Entry]] = []
        if top is not None and frame.shape in WRAPPERS:
            entries.append(self._beside(schema, raw, top))
        if records is not None:
            entries.append(self._entries(schema, raw, records))
        return ParsedFile(header, itertools.chain(*entries))

    def _divide(self, raw: bytes) -> Divided:
        """The frame, the outermost object or list, and that of the records."""
        divided = self._shapes.divide(raw)
        if b"\x00" in divided.frame.before + divided.frame.after:
            raise BrokenFileError("unstorable", "a NUL stands beside the records")
        return divided

    def _broken(self, schema: Schema, raw: bytes, error: BrokenFileError) -> Entry:
        half_written = error.code == "half-written"
        found = diagnose(raw, half_written=half_written)
        reason = error.reason if found is None else f"{error.reason}: {found}"
        record = quarantine.make(
            self.file,
            "",
            raw,
            position=None,
            occurrence=0,
            code=error.code,
            reason=reason,
        )
        return Entry("", quarantine.kept(schema, record), span=(0, len(raw)))

    def _entries(
        self, schema: Schema, raw: bytes, records: Container
    ) -> Iterator[Entry]:
        reader = Reader(self.file, self.mapping, schema)
        dead = superseded(raw, records)
        count = len(records)
        order = range(count - 1, -1, -1) if self.newest_first else range(count)
        for position, index in enumerate(order):
            span = records.span(index)
            value = records.values[index] - span[0]
            name = None if records.is_list else name_at(raw, span[0])
            text = raw[span[0] : span[1]]
            piece = Piece(name, text, value, index, position, span)
            yield reader.superseded(piece) if index in dead else reader.entry(piece)

    def _beside(self, schema: Schema, raw: bytes, top: Container) -> Iterator[Entry]:
        """What is superseded beside the list of records; its text is in the frame."""
        reader = Reader(self.file, self.mapping, schema)
        for index in sorted(superseded(raw, top)):
            start, end = top.span(index)
            value = top.values[index] - start
            name, text = name_at(raw, start), raw[start:end]
            yield reader.superseded(Piece(name, text, value, index, None))

    @override
    def missing(self) -> LegacyFile:
        return self._shapes.usual.header(self.file)

    @override
    def merged_header(
        self, base: LegacyFile, present: LegacyFile, edited: LegacyFile
    ) -> LegacyFile:
        frame = Frame.of(edited)
        mine = Frame.of(present)
        merged = mine.merged(Frame.of(base), frame, str(self.wrapper))
        return edited if merged is frame else merged.header(self.file)

    @override
    def overruled_members(
        self, base: LegacyFile | None, present: LegacyFile, edited: LegacyFile
    ) -> Mapping[str, JSON]:
        known = None if base is None else Frame.of(base)
        frame = Frame.of(edited)
        return overruled(known, Frame.of(present), frame, str(self.wrapper))

    @override
    def with_member(self, header: LegacyFile, name: str, value: JSON) -> LegacyFile:
        frame = Frame.of(header)
        if frame.shape not in WRAPPERS:
            shape = next((s for s in self.shapes if s in WRAPPERS), WRAPPED)
            frame = Frame.usual(shape, self.wrapper)
        members = {**frame.members(), name: value}
        return frame.with_members(members, str(self.wrapper)).header(self.file)

    @override
    def adopt(
        self, schema: Schema, parsed: ParsedFile, present: Iterable[Any], find: Find
    ) -> Iterator[Put | Delete]:
        return adopt(self, schema, parsed, present, find)

    @override
    def told(self, schema: Schema, record: Any) -> Iterator[Put] | None:
        if type(self.mapping).derive is RecordMapping.derive:
            return None
        reader = Reader(self.file, self.mapping, schema)
        return reader.derived(record, self.mapping.write(record))

    @override
    def retry(self, schema: Schema, record: QuarantinedRecord) -> Entry:
        if is_whole_file(record):
            parsed = self.parse(schema, record.raw)
            return next(iter(parsed.entries), Entry("", schema.put(QUARANTINE, record)))
        if is_superseded(record):  # it never was a record of the file
            return Entry(record.place, schema.put(QUARANTINE, record))
        for frame in self._frames_of_one(record.raw):
            try:
                top = top_level(frame)
            except BrokenFileError:
                continue
            if top is not None and len(top) == 1:
                name = None if top.is_list else name_at(frame, 1)
                reader = Reader(self.file, self.mapping, schema)
                position = 0 if record.position is None else record.position
                value = top.values[0] - 1
                return reader.entry(Piece(name, record.raw, value, 0, position))
        return Entry(record.place, schema.put(QUARANTINE, record))

    def _frames_of_one(self, raw: bytes) -> Iterator[bytes]:
        if self._named:
            yield b"{%b}" % raw
        if not NAMED.issuperset(self.shapes):
            yield b"[%b]" % raw

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

    # -- writing ------------------------------------------------------------------

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
        frame = Frame.of(header)
        name = self.mapping.name(record) if frame.shape in NAMED else None
        return frame.text(self.mapping.write(record), name)

    @override
    def assemble(self, header: LegacyFile, texts: Iterable[bytes]) -> Iterator[bytes]:
        return Frame.of(header).whole(texts)

    # -- as a whole -----------------------------------------------------------------

    @override
    def knows(self, header: LegacyFile) -> bool:
        return Frame.of(header).shape in self.shapes

    @override
    def content(self, header: LegacyFile, records: Sequence[Any]) -> Any:
        return content_of(self, header, records)

    @override
    def text_of(
        self, header: LegacyFile, records: Sequence[Any], value: Any
    ) -> tuple[LegacyFile | None, bytes]:
        return text_of(self, header, records, value)

    @override
    def as_json(self, raw: bytes) -> bytes:
        if JSON_LINES not in self.shapes:
            return raw
        found = lines(raw)
        texts = (raw[slice(*found.span(index))] for index in range(len(found)))
        return b"[%b]" % b",".join(texts)

    @override
    def shown(self, record: Any) -> tuple[str | None, Any]:
        if isinstance(record, QuarantinedRecord):
            name = quarantine.name_of(record)
            return record.place if name is None else name, quarantine.value(record)
        name = self.mapping.name(record) if self._named else None
        return name, as_plain(self.mapping.write(record))

    @override
    def view(
        self, store: Store, tx: Transaction | None = None, *, strict: bool = False
    ) -> Any:
        return view_of(self, store, tx, strict=strict)
