"""Whole files out of a store and into it: as a value, in their own shape.

What is written goes the way of an edit by somebody else: the value is laid out as the text
of the file, read again, and compared with the records that are there. So a value may say
whatever a file may say, and only what differs is written. What was read for it is checked
by the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pend_storage._layouts.broken_files import broken_record, is_whole_file
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

__all__ = ["FileState", "Home", "Plan", "look", "plan"]

_LOOKS: Final = 5
"""How often a file is read until nothing was written meanwhile."""
_MOST_KEYS: Final = 500
"""Keys that are asked for at a time."""


class Home(Protocol):
    """What is needed of a store."""

    schema: Schema
    layouts: tuple[Layout, ...]

    def read(
        self, collection: str, keys: Iterable[str], /, *, deleted: bool = False
    ) -> dict[str, Row]:
        """As that of a store."""

    def query(self, collection: str, query: Query, /) -> list[Row]:
        """As that of a store."""

    def commit(self, batch: Batch, /) -> tuple[int, ...]:
        """As that of a store."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as a store has it at one moment."""

    layout: Layout
    header: LegacyFile
    """How it is written."""
    version: int
    """Of the stored header; 0: none is stored."""
    rows: Mapping[Place, Row]
    """Its records, and what of it is in quarantine."""
    standing: tuple[Any, ...]
    """Those that stand in it, in order."""
    value: Any
    """What it says, exactly; ``ABSENT`` if it does not exist. Never changed."""
    broken: QuarantinedRecord | None = None
    """What is wrong with the file as a whole."""

    @property
    def present(self) -> list[Any]:
        """What the file is compared with."""
        rows = (row.record for row in self.rows.values())
        return [*self.standing, *(record for record in rows if is_beside(record))]


# -- out of the store -------------------------------------------------------------------


def look(store: Home, layout: Layout) -> FileState:
    """A file as it is now.

    Raises:
        CorruptFile: nothing of it could ever be read.
    """
    where = make_query(store.schema[layout.collection], layout.where)
    around, found = _around(store, layout), []
    for left in reversed(range(_LOOKS)):
        with resting_on(layout.file):
            found = store.query(layout.collection, where)
        before, around = around, _around(store, layout)
        if before == around or not left:
            break
    return _state(layout, *around, found)


def _around(store: Home, layout: Layout) -> tuple[Row | None, list[Row]]:
    """The header of a file, and what of it is in quarantine."""
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
    """The records that stand in the file, in order."""
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
    """Quarantined texts that do not stand in the file because of a namesake."""
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
class Plan:
    """What makes a store say what a value says."""

    state: FileState
    header: LegacyFile
    wanted: dict[Place, Put | Delete]
    reads: dict[Place, int]
    """Versions of what was looked at."""
    aside: list[QuarantinedRecord] = field(default_factory=list)
    """What cannot be placed, and was not there before."""
    event: Event | None = None
    """What an operator should know of records that leave."""


