"""Layout of a collection without a legacy file: one record per line.

.. code-block:: text

    {
      "key": {"id": "key", ...},
      ...
    }
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec
from typing_extensions import override

from pend_storage._diagnosis import diagnose
from pend_storage._layouts.broken_files import broken_header, is_whole_file
from pend_storage._layouts.crowded_files import CROWDED, bounded
from pend_storage._layouts.duplicate_members import SUPERSEDED, is_beside, is_superseded
from pend_storage._layouts.layout import Entry, Find, Layout, ParsedFile
from pend_storage._model.records import Delete, LegacyFile, Put, QuarantinedRecord
from pend_storage._model.storable_text import safe_text
from pend_storage._shown import shown
from pend_storage._transaction import Transaction
from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.schema import QUARANTINE, CollectionSpec, Schema
from pend_storage.store import Store
from pend_storage.stores.json._legacy_sync.one_record_per_line.live_object import (
    RecordPerLineObject,
)
from pend_storage.stores.json._legacy_sync.one_record_per_line.members import (
    Member,
    members_of,
    name_of_text,
    text_of_member,
)

__all__ = ["RecordPerLineLayout"]

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UNSEEN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPENING: Final = b"{\n  "
_BETWEEN: Final = b",\n  "
_CLOSING: Final = b"\n}\n"
_NOTHING: Final = "nothing"
"""Header member: the text of the whole file while it has no record."""


class RecordPerLineLayout(Layout):
    """Map a JSON object of records, by key and in the order of the keys, to a collection."""

    def __init__(self, spec: CollectionSpec, file: str) -> None:
        self.file = file
        self.collection = spec.name
        self._spec = spec

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.file!r})"

    # -- reading --------------------------------------------------------------------

    @override
    def parse(self, schema: Schema, raw: bytes) -> ParsedFile:
        try:
            members = iter(self._members_of(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found = diagnose(raw, half_written="truncated" in str(error))
            reason = f"the file is not a JSON object ({error})"
            reason += "" if found is None else f": {found}"
            broken = self._quarantined("", raw, None, "not-json", reason)
            entry = Entry("", schema.put(QUARANTINE, broken))
            return ParsedFile(broken_header(broken), (entry,))
        first = next(members, None)
        if first is None:
            header = LegacyFile(file=self.file, format={_NOTHING: raw.decode()})
            return ParsedFile(header, ())
        members = itertools.chain([first], members)
        entries = self._entries(schema, raw, members)
        crowded = partial(self._crowded, schema, raw)
        return ParsedFile(self.missing(), bounded(entries, None, crowded))

    def _crowded(self, schema: Schema, raw: bytes, reason: str) -> Entry:
        record = self._quarantined("", raw, None, CROWDED, reason)
        return Entry("", schema.put(QUARANTINE, record))

    def _members_of(self, raw: bytes) -> Iterable[Member]:
        """Return the members of the file; by the fast parser if the store has written it.

        Raises:
            msgspec.DecodeError: it is not an object.
            UnicodeDecodeError: it is not text.
            RecursionError: it is nested too deeply.
        """
        try:
            quick = _members(raw)
        except msgspec.DecodeError:
            try:
                return members_of(raw)
            except (ValueError, RecursionError):
                pass
            raise
        if not _is_as_written(raw, quick):
            try:
                return members_of(raw)
            except (ValueError, RecursionError):
                pass  # deeper than this one goes
        return (Member(name, bytes(value)) for name, value in quick.items())

    def _entries(
        self, schema: Schema, raw: bytes, members: Iterable[Member]
    ) -> Iterator[Entry]:
        place: int | None = len(_OPENING)
        for index, (name, value, is_dead) in enumerate(members):
            text = text_of_member(name, value)
            if is_dead:
                reason = "a later member of the file has the same name, and counts"
                dead = self._quarantined(name or '""', text, None, SUPERSEDED, reason)
                yield Entry(name, schema.put(QUARANTINE, dead))
                continue
            span = None
            if place is not None and raw.startswith(text, place):
                span = (place, place + len(text))
                place = span[1] + len(_BETWEEN)
            else:
                place = None  # another program has laid it out
            yield Entry(name, self._home(schema, name, value, index), (), span)

    def _home(self, schema: Schema, name: str, value: bytes, index: int) -> Put:
        try:
            put = schema.put(self.collection, self._spec.codec.decode(value))
            if put.key == name:
                return put
            reason = f"it has the key {shown(put.key)}, but stands under another name"
        except CorruptFile as error:
            reason = error.reason
        except InvalidRecord as error:
            reason = f"{error.field or 'record'}: {error.reason}"
        text = text_of_member(name, value)
        aside = self._quarantined(name, text, index, "bad-value", reason)
        return schema.put(QUARANTINE, aside)

    def _quarantined(
        self, place: str, raw: bytes, position: int | None, code: str, reason: str
    ) -> QuarantinedRecord:
        place = safe_text(place)
        digest = hashlib.sha256(b"%b\n%b" % (place.encode(), raw)).hexdigest()
        return QuarantinedRecord(
            id=f"{self.file}#{digest[:32]}",
            file=self.file,
            place=place,
            position=position,
            raw=raw,
            code=code,
            reason=safe_text(reason),
            seen_at=_UNSEEN,
        )

    @override
    def missing(self) -> LegacyFile:
        return LegacyFile(file=self.file)

    @override
    def adopt(
        self, schema: Schema, parsed: ParsedFile, present: Iterable[Any], find: Find
    ) -> Iterator[Put | Delete]:
        known: set[tuple[str, str]] = set()
        beside: set[tuple[str, str]] = set()
        for record in present:
            (beside if is_beside(record) else known).add(self._place(record))
        for entry in parsed.entries:
            home = entry.home
            place = (home.collection, home.key)
            if place in known:
                known.discard(place)
                if home.collection == QUARANTINE or find(*place) == home.record:
                    continue
            elif place in beside and is_beside(home.record):
                continue
            elif home.collection == QUARANTINE:
                seen = replace(home.record, seen_at=datetime.now(UTC))
                home = schema.put(QUARANTINE, seen)
            yield home
            if home.collection == QUARANTINE and is_whole_file(home.record):
                return
        for collection, key in known:
            yield schema.delete(collection, key)

    def _place(self, record: Any) -> tuple[str, str]:
        if isinstance(record, QuarantinedRecord):
            return QUARANTINE, record.id
        return self.collection, self._spec.key_of(record)

    @override
    def retry(self, schema: Schema, record: QuarantinedRecord) -> Entry:
        if is_superseded(record):  # it never was a record of the file
            return Entry(record.place, schema.put(QUARANTINE, record))
        whole = is_whole_file(record)
        raw = record.raw if whole else b"{%b}" % record.raw
        entry = next(iter(self.parse(schema, raw).entries), None)
        return entry or Entry(record.place, schema.put(QUARANTINE, record))

    @override
    def set_aside(
        self, schema: Schema, header: LegacyFile, record: Any, reason: str
    ) -> Put:
        raw = self.render_one(header, record)
        key = self._spec.key_of(record)
        return schema.put(
            QUARANTINE, self._quarantined(key, raw, 0, "value-taken", reason)
        )

    # -- writing --------------------------------------------------------------------

    @override
    def owns(self, record: Any) -> bool:
        return not isinstance(record, QuarantinedRecord) or record.file == self.file

    @override
    def member_name(self, record: Any) -> str | None:
        if not isinstance(record, QuarantinedRecord):
            return self._spec.key_of(record)
        return None if record.position is None else name_of_text(record.raw)

    @override
    def order(self, record: Any, version: int) -> tuple[Any, ...]:
        if isinstance(record, QuarantinedRecord):
            return (1, record.id)
        return (0, self._spec.key_of(record))

    @override
    def placed(self, record: Any, position: int) -> Any:
        if isinstance(record, QuarantinedRecord):
            return replace(record, position=position)
        return record

    @override
    def position(self, record: Any) -> int | None:
        return record.position if isinstance(record, QuarantinedRecord) else None

    @override
    def place(self, record: Any) -> str:
        if isinstance(record, QuarantinedRecord):
            return record.place
        return self._spec.key_of(record)

    @override
    def render_one(self, header: LegacyFile, record: Any) -> bytes:
        if isinstance(record, QuarantinedRecord):
            return record.raw
        return text_of_member(
            self._spec.key_of(record), self._spec.codec.encode(record)
        )

    @override
    def assemble(self, header: LegacyFile, texts: Iterable[bytes]) -> Iterator[bytes]:
        rest = iter(texts)
        first = next(rest, None)
        if first is None:
            yield str(header.format.get(_NOTHING, "{}\n")).encode()
            return
        yield _OPENING
        yield first
        for text in rest:
            yield _BETWEEN
            yield text
        yield _CLOSING

    @override
    def view(
        self, store: Store, tx: Transaction | None = None, *, strict: bool = False
    ) -> RecordPerLineObject:
        return RecordPerLineObject(self.file, self._spec, store, tx)


def _is_as_written(raw: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Return True if the text has the store's formatting, hence no duplicate names."""
    place = len(_OPENING)
    for name, value in members.items():
        text = text_of_member(name, bytes(value))
        if not raw.startswith(text, place):
            return False
        place += len(text) + len(_BETWEEN)
    return place - len(_BETWEEN) + len(_CLOSING) == len(raw)
