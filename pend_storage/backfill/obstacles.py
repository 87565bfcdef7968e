"""Applying rows in pieces, where uniqueness and references hold only for the whole.

Two users who swap their phone numbers end up in different chunks, and the first chunk
alone would break the target's constraints. Then the source's present rows of whatever
stands in the way are applied together with the chunk, a little earlier than their turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, Final

from pend_storage._records import Advance, ChangedRecord
from pend_storage.errors import InvalidRecord, ReferenceViolation, UniqueViolation
from pend_storage.query import field, make_query
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store

__all__ = ["apply_rows"]

_Place = tuple[str, str]
_REFUSALS: Final = (UniqueViolation, ReferenceViolation, InvalidRecord)
"""What a target that judges uniqueness and references may raise."""


def apply_rows(
    source: Store,
    target: Store,
    records: Sequence[ChangedRecord],
    *,
    epoch: int | None,
    mark: Advance | None,
) -> int:
    """Apply rows of the source to the target; gives how many of them were written.

    Raises:
        UniqueViolation: the target has a value that the source does not know of.
        ReferenceViolation: the source itself refers to what it does not have.
        InvalidRecord: likewise, where the target does not tell which of the two.
    """
    try:
        return target.apply(records, epoch=epoch, mark=mark)
    except _REFUSALS as error:
        before = _versions(target, records)
        refusal: Exception = error
    together = {(r.collection, r.key): r for r in records}
    while news := _news(source, target, together):
        together.update(news)
        try:
            target.apply(list(together.values()), epoch=epoch, mark=mark)
        except _REFUSALS as error:
            refusal = error
        else:
            # What was added gets counted when its turn comes.
            return sum(
                r.version > before.get((r.collection, r.key), 0) for r in records
            )
    raise refusal


def _news(
    source: Store, target: Store, together: dict[_Place, ChangedRecord]
) -> dict[_Place, ChangedRecord]:
    """The source's rows of what stands in the way; without those that are there as is."""
    wanted = set(_obstacles(source, target, together)) - together.keys()
    found: dict[_Place, ChangedRecord] = {}
    for name in {collection for collection, _ in wanted}:
        keys = [key for collection, key in wanted if collection == name]
        for row in source.read(name, keys, deleted=True).values():
            found[name, row.key] = ChangedRecord(name, row.key, row.version, row.record)
    return found


def _obstacles(
    source: Store, target: Store, together: dict[_Place, ChangedRecord]
) -> Iterator[_Place]:
    """Holders of unique values, missing targets of references, leftover referrers."""
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
        graves = [item.key for item in mine if item.record is None]
        for referrer, reference in source.schema.referrers(name):
            for row in _rows_with(target, referrer, reference, graves):
                yield referrer.name, row.key


def _holders(
    target: Store, spec: CollectionSpec, fields: tuple[str, ...], records: list[Any]
) -> Iterator[_Place]:
    """Which rows of the target have the same values together as one of the records."""
    claimed = {_values(record, fields) for record in records}
    # By the field that tells most of them apart.
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
