"""Write planner: checks commits one after the other on a state that stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pend_storage._model.diff import equal
from pend_storage._model.records import JSON, Advance, Batch, ChangedRecord, Put, Row
from pend_storage.errors import (
    AppendOnly,
    Conflict,
    ReferenceViolation,
    StalePosition,
    UniqueViolation,
)
from pend_storage.phases import ROLE_META, Role
from pend_storage.schema import AUDIT, CollectionSpec
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord, State
from pend_storage.stores._inmemory.table import index_value

__all__ = ["Plan"]

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode

_Claim = tuple[str, tuple[str, ...], tuple[Any, ...]]


class _Rows:
    """Rows of planned batches on top of a state, and the unique values that they claim."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[int, Any]] = {}
        """Version and record; no record is a tombstone."""
        self.claims: dict[_Claim, str | None] = {}
        """Owner of a unique value; None where it has become free."""
        self.bodies: dict[tuple[str, str], bytes | None] = {}
        """Bodies of rows with members that this program's schema does not have."""


_NOTHING: Final = _Rows()
"""No changes: for a look-up of the rows before a batch."""


def _claims(spec: CollectionSpec, record: Any) -> list[_Claim]:
    """List the unique values of a record, if there is one."""
    if record is None:
        return []
    return [
        (spec.name, fields, value)
        for fields in spec.unique
        if (value := index_value(record, fields)) is not None
    ]


