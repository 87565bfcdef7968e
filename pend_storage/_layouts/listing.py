"""Listing: an immutable index of the records of one legacy file, in file order. Pure.

Views of a file are counted, iterated and indexed by it. A store that keeps its rows in
memory caches one per file and derives the next from the rows that changed since
(:meth:`Listing.changed`); for any other store it is built from the answers of queries.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

import msgspec

from pend_storage._layouts.duplicate_members import Text, hidden, is_superseded
from pend_storage._layouts.layout import Layout
from pend_storage._model.records import QuarantinedRecord, Row
from pend_storage.codec import check_json
from pend_storage.schema import QUARANTINE

__all__ = [
    "AN_OBJECT",
    "A_LIST",
    "A_TEXT",
    "Listed",
    "Listing",
    "Mark",
    "StoredListed",
    "digest_of",
]

AN_OBJECT: Final = object()
"""Placeholder of an object: it is decoded on access."""
A_LIST: Final = object()
"""Placeholder of a list."""
A_TEXT: Final = object()
"""Placeholder of a long text."""

_ENCODE: Final = msgspec.json.Encoder().encode
_SHORT: Final = 200
"""Characters up to which a text is kept in a listing."""

Mark = tuple[int, int, int]
"""Position of a listing in the store's history: an equal one is up to date."""
StoredListed = tuple[str, int, bytes | None]
"""Key, version and encoded record; None: the record was deleted."""


class Listed:
    """Entry of a listing: one record of a file, decoded only where it has to be."""

    __slots__ = (
        "collection",
        "digest",
        "is_superseded",
        "key",
        "name",
        "order",
        "rank",
        "row",
        "value",
    )

    def __init__(
        self, layout: Layout, collection: str, row: Row, keep: bytes | None
    ) -> None:
        record = row.record
        self.collection: str = collection
        self.key: str = row.key
        self.order: tuple[Any, ...] = (*layout.order(record, row.version), row.key)
        self.rank: int | None = layout.rank(record)
        shown_name, value = layout.shown(record)
        self.name: str | None = shown_name
        self.is_superseded: bool = is_superseded(record)
        self.row: Row | tuple[int, bytes] = row if keep is None else (row.version, keep)
        """The row, or its version and encoded record."""
        self.digest: bytes | None = None if keep is None else _digest(value)
        """Hash for comparing values without decoding; None: decode to compare."""
        self.value: Any = _kept(value)
        """Value in the file, or its placeholder."""

    @property
    def version(self) -> int:
        """Version of the record when it was listed."""
        return self.row.version if isinstance(self.row, Row) else self.row[0]

    def record(self, decode: Callable[[bytes], Any]) -> Any:
        """Return the record, decoded where it has to be."""
        return self.row.record if isinstance(self.row, Row) else decode(self.row[1])

    @property
    def is_aside(self) -> bool:
        """True for a quarantined record."""
        return self.collection == QUARANTINE


def digest_of(value: Any) -> bytes | None:
    """Hash the JSON text of a value; None where it is no JSON.

    Equal digests mean equal values. Values with different digests may be equal, too: 1 and
    1.0, for example.
    """
    digest = _digest(value)
    if digest is None:
        return None
    try:
        check_json(value)  # NaN, which is no JSON, has the text of null
    except (TypeError, ValueError, RecursionError):
        return None
    return digest


def _digest(value: Any) -> bytes | None:
    """Hash a value that is known to be JSON."""
    try:
        return blake2b(_ENCODE(value), digest_size=16).digest()
    except (TypeError, ValueError, RecursionError):
        return None


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return AN_OBJECT
    if isinstance(value, list):
        return A_LIST
    return A_TEXT if isinstance(value, str) and len(value) > _SHORT else value


_ORDER: Final = attrgetter("order")


