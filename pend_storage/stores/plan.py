"""Checks batches one after the other against a state that does not change meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pend_storage.errors import Conflict, ReferenceViolation, UniqueViolation
from pend_storage.phases import Role
from pend_storage.records import Batch, Put
from pend_storage.schema import CollectionSpec
from pend_storage.stores.state import ChangedRow, Effect, State
from pend_storage.stores.table import index_value

__all__ = ["Plan"]

_Claim = tuple[str, tuple[str, ...], tuple[Any, ...]]


class _Rows:
    """What planned batches have written over a state, and which values they claim."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[int, Any]] = {}
        """Version and record; no record is a tombstone."""
        self.claims: dict[_Claim, str | None] = {}
        """Owner of a unique value; None where it has become free."""


class Plan:
    """Batches that will take effect together, each checked on top of those before it.

    A batch that is refused leaves no trace, and the next one is checked without it.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._done = _Rows()
        self._sequence = state.sequence
        self.effects: list[Effect] = []

    def add(self, batch: Batch, epoch: int | None) -> tuple[int, ...]:
        """Check a batch, and plan it; gives the versions as ``Store.commit`` does.

        Raises:
            StaleEpoch: the store is not primary at that epoch.
            Conflict: a check does not hold.
            UniqueViolation: a unique value is taken.
            ReferenceViolation: a reference would lead nowhere.
        """
        self._state.require(Role.PRIMARY, epoch)
        for (collection, key), expected in batch.checks.items():
            actual = self._live_version(collection, key)
            if actual != expected:
                raise Conflict(
                    collection=collection, key=key, expected=expected, actual=actual
                )
        sequence = self._sequence + 1
        mine = _Rows()
        rows = tuple(self._rows_of(batch, sequence, mine))
        self._check_unique(batch, mine)
        self._check_references(batch, mine)
        if rows:
            self._take(mine, rows, sequence)
        written = {(row.collection, row.key): row.version for row in rows}
        return tuple(written.get((o.collection, o.key), 0) for o in batch.operations)

    def _take(self, mine: _Rows, rows: tuple[ChangedRow, ...], sequence: int) -> None:
        self._done.rows.update(mine.rows)
        self._done.claims.update(mine.claims)
        self._sequence = max(sequence, *(row.version for row in rows))
        epoch = self._state.role.epoch
        self.effects.append(Effect(sequence, epoch, datetime.now(UTC), rows))

    def _rows_of(
        self, batch: Batch, sequence: int, mine: _Rows
    ) -> Iterator[ChangedRow]:
        for operation in batch.operations:
            place = (operation.collection, operation.key)
            exists = self._live_version(*place) > 0
            if not (exists or isinstance(operation, Put)):
                continue
            version = max(self._version(*place) + 1, sequence)
            body = operation.body if isinstance(operation, Put) else None
            record = operation.record if isinstance(operation, Put) else None
            mine.rows[place] = (version, record)
            yield ChangedRow(*place, version, body)

    # -- what is there, with the planned batches on top --------------------------------

    def _version(self, collection: str, key: str) -> int:
        planned = self._done.rows.get((collection, key))
        if planned is not None:
            return planned[0]
        return self._state.table(collection).version(key)

    def _live_version(self, collection: str, key: str) -> int:
        planned = self._done.rows.get((collection, key))
        if planned is not None:
            return planned[0] if planned[1] is not None else 0
        row = self._state.table(collection).rows.get(key)
        return 0 if row is None else row[0]

    def _record(self, collection: str, key: str, mine: _Rows) -> Any:
        """The record after the batch, or None."""
        for layer in (mine, self._done):
            if (collection, key) in layer.rows:
                return layer.rows[collection, key][1]
        row = self._state.table(collection).row(key)
        return None if row is None else row.record

    # -- uniqueness ---------------------------------------------------------------------

    def _check_unique(self, batch: Batch, mine: _Rows) -> None:
        before = _Rows()  # an empty layer: what was there before the batch
        for operation in batch.operations:
            spec = self._state.schema[operation.collection]
            if spec.unique:
                old = self._record(spec.name, operation.key, before)
                self._free(spec, operation.key, old, mine)
        for operation in batch.operations:
            spec = self._state.schema[operation.collection]
            if spec.unique and isinstance(operation, Put):
                self._claim(spec, operation, mine)

    def _free(self, spec: CollectionSpec, key: str, old: Any, mine: _Rows) -> None:
        for fields in spec.unique if old is not None else ():
            value = index_value(old, fields)
            if value is not None and self._owner(spec, fields, value, mine) == key:
                mine.claims[spec.name, fields, value] = None

    def _claim(self, spec: CollectionSpec, put: Put, mine: _Rows) -> None:
        for fields in spec.unique:
            value = index_value(put.record, fields)
            if value is None:
                continue
            if self._owner(spec, fields, value, mine) not in {None, put.key}:
                raise UniqueViolation(collection=spec.name, fields=fields, key=put.key)
            mine.claims[spec.name, fields, value] = put.key

    def _owner(
        self,
        spec: CollectionSpec,
        fields: tuple[str, ...],
        value: tuple[Any, ...],
        mine: _Rows,
    ) -> str | None:
        claim = (spec.name, fields, value)
        for layer in (mine, self._done):
            if claim in layer.claims:
                return layer.claims[claim]
        return next(iter(self._state.table(spec.name).index(fields).keys(value)), None)

    # -- references -----------------------------------------------------------------------

    def _check_references(self, batch: Batch, mine: _Rows) -> None:
        for operation in batch.operations:
            spec = self._state.schema[operation.collection]
            if isinstance(operation, Put):
                self._check_targets(spec, operation, mine)
            elif (spec.name, operation.key) in mine.rows:
                self._check_referrers(spec, operation.key, mine)

    def _check_targets(self, spec: CollectionSpec, put: Put, mine: _Rows) -> None:
        for name, target in spec.references.items():
            value = getattr(put.record, name)
            if value is not None and self._record(target, value, mine) is None:
                raise ReferenceViolation(
                    collection=spec.name, field=name, target=target, value=value
                )

    def _check_referrers(self, spec: CollectionSpec, key: str, mine: _Rows) -> None:
        for referrer, name in self._state.schema.referrers(spec.name):
            stored = self._state.table(referrer.name).index((name,)).keys((key,))
            planned = [
                k
                for layer in (self._done, mine)
                for (collection, k) in layer.rows
                if collection == referrer.name
            ]
            for other in {*stored, *planned}:
                record = self._record(referrer.name, other, mine)
                if record is not None and getattr(record, name) == key:
                    raise ReferenceViolation(
                        collection=referrer.name,
                        field=name,
                        target=spec.name,
                        value=key,
                    )
