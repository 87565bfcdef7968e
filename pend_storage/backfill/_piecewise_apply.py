"""Apply chunks of rows to a target whose constraints hold for the whole source only.

Two users who swap their phone numbers end up in different chunks, and the first chunk
alone would break the target's constraints. Then the source's present rows of the keys
that conflict are applied together with the chunk, ahead of their turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, Final

from pend_storage._model.records import Advance, ChangedRecord
from pend_storage.errors import InvalidRecord, ReferenceViolation, UniqueViolation
from pend_storage.query import field, make_query
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store

__all__ = ["apply_rows"]

_Place = tuple[str, str]
_REFUSALS: Final = (UniqueViolation, ReferenceViolation, InvalidRecord)
"""Raised by a target that enforces uniqueness and references while applying."""


def apply_rows(
    source: Store,
    target: Store,
    records: Sequence[ChangedRecord],
    *,
    epoch: int | None,
    mark: Advance | None,
) -> int:
    """Apply rows of the source to the target.

    Returns:
        How many of them were newer than the target's, and written.

    Raises:
        UniqueViolation: the target holds a value that the source does not have.
        ReferenceViolation: the source itself has a dangling reference.
        InvalidRecord: either of these, where the target cannot tell them apart.
    """
    try:
        return target.apply(records, epoch=epoch, mark=mark)
    except _REFUSALS as error:
        before = _versions(target, records)
        refusal: Exception = error
    together = {(r.collection, r.key): r for r in records}
    while added := _conflicting_rows(source, target, together):
        together.update(added)
        try:
            target.apply(list(together.values()), epoch=epoch, mark=mark)
        except _REFUSALS as error:
            refusal = error
        else:
            # Rows that were applied ahead of their turn are counted at their turn.
            return sum(
                r.version > before.get((r.collection, r.key), 0) for r in records
            )
    raise refusal


def _conflicting_rows(
    source: Store, target: Store, together: dict[_Place, ChangedRecord]
) -> dict[_Place, ChangedRecord]:
    """Read the source's rows of the conflicting keys that are not in the batch yet."""
    wanted = set(_conflicting_keys(source, target, together)) - together.keys()
    found: dict[_Place, ChangedRecord] = {}
    for name in {collection for collection, _ in wanted}:
        keys = [key for collection, key in wanted if collection == name]
        for row in source.read(name, keys, deleted=True).values():
            found[name, row.key] = ChangedRecord(name, row.key, row.version, row.record)
    return found


def _conflicting_keys(
    source: Store, target: Store, together: dict[_Place, ChangedRecord]
) -> Iterator[_Place]:
    """Yield keys that conflict: holders of unique values, missing targets, referrers."""
    for name in {collection for collection, _ in together}:
        spec = source.schema[name]
        mine = [item for place, item in together.items() if place[0] == name]
        records = [item.record for item in mine if item.record is not None]
        for fields in spec.unique:
            yield from _holders(target, spec, fields, records)
        for reference, referred in spec.references.items():
            keys = {getattr(record, reference) for record in records} - {None}
            yield from (
                (referred, key) for key in keys - target.read(referred, keys).keys()
            )
        tombstones = [item.key for item in mine if item.record is None]
        for referrer, reference in source.schema.referrers(name):
            for row in _rows_with(target, referrer, reference, tombstones):
                yield referrer.name, row.key


def _holders(
    target: Store, spec: CollectionSpec, fields: tuple[str, ...], records: list[Any]
) -> Iterator[_Place]:
    """Yield rows of the target with the same unique values as one of the records."""
    claimed = {_values(record, fields) for record in records}
    # One field is queried: the most selective one.
    index = max(
        range(len(fields)), key=lambda i: len({c[i] for c in claimed}), default=0
    )
    values = {claim[index] for claim in claimed} - {None}
    for row in _rows_with(target, spec, fields[index], values):
        if _values(row.record, fields) in claimed:
            yield spec.name, row.key


def _values(record: Any, fields: tuple[str, ...]) -> tuple[Any, ...]:
    values = (getattr(record, name) for name in fields)
    return tuple(v.value if isinstance(v, Enum) else v for v in values)


def _rows_with(
    store: Store, spec: CollectionSpec, name: str, values: Iterable[Any]
) -> Iterator[Any]:
    wanted = list(values)
    if wanted:
        query = make_query(spec, (field(name).in_(wanted),))
        yield from store.query(spec.name, query)


def _versions(store: Store, records: Sequence[ChangedRecord]) -> dict[_Place, int]:
    keys: dict[str, list[str]] = {}
    for record in records:
        keys.setdefault(record.collection, []).append(record.key)
    return {
        (collection, row.key): row.version
        for collection, wanted in keys.items()
        for row in store.read(collection, wanted, deleted=True).values()
    }
