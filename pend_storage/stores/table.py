"""The rows of one collection in memory: encoded, decoded when looked at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from pend_storage.query import And, Comparison, Condition, Operator
from pend_storage.records import Row
from pend_storage.schema import CollectionSpec

__all__ = ["Table", "ValueIndex", "index_value"]


def index_value(record: Any, fields: tuple[str, ...]) -> tuple[Any, ...] | None:
    """The values of some fields as an index knows them; None if one of them is null."""
    values = []
    for name in fields:
        value = getattr(record, name)
        if value is None:
            return None
        values.append(value.value if isinstance(value, Enum) else value)
    return tuple(values)


class ValueIndex:
    """Which keys have which values in some fields. Nulls are not in it."""

    __slots__ = ("_keys", "fields")

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._keys: dict[tuple[Any, ...], set[str]] = {}

    def keys(self, value: tuple[Any, ...]) -> Iterable[str]:
        """The keys that have this value."""
        return self._keys.get(value, ())

    def add(self, key: str, record: Any) -> None:
        """Enter a record."""
        value = index_value(record, self.fields)
        if value is not None:
            self._keys.setdefault(value, set()).add(key)

    def remove(self, key: str, record: Any) -> None:
        """Take a record out."""
        value = index_value(record, self.fields)
        if value is not None and (keys := self._keys.get(value)) is not None:
            keys.discard(key)
            if not keys:
                del self._keys[value]


class Table:
    """Rows and tombstones of one collection.

    Indexes are built when they are first needed, so that opening a store decodes nothing.
    """

    def __init__(self, spec: CollectionSpec) -> None:
        self.spec = spec
        self.rows: dict[str, tuple[int, bytes]] = {}
        self.tombstones: dict[str, int] = {}
        self._indexes: dict[tuple[str, ...], ValueIndex] = {}
        self._order: list[str] = []
        self._unsorted = False
        self._indexable = {spec.unique[i] for i in range(len(spec.unique))}
        self._indexable |= {(name,) for name in spec.references}
        self._indexable |= {(index.columns[0][0],) for index in spec.indexes}

    def __len__(self) -> int:
        return len(self.rows)

    def set(self, key: str, version: int, body: bytes | None) -> None:
        """Put a row, or with no body a tombstone, in the place of what was there."""
        old = self.rows.get(key)
        for index in self._indexes.values():
            if old is not None:
                index.remove(key, self.spec.codec.decode(old[1]))
            if body is not None:
                index.add(key, self.spec.codec.decode(body))
        if body is None:
            self.rows.pop(key, None)
            self.tombstones[key] = version
            self._unsorted = self._unsorted or old is not None
            return
        self.tombstones.pop(key, None)
        self.rows[key] = (version, body)
        if old is None and not self._unsorted:
            if self._order and key > self._order[-1]:
                self._order.append(key)  # keys that grow keep their order for free
            else:
                self._unsorted = True

    def load(
        self, rows: dict[str, tuple[int, bytes]], tombstones: dict[str, int]
    ) -> None:
        """Take over a whole content, without looking into it."""
        self.rows, self.tombstones = rows, tombstones
        self._indexes.clear()
        self._unsorted = True

    def version(self, key: str) -> int:
        """The version of a row or a tombstone; 0 where there is neither."""
        row = self.rows.get(key)
        return row[0] if row is not None else self.tombstones.get(key, 0)

    def row(self, key: str, *, deleted: bool = False) -> Row | None:
        """The decoded row under a key."""
        row = self.rows.get(key)
        if row is not None:
            return Row(key, row[0], self.spec.codec.decode(row[1]))
        if deleted and key in self.tombstones:
            return Row(key, self.tombstones[key], None)
        return None

    def index(self, fields: tuple[str, ...]) -> ValueIndex:
        """The index over these fields, built if it is not there yet."""
        index = self._indexes.get(fields)
        if index is None:
            index = ValueIndex(fields)
            for key, (_, body) in self.rows.items():
                index.add(key, self.spec.codec.decode(body))
            self._indexes[fields] = index
        return index

    def candidates(self, where: Condition) -> Iterator[Row]:
        """Rows among which are all that meet a condition."""
        keys = self._narrowed(where)
        for key in list(self.rows) if keys is None else keys:
            row = self.row(key)
            if row is not None:
                yield row

    def _narrowed(self, where: Condition) -> list[str] | None:
        """The keys that an indexed equality leaves; None where none of them helps."""
        match where:
            case And(parts):
                for part in parts:
                    keys = self._narrowed(part)
                    if keys is not None:
                        return keys
            case Comparison((name,), Operator.EQ, value):
                if name == self.spec.key:
                    return [value]
                if (name,) in self._indexable:
                    return list(self.index((name,)).keys((value,)))
            case Comparison((name,), Operator.IN, values):
                if (name,) in self._indexable:
                    index = self.index((name,))
                    return list({key for v in values for key in index.keys((v,))})
            case _:
                pass
        return None

    def page(self, after: str | None, *, deleted: bool, size: int) -> list[Row]:
        """The next rows in key order after a key, at most ``size``."""
        order = self._sorted_keys()
        start = 0 if after is None else bisect_right(order, after)
        keys = order[start : start + size]
        if deleted:
            graves = sorted(k for k in self.tombstones if after is None or k > after)
            keys = sorted([*keys, *graves[:size]])[:size]
        rows = (self.row(key, deleted=deleted) for key in keys)
        return [row for row in rows if row is not None]

    def _sorted_keys(self) -> list[str]:
        if self._unsorted:
            self._order = sorted(self.rows)
            self._unsorted = False
        return self._order
