"""Table: the rows of one collection in memory, encoded, and decoded when they are read."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from heapq import nsmallest
from operator import itemgetter
from typing import Any, Final, TypeAlias

from pend_storage._model.records import Row
from pend_storage.query import And, Comparison, Condition, Operator, Or
from pend_storage.schema import CollectionSpec

__all__ = ["Contents", "StoredRow", "Table", "ValueIndex", "index_value"]

Contents: TypeAlias = tuple[dict[str, tuple[int, bytes]], dict[str, int]]
"""Rows and tombstones of a collection."""
StoredRow: TypeAlias = tuple[str, int, bytes | None]
"""Key, version and encoded record (None: a tombstone) as they are in memory."""


_Keys: TypeAlias = set[str] | frozenset[str]
_NO_KEYS: Final[_Keys] = frozenset()


def index_value(record: Any, fields: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Return the values of some fields for an index; None if one of them is null."""
    values = []
    for name in fields:
        value = getattr(record, name)
        if value is None:
            return None
        values.append(value.value if isinstance(value, Enum) else value)
    return tuple(values)


class ValueIndex:
    """Index from the values of some fields to keys. Nulls are not in it."""

    __slots__ = ("_keys", "fields")

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields: tuple[str, ...] = fields
        self._keys: dict[tuple[Any, ...], set[str]] = {}

    def keys(self, value: tuple[Any, ...]) -> _Keys:
        """Return the keys that have this value; the set must not be changed."""
        return self._keys.get(value, _NO_KEYS)

    def add(self, key: str, record: Any) -> None:
        """Add a record."""
        value = index_value(record, self.fields)
        if value is not None:
            self._keys.setdefault(value, set()).add(key)

    def move(self, key: str, old: Any, new: Any) -> None:
        """Replace a record by another; None where there is none."""
        before = None if old is None else index_value(old, self.fields)
        after = None if new is None else index_value(new, self.fields)
        if before == after:
            return
        if before is not None and (keys := self._keys.get(before)) is not None:
            keys.discard(key)
            if not keys:
                del self._keys[before]
        if after is not None:
            self._keys.setdefault(after, set()).add(key)


def _together(spec: CollectionSpec) -> Iterator[tuple[str, ...]]:
    """Yield groups of fields that are indexed together."""
    for index in spec.indexes:
        names = tuple(name for name, _ in index.columns)
        if len(names) > 1 and all(not spec.fields[n].kind.is_json for n in names):
            yield names
    yield from (fields for fields in spec.unique if len(fields) > 1)


def _flat(parts: Iterable[Condition]) -> Iterator[Condition]:
    for part in parts:
        if isinstance(part, And):
            yield from _flat(part.conditions)
        else:
            yield part


_LEFT_FOR_LATER: Final = frozenset({"rows", "tombstones", "_order"})
_TOUCHED: Final = 5_000
"""Keys that were set last, kept so that listings need not be made anew."""


class _KeyOrder:
    """Keys in order; sorted when they are read, and then only those that have changed."""

    __slots__ = ("_added", "_keys", "_removed", "_rows")

    def __init__(self, rows: Mapping[str, object]) -> None:
        self._rows = rows
        self._keys: list[str] | None = None
        self._added: set[str] = set()
        self._removed: set[str] = set()

    def add(self, key: str) -> None:
        """Add a key that is not there."""
        if key in self._removed:
            self._removed.discard(key)
        elif self._keys is not None:
            self._added.add(key)

    def remove(self, key: str) -> None:
        """Remove a key that is there."""
        if key in self._added:
            self._added.discard(key)
        elif self._keys is not None:
            self._removed.add(key)

    def keys(self) -> list[str]:
        """Return all keys in order; the list must not be changed, and never is later."""
        if self._keys is None:
            self._keys = sorted(self._rows)
        elif self._added or self._removed:
            gone = self._removed
            kept = [k for k in self._keys if k not in gone] if gone else self._keys
            self._keys = sorted([*kept, *sorted(self._added)])
            self._added, self._removed = set(), set()
        return self._keys