@dataclass(frozen=True, eq=False)
class Listing:
    """Index of all records of one file, at one moment."""

    layout: Layout
    mark: Mark | None
    items: Sequence[Listed]
    """Records in file order; the file may omit some of the quarantined ones."""
    places: dict[tuple[str, str], Listed]
    """Records by collection and key."""
    asides: int = 0
    """Number of quarantined records."""
    _decode: dict[str, Callable[[bytes], Any]] = field(default_factory=dict)

    @classmethod
    def of_rows(
        cls, layout: Layout, placed: Iterable[Row], aside: Iterable[Row]
    ) -> Listing:
        """Build a listing from the answers of queries."""
        made = [
            Listed(layout, layout.collection, row, None)
            for row in placed
            if layout.owns(row.record)
        ]
        waiting = [
            Listed(layout, QUARANTINE, row, None)
            for row in aside
            if _stands(row.record, layout)
        ]
        items = sorted([*made, *waiting], key=_ORDER)
        places = {(item.collection, item.key): item for item in items}
        return cls(layout, None, items, places, len(waiting))

    @classmethod
    def of_stored(
        cls,
        layout: Layout,
        mark: Mark,
        stored: dict[str, Iterable[StoredListed]],
        decode: dict[str, Callable[[bytes], Any]],
    ) -> Listing:
        """Build a listing from encoded rows, by collection."""
        items = [
            item
            for name, rows in stored.items()
            for row in rows
            if (item := _listed(layout, name, row, decode[name])) is not None
        ]
        items.sort(key=_ORDER)
        places = {(item.collection, item.key): item for item in items}
        asides = sum(item.is_aside for item in items)
        return cls(layout, mark, items, places, asides, decode)

    def changed(self, mark: Mark, stored: dict[str, Iterable[StoredListed]]) -> Listing:
        """Derive the next listing from changed rows.

        Args:
            mark: of the new listing.
            stored: rows that were set or deleted, by collection.
        """
        layout, asides = self.layout, self.asides
        items, places = list(self.items), dict(self.places)
        for name, rows in stored.items():
            for row in rows:
                old = places.pop((name, row[0]), None)
                if old is not None:
                    del items[bisect_left(items, old.order, key=_ORDER)]
                    asides -= old.is_aside
                new = _listed(layout, name, row, self._decode[name])
                if new is not None:
                    insort(items, new, key=_ORDER)
                    places[name, new.key] = new
                    asides += new.is_aside
        return Listing(layout, mark, items, places, asides, self._decode)

    def record(self, item: Listed) -> Any:
        """Return the record of an item."""
        decode = self._decode.get(item.collection)
        if decode is None:
            assert isinstance(item.row, Row)  # noqa: S101 - made from an answer
            return item.row.record
        return item.record(decode)

    def value(self, item: Listed) -> Any:
        """Return the value of an item in the file, as plain data."""
        value = item.value
        if value is AN_OBJECT or value is A_LIST or value is A_TEXT:
            return self.layout.shown(self.record(item))[1]
        return value

    @cached_property
    def standing(self) -> Sequence[Listed]:
        """Items that the file shows, in file order."""
        # In a list quarantined items have no name, though records may have one in another
        # shape of the file.
        aside = {
            id(item): self.layout.member_name(self.record(item))
            for item in self.items
            if item.is_aside
        }
        shared = {name for name in aside.values() if name is not None}
        if not shared:
            return self.items
        texts = (
            Text(name, item.order, not item.is_aside, item.is_superseded, item)
            for item in self.items
            if (name := aside.get(id(item), item.name)) is not None and name in shared
        )
        gone = {id(item) for item in hidden(texts)}
        return [item for item in self.items if id(item) not in gone]

    @cached_property
    def members(self) -> dict[str, Listed]:
        """Items that the file shows, by member name; of equal names the last wins."""
        return {str(item.name): item for item in self.standing}


def _stands(record: QuarantinedRecord, layout: Layout) -> bool:
    return record.position is not None and layout.owns(record)


def _listed(
    layout: Layout, name: str, stored: StoredListed, decode: Callable[[bytes], Any]
) -> Listed | None:
    key, version, body = stored
    if body is None:
        return None
    record = decode(body)
    if not layout.owns(record):
        return None
    if name == QUARANTINE and record.position is None:
        return None
    return Listed(layout, name, Row(key, version, record), body)
