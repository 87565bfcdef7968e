"""Layout of one legacy file: an envelope around records, and a mapping for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from typing_extensions import override

from pend_storage._diagnosis import diagnose
from pend_storage._layouts.broken_files import broken_header, is_whole_file
from pend_storage._layouts.crowded_files import CROWDED, bounded, read_bounded
from pend_storage._layouts.duplicate_members import is_superseded
from pend_storage._layouts.layout import Entry, Find, ParsedFile
from pend_storage._model.records import JSON, Delete, LegacyFile, Put, QuarantinedRecord
from pend_storage._transaction import Transaction
from pend_storage.legacy import _quarantine as quarantine
from pend_storage.legacy._adoption import adopt
from pend_storage.legacy._file_division import DividedFile
from pend_storage.legacy._file_envelope import (
    JSON_LINES,
    NAMED,
    WRAPPED,
    WRAPPERS,
    FileEnvelope,
)
from pend_storage.legacy._mapping import RecordMapping
from pend_storage.legacy._member_names import superseded
from pend_storage.legacy._overruled_members import overruled
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.legacy._record_reader import Piece, RecordReader
from pend_storage.legacy._scan import (
    BrokenFileError,
    Container,
    lines,
    name_at,
    top_level,
)
from pend_storage.legacy._working_copy import content_of, text_of
from pend_storage.legacy.views import view_of
from pend_storage.schema import QUARANTINE, Schema
from pend_storage.store import Store

__all__ = ["RecordLayout"]


class RecordLayout(RecordPlacement):
    """Layout of a file whose records are those of one collection.

    Attributes:
        mapping: between legacy records and those of the collection.
        shapes: allowed shapes, the usual one first: some of ``LIST``, ``MAP``,
            ``WRAPPED``, ``WRAPPED_MAP``, ``OBJECT`` and ``SCALAR``, or ``JSON_LINES``
            alone. Without records, any.
        wrapper: the member that holds the records of a wrapped file.
        newest_first: the file grows at the front.
        blank_is_empty: a file of 0 bytes, or of white space, has no records. Else it is
            broken as a whole, as it is for every JSON parser.
    """

    computed: frozenset[str] = frozenset({"legacy_position", "content_hash"})

    # -- reading ----------------------------------------------------------------------

    @override
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        try:
            envelope, top, records = self._divide(raw)
        except BrokenFileError as error:
            entry = self._broken(schema, raw, error)
            return ParsedFile(broken_header(entry.home.record), (entry,))
        header = envelope.header(self.file)
        entries: list[Iterator[Entry]] = []
        if top is not None and envelope.shape in WRAPPERS:
            entries.append(self._beside(schema, raw, top))
        if records is not None:
            entries.append(self._entries(schema, raw, records))
        every: Iterator[Entry] = itertools.chain(*entries)
        if not self.is_folder:  # each of its files is one of its own
            count = None if records is None else len(records)
            every = bounded(every, count, partial(self._crowded, schema, raw))
        return ParsedFile(header, every)

    def _crowded(self, schema: Schema, raw: bytes, reason: str) -> Entry:
        return self._as_whole(schema, raw, CROWDED, reason)

    def _divide(self, raw: bytes) -> DividedFile:
        """Divide the file into envelope and records; refuse an unstorable envelope."""
        divided = self._shapes.divide(raw)
        if b"\x00" in divided.envelope.before + divided.envelope.after:
            raise BrokenFileError("unstorable", "a NUL stands beside the records")
        return divided

    def _broken(self, schema: Schema, raw: bytes, error: BrokenFileError) -> Entry:
        half_written = error.code == "half-written"
        found = diagnose(raw, half_written=half_written)
        reason = error.reason if found is None else f"{error.reason}: {found}"
        return self._as_whole(schema, raw, error.code, reason)

    def _as_whole(self, schema: Schema, raw: bytes, code: str, reason: str) -> Entry:
        """Quarantine all bytes of the file as one record."""
        record = quarantine.make(
            self.file, "", raw, position=None, occurrence=0, code=code, reason=reason
        )
        return Entry("", quarantine.put_operation(schema, record), span=(0, len(raw)))

    def _entries(
        self, schema: Schema, raw: bytes, records: Container
    ) -> Iterator[Entry]:
        reader = RecordReader(self.file, self.mapping, schema)
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
        """Yield superseded members beside the records; their text is in the envelope."""
        reader = RecordReader(self.file, self.mapping, schema)
        for index in sorted(superseded(raw, top)):
            start, end = top.span(index)
            value = top.values[index] - start
            name, text = name_at(raw, start), raw[start:end]
            yield reader.superseded(Piece(name, text, value, index, None))

    @override
    def merged_header(
        self, base: LegacyFile, present: LegacyFile, edited: LegacyFile
    ) -> LegacyFile:
        envelope = FileEnvelope.of(edited)
        mine = FileEnvelope.of(present)
        merged = mine.merged(FileEnvelope.of(base), envelope, str(self.wrapper))
        return edited if merged is envelope else merged.header(self.file)

    @override
    def overruled_members(
        self, base: LegacyFile | None, present: LegacyFile, edited: LegacyFile
    ) -> Mapping[str, JSON]:
        known = None if base is None else FileEnvelope.of(base)
        envelope = FileEnvelope.of(edited)
        return overruled(known, FileEnvelope.of(present), envelope, str(self.wrapper))

    @override
    def with_member(self, header: LegacyFile, name: str, value: JSON) -> LegacyFile:
        envelope = FileEnvelope.of(header)
        if envelope.shape not in WRAPPERS:
            shape = next((s for s in self.shapes if s in WRAPPERS), WRAPPED)
            envelope = FileEnvelope.usual(shape, self.wrapper)
        members = {**envelope.members(), name: value}
        return envelope.with_members(members, str(self.wrapper)).header(self.file)

    @override
    def adopt(
        self, schema: Schema, parsed: ParsedFile, present: Iterable[Any], find: Find
    ) -> Iterator[Put | Delete]:
        return adopt(self, schema, parsed, present, find)

    @override
    def told(self, schema: Schema, record: Any) -> Iterator[Put] | None:
        if type(self.mapping).derive is RecordMapping.derive:
            return None
        reader = RecordReader(self.file, self.mapping, schema)
        return reader.derived(record, self.mapping.write(record))

    @override
    def retry(self, schema: Schema, record: QuarantinedRecord) -> Entry:
        if is_whole_file(record):
            parsed = read_bounded(self.parse(schema, record.raw))
            return next(iter(parsed.entries), Entry("", schema.put(QUARANTINE, record)))
        if is_superseded(record):  # no parser ever read it as a record of the file
            return Entry(record.place, schema.put(QUARANTINE, record))
        for envelope in self._envelopes_of_one(record.raw):
            try:
                top = top_level(envelope)
            except BrokenFileError:
                continue
            if top is not None and len(top) == 1:
                name = None if top.is_list else name_at(envelope, 1)
                reader = RecordReader(self.file, self.mapping, schema)
                position = 0 if record.position is None else record.position
                value = top.values[0] - 1
                return reader.entry(Piece(name, record.raw, value, 0, position))
        return Entry(record.place, schema.put(QUARANTINE, record))

    def _envelopes_of_one(self, raw: bytes) -> Iterator[bytes]:
        if self._named:
            yield b"{%b}" % raw
        if not NAMED.issuperset(self.shapes):
            yield b"[%b]" % raw

    # -- as a whole -----------------------------------------------------------------

    @override
    def knows(self, header: LegacyFile) -> bool:
        return FileEnvelope.of(header).shape in self.shapes

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
    def view(
        self, store: Store, tx: Transaction | None = None, *, strict: bool = False
    ) -> Any:
        return view_of(self, store, tx, strict=strict)
