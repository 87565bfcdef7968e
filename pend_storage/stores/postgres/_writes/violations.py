"""Violations: finds the record that violates a constraint.

The database names a constraint. A caller needs the record, and the same one that every
other store names: the first that violates a rule, uniqueness before references. Nothing
was written, so it can be looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pend_storage._model.records import ChangedRecord, Delete, Put
from pend_storage.errors import AppendOnly, ReferenceViolation, UniqueViolation
from pend_storage.query import Comparison, Operator, Query, sort_values
from pend_storage.query import SortKey as Field
from pend_storage.schema import AUDIT, CollectionSpec
from pend_storage.store import Store

__all__ = ["as_operations", "raise_violation"]


def as_operations(records: Iterable[ChangedRecord]) -> list[Put | Delete]:
    """Convert another store's changes to operations; bodies are left out."""
    return [
        Delete(r.collection, r.key)
        if r.record is None
        else Put(r.collection, r.key, r.record, b"")
        for r in records
    ]


def raise_violation(store: Store, operations: Sequence[Put | Delete]) -> None:
    """Raise the rule that operations violate; return if none is violated any more.

    Args:
        store: the database.
        operations: of the refused batch, in order.

    Raises:
        AppendOnly: an audit entry is there already.
        UniqueViolation: another record has the same value.
        ReferenceViolation: a reference would have no target.
    """
    _check_appended(store, operations)
    finder = _ViolationFinder(store, operations)
    finder.check_unique()
    finder.check_references()


def _check_appended(store: Store, operations: Sequence[Put | Delete]) -> None:
    """Raise for the first audit entry whose id is taken."""
    added = [o.key for o in operations if isinstance(o, Put) and o.collection == AUDIT]
    there = store.read(AUDIT, added) if added else {}
    for key in added:
        if key in there:
            raise AppendOnly(collection=AUDIT, key=key)


def _values(record: Any, fields: tuple[str, ...]) -> tuple[Any, ...]:
    return sort_values([Field(name) for name in fields], record)


def _claims(spec: CollectionSpec, record: Any) -> list[tuple[Any, ...] | None]:
    """Values of each unique group; None where a null exempts it."""
    found = [_values(record, fields) for fields in spec.unique]
    return [None if None in values else values for values in found]


class _ViolationFinder:
    """Looks up stored records that conflict with operations."""

    def __init__(self, store: Store, operations: Sequence[Put | Delete]) -> None:
        self._store = store
        self._operations = operations
        self._after = {(o.collection, o.key): o for o in operations}
        self._specs = {
            name: store.schema[name] for name in {o.collection for o in operations}
        }

    def _puts(self, name: str) -> Iterator[Put]:
        for operation in self._operations:
            if isinstance(operation, Put) and operation.collection == name:
                yield operation

    # -- uniqueness -------------------------------------------------------------------

    def check_unique(self) -> None:
        """Raise for the first put with a value that another record has."""
        owners = {
            (name, fields): self._owners(spec, fields)
            for name, spec in self._specs.items()
            for fields in spec.unique
        }
        for put in self._operations:
            if not isinstance(put, Put):
                continue
            for fields in self._specs[put.collection].unique:
                values = _values(put.record, fields)
                taken = owners[put.collection, fields]
                if None not in values and taken.setdefault(values, put.key) != put.key:
                    raise UniqueViolation(
                        collection=put.collection, fields=fields, key=put.key
                    )

    def _owners(
        self, spec: CollectionSpec, fields: tuple[str, ...]
    ) -> dict[tuple[Any, ...], str]:
        """Unique values of stored records that keep them after the operations."""
        claimed = {_values(put.record, fields) for put in self._puts(spec.name)}
        claimed = {values for values in claimed if None not in values}
        # Queried by the field with the most distinct values.
        place = max(range(len(fields)), key=lambda i: len({c[i] for c in claimed}))
        rows = self._rows(spec, fields[place], {values[place] for values in claimed})
        return {
            _values(record, fields): key
            for key, record in rows
            if self._keeps(spec, key, record)
        }

    def _keeps(self, spec: CollectionSpec, key: str, record: Any) -> bool:
        """Return whether a stored record has the same unique values afterwards."""
        operation = self._after.get((spec.name, key))
        return operation is None or (
            isinstance(operation, Put)
            and _claims(spec, operation.record) == _claims(spec, record)
        )

    def _rows(
        self, spec: CollectionSpec, field: str, values: Iterable[Any]
    ) -> Iterator[tuple[str, Any]]:
        """Stored records with one of these values."""
        where = Comparison((field,), Operator.IN, tuple(values))
        for row in self._store.query(spec.name, Query(where)) if where.value else ():
            yield row.key, row.record

    # -- references -------------------------------------------------------------------

    def check_references(self) -> None:
        """Raise for the first operation after which a reference has no target."""
        present = self._present()
        referred = self._still_referred()
        for operation in self._operations:
            spec = self._specs[operation.collection]
            if isinstance(operation, Put):
                self._check_targets(spec, operation, present)
            elif (spec.name, operation.key) in referred:
                referrer, field = referred[spec.name, operation.key]
                raise ReferenceViolation(
                    collection=referrer,
                    field=field,
                    target=spec.name,
                    value=operation.key,
                )

    def _check_targets(
        self, spec: CollectionSpec, put: Put, present: set[tuple[str, str]]
    ) -> None:
        for field, target in spec.references.items():
            value = getattr(put.record, field)
            if value is not None and (target, value) not in present:
                raise ReferenceViolation(
                    collection=spec.name, field=field, target=target, value=value
                )

    def _present(self) -> set[tuple[str, str]]:
        """Targets of references that exist afterwards."""
        wanted: dict[str, set[str]] = {}
        for name, spec in self._specs.items():
            for field, target in spec.references.items():
                keys = {getattr(put.record, field) for put in self._puts(name)}
                wanted.setdefault(target, set()).update(keys - {None})
        stored = {
            (target, key)
            for target, keys in wanted.items()
            for key in self._store.read(target, keys)
        }
        written = {p for p, o in self._after.items() if isinstance(o, Put)}
        return (stored - self._after.keys()) | written

    def _still_referred(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Deleted records that are referred to afterwards, and by which field."""
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for name, spec in self._specs.items():
            gone = {
                o.key
                for o in self._operations
                if isinstance(o, Delete) and o.collection == name
            }
            there = self._store.read(name, gone) if gone else {}
            for referrer, field in self._store.schema.referrers(spec.name):
                for record in self._referring(referrer, field, there):
                    place = (name, getattr(record, field))
                    if place[1] in there:
                        found.setdefault(place, (referrer.name, field))
        return found

    def _referring(
        self, referrer: CollectionSpec, field: str, keys: Iterable[str]
    ) -> Iterator[Any]:
        for key, record in self._rows(referrer, field, keys):
            if (referrer.name, key) not in self._after:
                yield record
        for put in self._puts(referrer.name):
            yield put.record