class Table:
    """Table of one collection: rows, tombstones and indexes.

    Indexes are built when they are first needed, so that opening a store decodes nothing.
    """

    def __init__(self, spec: CollectionSpec) -> None:
        self.spec = spec
        self.rows: dict[str, tuple[int, bytes]] = {}
        self.tombstones: dict[str, int] = {}
        self.changes = 0
        """Grows with every row that is set."""
        self._touched: deque[str] = deque(maxlen=_TOUCHED)
        self._indexes: dict[tuple[str, ...], ValueIndex] = {}
        self._order = _KeyOrder(self.rows)
        self._indexable = {spec.unique[i] for i in range(len(spec.unique))}
        self._indexable |= {(name,) for name in spec.references}
        self._indexable |= {(index.columns[0][0],) for index in spec.indexes}
        self._together = sorted(_together(spec), key=len, reverse=True)
        """Groups of fields that are declared as an index, the longest first."""

    def __len__(self) -> int:
        return len(self.rows)

    def set(self, key: str, version: int, body: bytes | None) -> None:
        """Set a row, or without a body a tombstone."""
        self.changes += 1
        self._touched.append(key)
        old = self.rows.get(key)
        if self._indexes:
            self._enter(key, None if old is None else old[1], body)
        if body is None:
            self.rows.pop(key, None)
            self.tombstones[key] = version
            if old is not None:
                self._order.remove(key)
            return
        self.tombstones.pop(key, None)
        self.rows[key] = (version, body)
        if old is None:
            self._order.add(key)

    def forget(self, key: str) -> None:
        """Remove the tombstone of a key, if there is one."""
        self.tombstones.pop(key, None)

    def forget_indexes(self) -> None:
        """Drop the indexes; each is built anew when it is needed."""
        self._indexes.clear()

    def _enter(self, key: str, old: bytes | None, new: bytes | None) -> None:
        before = None if old is None else self.spec.codec.decode(old)
        after = None if new is None else self.spec.codec.decode(new)
        for index in self._indexes.values():
            index.move(key, before, after)

    def load(
        self, rows: dict[str, tuple[int, bytes]], tombstones: dict[str, int]
    ) -> None:
        """Replace all rows and tombstones, without decoding them."""
        self.rows, self.tombstones = rows, tombstones
        self._indexes.clear()
        self._order = _KeyOrder(rows)

    def load_later(self, make: Callable[[], Contents]) -> None:
        """Replace all rows and tombstones when they are first read."""
        del self.rows, self.tombstones, self._order
        self._make: Callable[[], Contents] = make

    def __getattr__(self, name: str) -> Any:
        """Load the content that was deferred; called only for missing attributes."""
        make = self.__dict__.get("_make") if name in _LEFT_FOR_LATER else None
        if make is not None:
            self.load(*make())
            self.__dict__.pop("_make", None)  # frees the snapshot that it refers to
        if name not in self.__dict__:
            raise AttributeError(name)
        return self.__dict__[name]

    def touched(self, since: int) -> frozenset[str] | None:
        """Return the keys that were set since a value of ``changes``; None: not known."""
        count = self.changes - since
        if count > len(self._touched):
            return None
        return frozenset(itertools.islice(reversed(self._touched), count))

    def version(self, key: str) -> int:
        """Return the version of a row or a tombstone; 0 where there is neither."""
        row = self.rows.get(key)
        return row[0] if row is not None else self.tombstones.get(key, 0)

    def row(self, key: str, *, deleted: bool = False) -> Row | None:
        """Return the decoded row under a key, or None."""
        row = self.rows.get(key)
        if row is not None:
            return Row(key, row[0], self.spec.codec.decode(row[1]))
        if deleted and key in self.tombstones:
            return Row(key, self.tombstones[key], None)
        return None

    def index(self, fields: tuple[str, ...]) -> ValueIndex:
        """Return the index over these fields; it is built if it is not there yet."""
        # Built at the first query that needs it, and kept up to date by set() from then on.
        index = self._indexes.get(fields)
        if index is None:
            index = ValueIndex(fields)
            for key, (_, body) in self.rows.items():
                index.add(key, self.spec.codec.decode(body))
            self._indexes[fields] = index
        return index

    def candidates(self, where: Condition) -> list[StoredRow]:
        """Return a superset of the rows that meet a condition, as they are now."""
        keys = self._narrowed(where)
        if keys is None:
            return [(key, row[0], row[1]) for key, row in self.rows.items()]
        return self._stored(keys)

    def after(self, key: str | None, limit: int | None) -> list[StoredRow]:
        """Return the rows in key order, beginning after a key, at most ``limit``."""
        order = self._order.keys()
        start = 0 if key is None else bisect_right(order, key)
        return self._stored(order[start : None if limit is None else start + limit])

    def _stored(self, keys: Iterable[str]) -> list[StoredRow]:
        found = ((key, self.rows.get(key)) for key in keys)
        return [(key, row[0], row[1]) for key, row in found if row is not None]

    def decoded(self, rows: Iterable[StoredRow]) -> Iterator[Row]:
        """Decode rows; it needs no lock, because rows never change."""
        decode = self.spec.codec.decode
        for key, version, body in rows:
            yield Row(key, version, None if body is None else decode(body))

    def _narrowed(self, where: Condition) -> _Keys | None:
        """Return the keys that indexed equalities leave; None where no index helps."""
        match where:
            case Or(parts):
                return self._narrowed_either(parts)
            case And(parts):
                return self._narrowed_together(parts)
            case Comparison((name,), Operator.EQ, value):
                if name == self.spec.key:
                    return {value}
                if (name,) in self._indexable:
                    return self.index((name,)).keys((value,))
            case Comparison((name,), Operator.IN, values):
                if (name,) in self._indexable:
                    index = self.index((name,))
                    return {key for v in values for key in index.keys((v,))}
            case _:
                pass
        return None

    def _narrowed_either(self, parts: Iterable[Condition]) -> _Keys | None:
        """Return the keys that a disjunction leaves; None where one part has no index."""
        found: set[str] = set()
        for part in parts:
            keys = self._narrowed(part)
            if keys is None:
                return None
            found |= keys
        return found

    def _narrowed_together(self, parts: Iterable[Condition]) -> _Keys | None:
        """Return the keys that a conjunction leaves, by one index where it has all fields."""
        # The longest declared group of fields wins: it leaves the fewest keys.
        values = {
            part.path[0]: part.value
            for part in _flat(parts)
            if isinstance(part, Comparison)
            and part.operator is Operator.EQ
            and len(part.path) == 1
        }
        for fields in self._together if len(values) > 1 else ():
            if all(name in values for name in fields):
                return self.index(fields).keys(tuple(values[name] for name in fields))
        found = [k for part in parts if (k := self._narrowed(part)) is not None]
        return min(found, key=len).intersection(*found) if found else None

    def page(self, after: str | None, *, deleted: bool, size: int) -> list[StoredRow]:
        """Return the next rows in key order after a key, at most ``size``."""
        found = self.after(after, size)
        if not deleted or not self.tombstones:
            return found
        graves = nsmallest(size, (k for k in self.tombstones if k > (after or "")))
        found += [(key, self.tombstones[key], None) for key in graves]
        return sorted(found, key=itemgetter(0))[:size]
