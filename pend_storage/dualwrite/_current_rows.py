"""Current rows of the primary, applied together with a commit that came before its turn.

A later commit may have reached the secondary first, because a caller's own process
replicated it: then a value that an earlier commit takes is in use there already, or a record that it
refers to is gone. However far ahead in the change log that later commit is, the present
rows of the keys concerned fit together in the primary. They are newer than the refused
commit, so applying them with it is what the rest of the log would do, sooner.

Only rows that the primary knows are used. A row of the secondary that the primary never had
stays in the way, until an operator repairs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from pend_storage._model.records import ChangedRecord
from pend_storage.dualwrite._batch_limit import MOST_BYTES, MOST_RECORDS, Load, load_of
from pend_storage.dualwrite._divergence_check import Place
from pend_storage.query import field, make_query
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store

__all__ = ["current_rows"]

T = TypeVar("T")

_AT_ONCE: Final = 100
"""Keys or values in one read of a store."""


def current_rows(
    primary: Store, follower: Store, records: Sequence[ChangedRecord]
) -> tuple[Load, list[Place]]:
    """Read the primary's rows of some keys, and of the keys that conflict in the follower.

    Bounded as any call to the secondary; rows beyond the limit are left out.

    Returns:
        The rows, and the places that are only in the follower.

    Raises:
        StoreUnavailable: a store cannot be reached.
    """
    most = MOST_RECORDS + len(records)
    found: list[ChangedRecord] = []
    unknown: list[Place] = []
    size = 0
    seen: set[Place] = set()
    wanted = {(item.collection, item.key) for item in records}
    # Each row may conflict with further ones of the follower, so follow the conflicts until
    # no new key turns up. Applied together, the rows fit, because they fit in the primary.
    while wanted and len(seen) + len(wanted) <= most and size <= MOST_BYTES:
        seen |= wanted
        rows = list(_rows(primary, wanted))
        size += load_of(primary.schema, rows).bytes
        found += rows
        unknown += wanted - {(row.collection, row.key) for row in rows}
        wanted = set(_conflicting_rows(follower, rows)) - seen
    there = (place for place in sorted(unknown) if _has(follower, place))
    return load_of(primary.schema, found), list(there)


def _has(store: Store, place: Place) -> bool:
    return bool(store.read(place[0], [place[1]]))


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[n : n + _AT_ONCE] for n in range(0, len(items), _AT_ONCE))


def _rows(primary: Store, places: Iterable[Place]) -> Iterator[ChangedRecord]:
    for collection, keys in _by_collection(places):
        for some in _parts(keys):
            rows = primary.read(collection, some, deleted=True)
            for key, row in rows.items():
                yield ChangedRecord(collection, key, row.version, row.record)


def _by_collection(places: Iterable[Place]) -> Iterator[tuple[str, list[str]]]:
    ordered = sorted(places)
    for name in dict.fromkeys(collection for collection, _ in ordered):
        yield name, [key for collection, key in ordered if collection == name]


def _conflicting_rows(
    follower: Store, records: Sequence[ChangedRecord]
) -> Iterator[Place]:
    """Yield rows of the follower that refuse these: by uniqueness, or by references."""
    for name in sorted({item.collection for item in records}):
        spec = follower.schema[name]
        mine = [item for item in records if item.collection == name]
        living = [item.record for item in mine if item.record is not None]
        for fields in spec.unique:
            yield from _holders(follower, spec, fields, living)
        for member, target in spec.references.items():
            yield from _missing(follower, target, _values(member, living))
        gone = [item.key for item in mine if item.record is None]
        for referrer, member in follower.schema.referrers(name):
            yield from _with(follower, referrer, member, gone)


def _holders(
    follower: Store, spec: CollectionSpec, fields: Sequence[str], living: list[Any]
) -> Iterator[Place]:
    if len(fields) == 1:
        yield from _with(follower, spec, fields[0], _values(fields[0], living))
        return
    for record in living:
        values = [getattr(record, name) for name in fields]
        if None not in values:
            where = [field(n) == v for n, v in zip(fields, values, strict=True)]
            for row in follower.query(spec.name, make_query(spec, where, limit=2)):
                yield spec.name, row.key


def _values(member: str, living: list[Any]) -> list[Any]:
    values = (getattr(record, member) for record in living)
    return list(dict.fromkeys(value for value in values if value is not None))


def _with(
    follower: Store, spec: CollectionSpec, member: str, values: Sequence[Any]
) -> Iterator[Place]:
    """Yield rows of the follower that have one of these values."""
    for some in _parts(values):
        where = [field(member).in_(list(some))]
        query = make_query(spec, where, limit=MOST_RECORDS)
        for row in follower.query(spec.name, query):
            yield spec.name, row.key


def _missing(follower: Store, target: str, keys: Sequence[str]) -> Iterator[Place]:
    for some in _parts(keys):
        there = follower.read(target, some)
        yield from ((target, key) for key in some if key not in there)
