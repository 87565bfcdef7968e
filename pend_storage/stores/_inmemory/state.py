"""State of a store with its rows in memory, encoded, and its changes in two steps.

`MemoryStore` is this and a lock; `JsonStore` is this and a journal. A change goes through
two steps: a :class:`Plan` checks batches and turns each into a :class:`LogRecord`, and
:meth:`State.install` makes log records visible. In between, a durable store syncs them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from pend_storage._layouts.unread_files import UnreadFiles
from pend_storage._model.records import JSON, Batch, Change, ChangedRecord, Row
from pend_storage.errors import StaleEpoch
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.query import And, Query, select
from pend_storage.schema import LEGACY_FILES, QUARANTINE, CollectionSpec, Schema
from pend_storage.stores._inmemory.table import StoredRow, Table

__all__ = ["SCHEMA_META", "ChangedRow", "LogRecord", "State"]

SCHEMA_META: Final = "json.schema"
"""Name of the meta entry with the schema that the rows are of."""

_ALL: Final = And(())
_ABOUT_FILES: Final = frozenset({LEGACY_FILES, QUARANTINE})
_serials: Final = itertools.count(1)


class ChangedRow(NamedTuple):
    """Row of a log record; without a body it is a tombstone."""

    collection: str
    key: str
    version: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class LogRecord:
    """Log record: what one commit, apply or meta change does to the state."""

    sequence: int = 0
    """Place in the change log; 0 where the record does not enter it."""
    epoch: int = 0
    at: datetime | None = None
    rows: tuple[ChangedRow, ...] = ()
    meta: tuple[tuple[str, JSON], ...] = ()
    token: str | None = None
    by: str | None = None
    reason: str | None = None
    forgotten: tuple[tuple[str, str], ...] = ()
    """Collection and key of tombstones that are purged."""

    def versions_of(self, batch: Batch) -> tuple[int, ...]:
        """Return the versions that this commit assigned to a batch's operations."""
        return batch.versions_in(self.rows)


@dataclass(frozen=True, slots=True)
class UnknownCollectionRow:
    """Record type of rows in a collection that this schema does not have."""

    id: str


class State:
    """Rows, tombstones and meta of one store. Not thread-safe: its owner locks."""

    def __init__(self, schema: Schema, name: str) -> None:
        self.schema = schema
        self.name = name
        """Name of the store in error messages."""
        self._known = {spec.name: Table(spec) for spec in schema}
        self.tables: dict[str, Table] = dict(self._known)
        """By name; collections that the schema does not have are among them."""
        self.serial: int = next(_serials)
        """Number of this state, unique in the process."""
        self.meta: dict[str, JSON] = {}
        self.sequence = 0
        """Highest sequence or version that was assigned or applied so far."""
        self._role = RoleState()
        self.kept: Mapping[str, frozenset[str]] = {}
        """By collection, members of stored records that this program's schema does not
        have, and that its writes leave as they are."""
        self.is_read = False
        """True if it is known that no legacy file is unread; else see :attr:`unread`."""
        self.unread: UnreadFiles | None = None
        """Legacy files that could never be read; None: not known."""

    # -- change -------------------------------------------------------------------

    def install(self, effect: LogRecord) -> None:
        """Make a log record visible. It has been checked, and never fails."""
        if any(name == SCHEMA_META for name, _ in effect.meta):
            for table in self.tables.values():
                table.forget_indexes()  # rows may be of another form from here on
        for row in effect.rows:
            self.any_table(row.collection).set(row.key, row.version, row.body)
            self.sequence = max(self.sequence, row.version)
            if row.collection in _ABOUT_FILES:
                self.is_read, self.unread = False, None
        self.sequence = max(self.sequence, effect.sequence)
        for collection, key in effect.forgotten:
            self.any_table(collection).forget(key)
        for name, value in effect.meta:
            if value is None:
                self.meta.pop(name, None)
            else:
                self.meta[name] = value
            if name == ROLE_META:
                self._role = RoleState.from_meta(value)

    # -- roles ----------------------------------------------------------------------

    @property
    def role(self) -> RoleState:
        """Role of the store, and its epoch."""
        return self._role

    def require(self, role: Role, epoch: int | None) -> None:
        """Check the role, and the epoch if one is given.

        Raises:
            StaleEpoch: role or epoch is another one.
        """
        alone = epoch is None and ROLE_META not in self.meta
        if alone:  # a store that stands alone takes commits and follows backfills
            return
        mine = self._role
        if mine.role is not role or epoch not in {None, mine.epoch}:
            raise StaleEpoch(store=self.name, role=mine.role.value, epoch=mine.epoch)

    def require_read(self, epoch: int | None) -> None:
        """Check the role primary for a read that passes an epoch."""
        if epoch is not None:
            self.require(Role.PRIMARY, epoch)

    # -- reads ------------------------------------------------------------------------

    def table(self, collection: str) -> Table:
        """Return the table of one collection.

        Raises:
            UnknownCollection: the schema has none of that name.
        """
        table = self._known.get(collection)
        return self._known[self.schema[collection].name] if table is None else table

    def any_table(self, name: str) -> Table:
        """Return the table of a collection that the schema need not have.

        A program with an older or a newer schema may have written it; its rows are kept.
        """
        table = self.tables.get(name)
        if table is None:
            spec = CollectionSpec(name, UnknownCollectionRow, "id", {})
            table = self.tables[name] = Table(spec)
        return table

    def stored(self, collection: str, key: str) -> tuple[int, bytes] | None:
        """Return version and encoded record under a key; None where there is no record.

        Raises:
            KeyError: a :class:`SparseState` does not know it.
        """
        return self.tables[collection].rows.get(key)

    def read(
        self, collection: str, keys: Iterable[str], *, deleted: bool
    ) -> dict[str, Row]:
        """Read rows by key; see :meth:`Store.read`."""
        table = self.table(collection)
        found = ((key, table.row(key, deleted=deleted)) for key in keys)
        return {key: row for key, row in found if row is not None}

    def candidates(self, collection: str, query: Query) -> list[StoredRow]:
        """Return the rows from which :func:`select` makes the answer of a query.

        Rows never change, so the answer is made without the lock: a long query holds up
        no commit.
        """
        if query.limit == 0:
            return []
        table = self.table(collection)
        if query.order_by or query.where != _ALL:
            return table.candidates(query.where)
        return table.after(None if query.after is None else query.after[1], query.limit)

    def answer(
        self, collection: str, query: Query, candidates: list[StoredRow]
    ) -> list[Row]:
        """Answer a query from its candidates."""
        return select(query, self.table(collection).decoded(candidates))

    def page(
        self, collection: str, after: str | None, *, deleted: bool, size: int
    ) -> list[StoredRow]:
        """Return the next rows of a scan; fewer than ``size`` on the last page."""
        return self.table(collection).page(after, deleted=deleted, size=size)

    def change_of(self, effect: LogRecord) -> Change:
        """Convert a log record to an entry of the change log."""
        assert effect.at is not None  # noqa: S101 - every commit has a time
        return Change(
            effect.sequence,
            effect.epoch,
            effect.at,
            tuple(self.decoded(effect.rows)),
            effect.token,
            effect.by,
            effect.reason,
        )

    def decoded(self, rows: Iterable[ChangedRow]) -> Iterator[ChangedRecord]:
        """Decode the bodies of rows; rows of unknown collections are left out."""
        for row in rows:
            if row.collection not in self._known:
                continue
            codec = self.schema[row.collection].codec
            record = None if row.body is None else codec.decode(row.body)
            yield ChangedRecord(row.collection, row.key, row.version, record)