class _Finder:
    """Looks into a store; remembers what was found, and at which version."""

    def __init__(
        self, store: Home, state: FileState, pending: Mapping[Place, Put | Delete]
    ) -> None:
        self._store = store
        self._pending = pending
        self._own: Final = state.rows
        self._layout = state.layout
        self._rows: dict[Place, Row | None] = dict(state.rows)
        self.reads: dict[Place, int] = {}

    def fetch(self, places: Iterable[Place]) -> None:
        """Look for many at once."""
        unknown: dict[str, dict[str, None]] = {}
        for collection, key in places:
            if (collection, key) not in self._rows:
                unknown.setdefault(collection, {})[key] = None
        for collection, keys in unknown.items():
            for some in _parts(list(keys), _MOST_KEYS):
                rows = self._read(collection, some)
                self._rows |= {(collection, key): rows.get(key) for key in some}

    def note(self, place: Place) -> None:
        """Have the commit check a place that was fetched."""
        row = self._rows[place]
        self.reads[place] = 0 if row is None else row.version

    def _read(self, collection: str, keys: Sequence[str]) -> dict[str, Row]:
        if collection != self._layout.collection:
            return self._store.read(collection, keys)
        with resting_on(self._layout.file):
            return self._store.read(collection, keys)

    def referrers(self, spec: CollectionSpec, name: str, key: str) -> Iterator[Any]:
        """See :class:`~pend_storage._layouts.removal.RecordLookups`."""
        where = make_query(spec, (by_field(name) == key,))
        for row in self._store.query(spec.name, where):
            record = self._known(spec.name, row)
            if record is not None:
                yield record

    def records(self, layout: Layout) -> Iterator[Any]:
        """See :class:`~pend_storage._layouts.removal.RecordLookups`."""
        where = make_query(self._store.schema[layout.collection], layout.where)
        for row in self._store.query(layout.collection, where):
            record = self._known(layout.collection, row)
            if record is not None:
                yield record

    def _known(self, collection: str, row: Row) -> Any:
        self._rows.setdefault((collection, row.key), row)
        return self.find(collection, row.key)

    def was_deleted(self, collection: str, key: str) -> bool:
        """See :class:`~pend_storage._layouts.removal.RecordLookups`."""
        found = self._store.read(collection, (key,), deleted=True).get(key)
        return found is not None and found.record is None

    def find(self, collection: str, key: str) -> Any:
        """The record, or None; either answer is checked by the commit.

        Not those of the file itself: only what is written of it must be as it was.
        """
        place = (collection, key)
        self.fetch((place,))
        row = self._rows[place]
        if place not in self._own:
            self.note(place)
        operation = self._pending.get(place)
        if operation is not None:
            return operation.record if isinstance(operation, Put) else None
        return None if row is None else row.record


def plan(
    store: Home,
    state: FileState,
    value: Any,
    pending: Mapping[Place, Put | Delete],
) -> Plan:
    """What must be written so that a file says this.

    Args:
        store: is looked into.
        state: the file as it is.
        value: what it is to say; may be built from parts of ``state.value``.
        pending: what is to be written with it, of other files.

    Raises:
        CorruptFile: the file is broken as a whole.
        InvalidRecord: it cannot be a value of this file.
    """
    layout, schema = state.layout, store.schema
    if state.broken is not None:
        broken = state.broken
        raise CorruptFile(broken.reason, path=layout.file, quarantined=broken.id)
    header, text = layout.text_of(state.header, state.standing, value)
    parsed = layout.parse(schema, text)
    entries = list(parsed.entries)
    _refuse_broken(layout, entries)
    header = parsed.header if header is None else header
    find = _Finder(store, state, pending)
    find.fetch(_needed(schema, entries))
    told = layout.adopt(schema, ParsedFile(header, entries), state.present, find.find)
    wanted, event = _completed(store, layout, told, find)
    find.fetch(wanted)
    for place in wanted:
        find.note(place)
    made = Plan(state, header, wanted, find.reads, event=event)
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


def _is_other_list(made: Plan, value: Any) -> bool:
    """Whether items come to a list, or leave it.

    Keys of items need not tell what two writers both add: a number, for example. So such
    writers meet at the header, which is written again, and the second one looks again.
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


def _needed(schema: Schema, entries: Iterable[Entry]) -> Iterator[Place]:
    """Where adoption will look."""
    for entry in entries:
        for put in (entry.home, *entry.derived):
            if put.collection == QUARANTINE:
                continue
            yield put.collection, put.key
            for name, target in schema[put.collection].references.items():
                key = getattr(put.record, name)
                if key is not None:
                    yield target, key


def _completed(
    store: Home, layout: Layout, told: Iterable[Put | Delete], find: _Finder
) -> tuple[dict[Place, Put | Delete], Event | None]:
    """What adoption gives, and what follows from records that leave the file."""
    removal = Removal(store.schema, store.layouts, layout, find)
    return removal.settle(told), removal.event()


def _parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
