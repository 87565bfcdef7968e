"""Serialization of whole files: a file's records as one JSON value, and back.

A write takes the same path as an edit of the file by another program: the value is
rendered as the text of the file, parsed, and compared with the stored records. So a value
may contain anything that a file may, and only differences are written. The commit checks
the versions of all that was read for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pend_storage._layouts.broken_files import broken_record, is_whole_file
from pend_storage._layouts.crowded_files import read_bounded
from pend_storage._layouts.duplicate_members import Text, hidden, is_beside, text_of
from pend_storage._layouts.layout import Entry, Layout, ParsedFile
from pend_storage._layouts.removal import Removal
from pend_storage._layouts.unread_files import resting_on
from pend_storage._model.diff import ABSENT
from pend_storage._model.records import (
    Batch,
    Delete,
    LegacyFile,
    Put,
    QuarantinedRecord,
    Row,
)
from pend_storage._unit_of_work import Place
from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.events import Event
from pend_storage.query import Query, make_query
from pend_storage.query import field as by_field
from pend_storage.schema import LEGACY_FILES, QUARANTINE, CollectionSpec, Schema

__all__ = ["FileState", "RecordStore", "WritePlan", "plan_write", "read_state"]

_ATTEMPTS: Final = 5
"""Attempts to read header, records and quarantine without a write in between."""
_MOST_KEYS: Final = 500
"""Keys of one read."""


class RecordStore(Protocol):
    """The verbs of a store by which files are read and written."""

    schema: Schema
    layouts: tuple[Layout, ...]

    def read(
        self, collection: str, keys: Iterable[str], /, *, deleted: bool = False
    ) -> dict[str, Row]:
        """See :meth:`pend_storage.store.Store.read`."""

    def query(self, collection: str, query: Query, /) -> list[Row]:
        """See :meth:`pend_storage.store.Store.query`."""

    def commit(self, batch: Batch, /) -> tuple[int, ...]:
        """See :meth:`pend_storage.store.Store.commit`."""


@dataclass(frozen=True, slots=True)
class FileState:
    """State of a file in a store at one moment."""

    layout: Layout
    header: LegacyFile
    """Format of the file, and its members beside the records."""
    version: int
    """Version of the stored header; 0: none is stored."""
    rows: Mapping[Place, Row]
    """Placed and quarantined records, by collection and key."""
    standing: tuple[Any, ...]
    """Records that the file shows, in order."""
    value: Any
    """Exact content; ``ABSENT`` if the file does not exist. Never changed."""
    broken: QuarantinedRecord | None = None
    """The quarantined bytes of a file that is broken as a whole."""

    @property
    def present(self) -> list[Any]:
        """Records with which an edit of the file is compared."""
        rows = (row.record for row in self.rows.values())
        return [*self.standing, *(record for record in rows if is_beside(record))]


# -- out of the store -------------------------------------------------------------------


def read_state(store: RecordStore, layout: Layout) -> FileState:
    """Read the present state of a file.

    Raises:
        CorruptFile: the file was never readable.
    """
    where = make_query(store.schema[layout.collection], layout.where)
    surroundings, found = _read_surroundings(store, layout), []
    for left in reversed(range(_ATTEMPTS)):
        with resting_on(layout.file):
            found = store.query(layout.collection, where)
        # Three reads are no snapshot: read again until the header stands still around them.
        before, surroundings = surroundings, _read_surroundings(store, layout)
        if before == surroundings or not left:
            break
    return _state(layout, *surroundings, found)


def _read_surroundings(
    store: RecordStore, layout: Layout
) -> tuple[Row | None, list[Row]]:
    """Read the header of a file and its quarantined records."""
    header = store.read(LEGACY_FILES, (layout.file,)).get(layout.file)
    here = make_query(store.schema[QUARANTINE], (by_field("file") == layout.file,))
    return header, store.query(QUARANTINE, here)


def _state(
    layout: Layout,
    stored: Row | None,
    aside: Sequence[Row],
    found: Sequence[Row],
) -> FileState:
    rows = {
        (layout.collection, row.key): row for row in found if layout.owns(row.record)
    }
    rows |= {(QUARANTINE, row.key): row for row in aside}
    header, broken = layout.missing(), None
    if stored is not None:
        broken = broken_record(stored.record, (row.record for row in aside))
        if broken is None and layout.knows(stored.record):
            header = stored.record
    standing = tuple(_standing(layout, rows))
    value = ABSENT
    if stored is not None or standing:
        value = layout.content(header, standing)
    version = 0 if stored is None else stored.version
    return FileState(layout, header, version, rows, standing, value, broken)


def _standing(layout: Layout, rows: Mapping[Place, Row]) -> Iterator[Any]:
    """Yield the records that the file shows, in order."""
    there = {
        place: row
        for place, row in rows.items()
        if place[0] != QUARANTINE or row.record.position is not None
    }
    gone = _hidden(layout, there)
    order = {p: layout.order(r.record, r.version) for p, r in there.items()}
    for place in sorted(order, key=order.__getitem__):
        if place not in gone:
            yield there[place].record


def _hidden(layout: Layout, rows: Mapping[Place, Row]) -> set[Place]:
    """Return quarantined texts that the file omits: another record has the member name."""
    aside = list(_texts(layout, rows, quarantined=True))
    if not aside:
        return set()
    names = {text.name for text in aside}
    placed = _texts(layout, rows, quarantined=False)
    return hidden([*aside, *(text for text in placed if text.name in names)])


def _texts(
    layout: Layout, rows: Mapping[Place, Row], *, quarantined: bool
) -> Iterator[Text]:
    for place, row in rows.items():
        if (place[0] == QUARANTINE) is quarantined:
            text = text_of(layout, row.record, row.version, place)
            if text is not None:
                yield text


# -- into the store -----------------------------------------------------------------------


@dataclass(slots=True)
class WritePlan:
    """Operations and checks that make a file of a store equal to a value."""

    state: FileState
    header: LegacyFile
    wanted: dict[Place, Put | Delete]
    reads: dict[Place, int]
    """Expected versions, by collection and key; 0: absent."""
    aside: list[QuarantinedRecord] = field(default_factory=list)
    """Newly quarantined records."""
    event: Event | None = None
    """Report of removed records and their referrers, for operators."""


class _CheckedLookups:
    """Cached lookups in a store, with the versions that the commit has to check."""

    def __init__(
        self,
        store: RecordStore,
        state: FileState,
        pending: Mapping[Place, Put | Delete],
    ) -> None:
        self._store = store
        self._pending = pending
        self._own: Final = state.rows
        self._layout = state.layout
        self._rows: dict[Place, Row | None] = dict(state.rows)
        self.reads: dict[Place, int] = {}

    def fetch(self, places: Iterable[Place]) -> None:
        """Read many records at once into the cache."""
        unknown: dict[str, dict[str, None]] = {}
        for collection, key in places:
            if (collection, key) not in self._rows:
                unknown.setdefault(collection, {})[key] = None
        for collection, keys in unknown.items():
            for some in _chunks(list(keys), _MOST_KEYS):
                rows = self._read(collection, some)
                self._rows |= {(collection, key): rows.get(key) for key in some}

    def add_check(self, place: Place) -> None:
        """Add a fetched key to the checks of the commit."""
        row = self._rows[place]
        self.reads[place] = 0 if row is None else row.version

    def _read(self, collection: str, keys: Sequence[str]) -> dict[str, Row]:
        if collection != self._layout.collection:
            return self._store.read(collection, keys)
        with resting_on(self._layout.file):
            return self._store.read(collection, keys)

    def referrers(self, spec: CollectionSpec, name: str, key: str) -> Iterator[Any]:
        """Yield the records that refer to a key; the commit checks them."""
        where = make_query(spec, (by_field(name) == key,))
        for row in self._store.query(spec.name, where):
            record = self._known(spec.name, row)
            if record is not None:
                yield record

    def records(self, layout: Layout) -> Iterator[Any]:
        """Yield the placed records of a file; the commit checks them."""
        where = make_query(self._store.schema[layout.collection], layout.where)
        for row in self._store.query(layout.collection, where):
            record = self._known(layout.collection, row)
            if record is not None:
                yield record

    def _known(self, collection: str, row: Row) -> Any:
        self._rows.setdefault((collection, row.key), row)
        return self.find(collection, row.key)

    def was_deleted(self, collection: str, key: str) -> bool:
        """Return whether the key has a tombstone; the commit does not check it."""
        found = self._store.read(collection, (key,), deleted=True).get(key)
        return found is not None and found.record is None

    def find(self, collection: str, key: str) -> Any:
        """Return the record, or None; the commit checks either answer.

        Records of the file itself are not checked here, but only where they are written:
        writers of different records of one file do not conflict.
        """
        place = (collection, key)
        self.fetch((place,))
        row = self._rows[place]
        if place not in self._own:
            self.add_check(place)
        operation = self._pending.get(place)
        if operation is not None:
            return operation.record if isinstance(operation, Put) else None
        return None if row is None else row.record


def plan_write(
    store: RecordStore,
    state: FileState,
    value: Any,
    pending: Mapping[Place, Put | Delete],
) -> WritePlan:
    """Plan the write of a value as the content of a file.

    Args:
        store: for lookups.
        state: the present state of the file.
        value: the new content; may be built from parts of ``state.value``.
        pending: operations on other files in the same transaction.

    Raises:
        CorruptFile: the file is broken as a whole.
        InvalidRecord: the value has not the shape of this file.
    """
    layout, schema = state.layout, store.schema
    if state.broken is not None:
        broken = state.broken
        raise CorruptFile(broken.reason, path=layout.file, quarantined=broken.id)
    header, text = layout.text_of(state.header, state.standing, value)
    parsed = layout.parse(schema, text)
    parsed = read_bounded(parsed)
    entries = list(parsed.entries)
    _refuse_broken(layout, entries)
    header = parsed.header if header is None else header
    find = _CheckedLookups(store, state, pending)
    find.fetch(_lookup_keys(schema, entries))
    adopted = layout.adopt(
        schema, ParsedFile(header, entries), state.present, find.find
    )
    wanted, event = _complete(store, layout, adopted, find)
    find.fetch(wanted)
    for place in wanted:
        find.add_check(place)
    made = WritePlan(state, header, wanted, find.reads, event=event)
    for place, operation in wanted.items():
        if place[0] != QUARANTINE or place in state.rows:
            continue
        if isinstance(operation, Put) and layout.owns(operation.record):
            made.aside.append(operation.record)
    if not state.version or header != state.header or _is_other_list(made, value):
        place = (LEGACY_FILES, layout.file)
        made.wanted[place] = schema.put(LEGACY_FILES, header)
        made.reads[place] = state.version
    return made


def _is_other_list(made: WritePlan, value: Any) -> bool:
    """Return whether a plan adds items to a list, or removes some.

    Two writers that add items need not conflict by key: each item may get a fresh one.
    So they conflict at the header, which is written again: the second one reads again
    and merges.
    """
    inner = value
    if isinstance(value, dict):
        inner = value.get(str(getattr(made.state.layout, "wrapper", None)))
    return isinstance(inner, list) and any(
        isinstance(operation, Delete) or place not in made.state.rows
        for place, operation in made.wanted.items()
        if place[0] in {made.state.layout.collection, QUARANTINE}
    )


def _refuse_broken(layout: Layout, entries: Sequence[Entry]) -> None:
    for entry in entries:
        record = entry.home.record
        if isinstance(record, QuarantinedRecord) and is_whole_file(record):
            raise InvalidRecord(
                f"{layout.file} cannot be this ({record.reason})",
                collection=layout.collection,
                code=record.code,
            )


def _lookup_keys(schema: Schema, entries: Iterable[Entry]) -> Iterator[Place]:
    """Yield the collections and keys that adoption looks up, to fetch them at once."""
    for entry in entries:
        for put in (entry.home, *entry.derived):
            if put.collection == QUARANTINE:
                continue
            yield put.collection, put.key
            for name, target in schema[put.collection].references.items():
                key = getattr(put.record, name)
                if key is not None:
                    yield target, key


def _complete(
    store: RecordStore,
    layout: Layout,
    adopted: Iterable[Put | Delete],
    find: _CheckedLookups,
) -> tuple[dict[Place, Put | Delete], Event | None]:
    """Add the consequences of records that leave the file to adopted operations."""
    removal = Removal(store.schema, store.layouts, layout, find)
    return removal.settle(adopted), removal.event()


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