class Plan:
    """Plan of changes that take effect together, each checked on top of those before it.

    A change that is refused leaves no trace, and the next one is checked without it.
    """

    def __init__(
        self, state: State, find: Callable[[str], LogRecord | None] = lambda _: None
    ) -> None:
        """Begin with nothing planned.

        Args:
            state: checked against, and not changed.
            find: finds the entry of the change log with a token.
        """
        self._state = state
        self._find = find
        self._tokens: dict[str, LogRecord] = {}
        """Commits of this plan, by token."""
        self._done = _Rows()
        self._meta: dict[str, JSON] = {}
        self._sequence = state.sequence
        self.effects: list[LogRecord] = []
        self.closed = False
        """True where roles change with this plan: later changes need a plan of their own."""

    @property
    def state(self) -> State:
        """State that the changes are checked against."""
        return self._state

    def add(
        self,
        batch: Batch,
        epoch: int | None,
        *,
        meta: tuple[tuple[str, JSON], ...] = (),
    ) -> tuple[int, ...]:
        """Plan a commit, and return the versions as ``Store.commit`` does.

        A commit that is in the change log already is not planned again.

        Args:
            batch: the commit.
            epoch: see :mod:`pend_storage.store`.
            meta: named values to set together with it.

        Raises:
            StaleEpoch: the store is not primary at that epoch.
            AppendOnly: an audit entry would be replaced or deleted.
            Conflict: a check does not hold.
            UniqueViolation: a unique value is taken.
            ReferenceViolation: a reference would lead nowhere.
        """
        done = self._done_before(batch.token)
        if done is not None:
            return done.versions_of(batch)
        self._state.require(Role.PRIMARY, epoch)
        self._state.schema.require_appending(batch)
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
        if rows or meta:
            self._append(mine, rows, meta, sequence if rows else 0, batch)
        written = {(row.collection, row.key): row.version for row in rows}
        return tuple(written.get((o.collection, o.key), 0) for o in batch.operations)

    def forget(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> None:
        """Plan the removal of tombstones; see :meth:`Store.purge`.

        Raises:
            Conflict: a record is there.
        """
        graves = self._state.any_table(collection).tombstones
        wanted = sorted(set(keys))
        for key in wanted:
            actual = self._live_version(collection, key)
            if actual:
                raise Conflict(
                    collection=collection, key=key, expected=0, actual=actual
                )
        gone = tuple((collection, key) for key in wanted if key in graves)
        if gone and tombstones:
            self.effects.append(LogRecord(forgotten=gone))

    def is_done(self, batch: Batch) -> bool:
        """Return whether a commit is in the change log, or planned, already."""
        return self._done_before(batch.token) is not None

    def _done_before(self, token: str) -> LogRecord | None:
        """Find the commit with this token, planned or in the log."""
        if not token:
            return None
        return self._tokens.get(token) or self._find(token)

    def apply_changes(
        self,
        records: Sequence[ChangedRecord],
        epoch: int | None,
        mark: Advance | None,
    ) -> int:
        """Plan the newer ones of another store's changes, as ``Store.apply`` does.

        Returns:
            The number of rows that will be written.

        Raises:
            StaleEpoch: the store is not secondary at that epoch.
            StalePosition: the position is not what ``mark`` continues.
        """
        self._state.require(Role.SECONDARY, epoch)
        if mark is not None and not equal(self._meta_of(mark.name), mark.expected):
            raise StalePosition(store=self._state.name, name=mark.name)
        newer: dict[tuple[str, str], ChangedRecord] = {}
        for item in records:
            place = (self._state.schema[item.collection].name, item.key)
            known = newer.get(place)
            here = self._version(*place) if known is None else known.version
            if item.version > here:
                newer[place] = item
        mine = _Rows()
        rows = tuple(self._followed(newer, mine))
        if rows or mark is not None:
            meta = () if mark is None else ((mark.name, mark.value),)
            self._append(mine, rows, meta, 0)
        return len(rows)

    def rewrite(
        self, rows: Iterable[ChangedRow], meta: tuple[tuple[str, JSON], ...]
    ) -> None:
        """Plan rows of another form at their versions, outside of the change log."""
        self.effects.append(LogRecord(rows=tuple(rows), meta=meta))
        self.closed = True

    def add_unlogged(
        self, puts: Iterable[Put], meta: tuple[tuple[str, JSON], ...] = ()
    ) -> None:
        """Plan rows of this store's own, whatever its role, outside of the change log."""
        mine = _Rows()
        batch = self._state.schema.batch(puts, limited=False, audited=False)
        rows = tuple(self._rows_of(batch, self._sequence + 1, mine))
        self._append(mine, rows, meta, 0)

    def set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        """Plan to set a named value, if it and others are what is expected."""
        wanted = {**(given or {}), name: expected}
        if not all(equal(self._meta_of(n), v) for n, v in wanted.items()):
            return False
        self._append(_Rows(), (), ((name, value),), 0)
        self.closed = name == ROLE_META
        return True

    def _meta_of(self, name: str) -> JSON:
        return self._meta[name] if name in self._meta else self._state.meta.get(name)

    def _append(
        self,
        mine: _Rows,
        rows: tuple[ChangedRow, ...],
        meta: tuple[tuple[str, JSON], ...],
        sequence: int,
        batch: Batch | None = None,
    ) -> None:
        self._done.rows.update(mine.rows)
        self._done.claims.update(mine.claims)
        self._done.bodies.update(mine.bodies)
        meta = deepcopy(meta) if meta else ()  # the caller may change its own objects
        self._meta.update(meta)
        self._sequence = max(self._sequence, sequence, *(row.version for row in rows))
        if not sequence or batch is None:
            self.effects.append(LogRecord(rows=rows, meta=meta))
            return
        epoch, at = self._state.role.epoch, datetime.now(UTC)
        token = batch.token or None
        effect = LogRecord(
            sequence, epoch, at, rows, meta, token, batch.by, batch.reason
        )
        self.effects.append(effect)
        if token is not None:
            self._tokens[token] = effect

    def _followed(
        self, newer: dict[tuple[str, str], ChangedRecord], mine: _Rows
    ) -> Iterator[ChangedRow]:
        for (collection, key), item in newer.items():
            spec = self._state.schema[collection]
            if spec.unique:
                old = self._record(collection, key, mine)
                self._free(key, _claims(spec, old), mine)
            mine.rows[collection, key] = (item.version, item.record)
            body = None
            if item.record is not None:
                body = spec.codec.encode(item.record)
                # Not checked: the primary has done so, in the order of its commits.
                mine.claims.update(dict.fromkeys(_claims(spec, item.record), key))
            yield ChangedRow(collection, key, item.version, body)

    def _rows_of(
        self, batch: Batch, sequence: int, mine: _Rows
    ) -> Iterator[ChangedRow]:
        for operation in batch.operations:
            place = (operation.collection, operation.key)
            record = body = None
            if isinstance(operation, Put):
                record, body = operation.record, operation.body
                if operation.collection == AUDIT and self._live_version(*place):
                    raise AppendOnly(collection=AUDIT, key=operation.key)
            elif not self._live_version(*place):
                continue
            version = max(self._version(*place) + 1, sequence)
            mine.rows[place] = (version, record)
            if operation.collection in self._state.kept:
                body = mine.bodies[place] = self._whole(*place, body)
            yield ChangedRow(*place, version, body)

    def _whole(self, collection: str, key: str, body: bytes | None) -> bytes | None:
        """Complete a body with the stored members that this program does not know."""
        if body is None:
            return None
        if (collection, key) in self._done.bodies:
            old = self._done.bodies[collection, key]
        else:
            row = self._state.table(collection).rows.get(key)
            old = None if row is None else row[1]
        if old is None:
            return body
        members = _members(old)
        kept = {n: members[n] for n in self._state.kept[collection] if n in members}
        return _encode({**_members(body), **kept}) if kept else body

    # -- rows of the state, with the planned batches on top ----------------------------

    def present(self, collection: str, key: str) -> Row | None:
        """Return the row that the next planned commit finds; None where there is none."""
        record = self._record(collection, key, _NOTHING)
        return (
            None if record is None else Row(key, self._version(collection, key), record)
        )

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
        """Return the record after the batch, or None."""
        for layer in (mine, self._done):
            if (collection, key) in layer.rows:
                return layer.rows[collection, key][1]
        row = self._state.table(collection).row(key)
        return None if row is None else row.record

    # -- uniqueness ---------------------------------------------------------------------

    def _check_unique(self, batch: Batch, mine: _Rows) -> None:
        wanted: list[tuple[_Claim, str]] = []
        for operation in batch.operations:
            spec = self._state.schema[operation.collection]
            if not spec.unique:
                continue
            key = operation.key
            old = _claims(spec, self._record(spec.name, key, _NOTHING))
            new = _claims(
                spec, operation.record if isinstance(operation, Put) else None
            )
            if old != new:  # else it keeps its values
                self._free(key, old, mine)
                wanted += [(claim, key) for claim in new]
        # Only after all old values are free: two records of one batch may swap theirs.
        for claim, key in wanted:
            if self._owner(claim, mine) not in {None, key}:
                raise UniqueViolation(collection=claim[0], fields=claim[1], key=key)
            mine.claims[claim] = key

    def _free(self, key: str, claims: Iterable[_Claim], mine: _Rows) -> None:
        for claim in claims:
            if self._owner(claim, mine) == key:
                mine.claims[claim] = None

    def _owner(self, claim: _Claim, mine: _Rows) -> str | None:
        for layer in (mine, self._done):
            if claim in layer.claims:
                return layer.claims[claim]
        collection, fields, value = claim
        index = self._state.table(collection).index(fields)
        return next(iter(index.keys(value)), None)

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
