"""Which record broke a rule: found out after the database has refused a batch.

The database names a constraint. A caller wants the record, and the same one that every
other store names: the first that breaks a rule, uniqueness before references. Nothing
was written, so the answer can be looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pend_storage.errors import ReferenceViolation, UniqueViolation
from pend_storage.query import And, Comparison, Operator, Query
from pend_storage.records import Batch, Delete, Put
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store

__all__ = ["raise_violation"]


def raise_violation(store: Store, batch: Batch) -> None:
    """Raise what is wrong with a batch; return where nothing is wrong any more.

    Raises:
        UniqueViolation: another record has the same value.
        ReferenceViolation: a reference would lead nowhere.
    """
    judge = _Judge(store, batch)
    judge.check_unique()
    judge.check_references()


class _Judge:
    def __init__(self, store: Store, batch: Batch) -> None:
        self._store = store
        self._schema = store.schema
        self._after = {(o.collection, o.key): o for o in batch.operations}

    def _plain(self, spec: CollectionSpec, record: Any, name: str) -> Any:
        value = getattr(record, name)
        field = spec.fields[name]
        return value.value if field.enum is not None and value is not None else value

    def check_unique(self) -> None:
        claimed: dict[tuple[Any, ...], str] = {}
        for spec, put in self._puts():
            for fields in spec.unique:
                values = tuple(self._plain(spec, put.record, name) for name in fields)
                if None in values:
                    continue
                owner = claimed.setdefault((spec.name, fields, values), put.key)
                if owner != put.key or self._is_taken(spec, fields, values):
                    raise UniqueViolation(
                        collection=spec.name, fields=fields, key=put.key
                    )

    def _is_taken(
        self, spec: CollectionSpec, fields: tuple[str, ...], values: tuple[Any, ...]
    ) -> bool:
        """Whether a record that the batch leaves alone has these values."""
        same = And(
            tuple(
                Comparison((name,), Operator.EQ, value)
                for name, value in zip(fields, values, strict=True)
            )
        )
        rows = self._store.query(spec.name, Query(same))
        return any((spec.name, row.key) not in self._after for row in rows)

    def check_references(self) -> None:
        for place, operation in self._after.items():
            spec = self._schema[operation.collection]
            if isinstance(operation, Put):
                self._check_targets(spec, operation)
            elif self._store.read(spec.name, (place[1],)):
                self._check_referrers(spec, place[1])

    def _check_targets(self, spec: CollectionSpec, put: Put) -> None:
        for name, target in spec.references.items():
            value = getattr(put.record, name)
            if value is not None and not self._will_be(target, value):
                raise ReferenceViolation(
                    collection=spec.name, field=name, target=target, value=value
                )

    def _will_be(self, collection: str, key: str) -> bool:
        operation = self._after.get((collection, key))
        if operation is not None:
            return isinstance(operation, Put)
        return key in self._store.read(collection, (key,))

    def _check_referrers(self, spec: CollectionSpec, key: str) -> None:
        for referrer, name in self._schema.referrers(spec.name):
            if any(self._refers(referrer, name, key)):
                raise ReferenceViolation(
                    collection=referrer.name, field=name, target=spec.name, value=key
                )

    def _refers(self, referrer: CollectionSpec, name: str, key: str) -> Iterator[bool]:
        for other, put in self._puts():
            if other is referrer:
                yield getattr(put.record, name) == key
        where = Comparison((name,), Operator.EQ, key)
        for row in self._store.query(referrer.name, Query(where)):
            yield (referrer.name, row.key) not in self._after

    def _puts(self) -> Iterator[tuple[CollectionSpec, Put]]:
        for operation in self._after.values():
            if not isinstance(operation, Delete):
                yield self._schema[operation.collection], operation
