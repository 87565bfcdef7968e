"""The state of a store that keeps its rows in memory, encoded, and how it may change.

`MemoryStore` is this and a lock; `JsonStore` is this and a journal. A change goes through
two steps: a :class:`Plan` checks batches and turns each into an :class:`Effect`, and
:meth:`State.install` makes effects visible. In between, a durable store syncs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pend_storage.errors import StaleEpoch
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.query import Condition, Query, select
from pend_storage.records import JSON, Change, ChangedRecord, Row
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores.table import Table

__all__ = ["ChangedRow", "Effect", "State"]


class ChangedRow(NamedTuple):
    """One row of an effect; without a body it is a tombstone."""

    collection: str
    key: str
    version: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Effect:
    """What one commit, apply or meta change does to the state."""

    sequence: int = 0
    """Place in the change log; 0 where the effect does not enter it."""
    epoch: int = 0
    at: datetime | None = None
    rows: tuple[ChangedRow, ...] = ()
    meta: tuple[tuple[str, JSON], ...] = ()


class State:
    """Rows, tombstones and meta of one store. Not thread-safe: its owner locks."""

    def __init__(self, schema: Schema, name: str) -> None:
        self.schema = schema
        self.name = name
        """How errors call the store."""
        self.tables = {spec.name: Table(spec) for spec in schema}
        self.meta: dict[str, JSON] = {}
        self.sequence = 0
        """The highest sequence or version given or seen so far."""
        self._role = RoleState()

    # -- change -------------------------------------------------------------------

    def install(self, effect: Effect) -> None:
        """Make an effect visible. It has been checked, and never fails."""
        for row in effect.rows:
            self.tables[row.collection].set(row.key, row.version, row.body)
            self.sequence = max(self.sequence, row.version)
        self.sequence = max(self.sequence, effect.sequence)
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
        """The role of the store."""
        return self._role

    def require(self, role: Role, epoch: int | None) -> None:
        """Demand a role, at this epoch if one is given.

        Raises:
            StaleEpoch: it is another.
        """
        alone = epoch is None and ROLE_META not in self.meta
        if alone:  # a store that stands alone takes commits and follows backfills
            return
        mine = self._role
        if mine.role is not role or epoch not in {None, mine.epoch}:
            raise StaleEpoch(store=self.name, role=mine.role.value, epoch=mine.epoch)

    def require_read(self, epoch: int | None) -> None:
        """Demand the role primary for a read that says which epoch it believes in."""
        if epoch is not None:
            self.require(Role.PRIMARY, epoch)

    # -- look -------------------------------------------------------------------------

    def table(self, collection: str) -> Table:
        """The rows of one collection.

        Raises:
            UnknownCollection: the schema has none of that name.
        """
        return self.tables[self.schema[collection].name]

    def read(
        self, collection: str, keys: Iterable[str], *, deleted: bool
    ) -> dict[str, Row]:
        """See :meth:`Store.read`."""
        table = self.table(collection)
        found = ((key, table.row(key, deleted=deleted)) for key in keys)
        return {key: row for key, row in found if row is not None}

    def query(self, collection: str, query: Query) -> list[Row]:
        """See :meth:`Store.query`."""
        if query.limit == 0:
            return []
        return select(query, self.table(collection).candidates(query.where))

    def count(self, collection: str, where: Condition) -> int:
        """See :meth:`Store.count`."""
        return len(select(Query(where), self.table(collection).candidates(where)))

    def page(
        self, collection: str, after: str | None, *, deleted: bool, size: int
    ) -> list[Row]:
        """The next rows of a scan; fewer than ``size`` on the last page."""
        return self.table(collection).page(after, deleted=deleted, size=size)

    def change_of(self, effect: Effect) -> Change:
        """An effect as an entry of the change log."""
        assert effect.at is not None  # noqa: S101 - every commit has a time
        return Change(
            effect.sequence, effect.epoch, effect.at, tuple(self.decoded(effect.rows))
        )

    def decoded(self, rows: Iterable[ChangedRow]) -> Iterator[ChangedRecord]:
        """Rows with their records instead of their bodies."""
        for row in rows:
            codec = self.schema[row.collection].codec
            record = None if row.body is None else codec.decode(row.body)
            yield ChangedRecord(row.collection, row.key, row.version, record)

    def encoded(self, records: Sequence[ChangedRecord]) -> Iterator[ChangedRow]:
        """Of another store's changes, those that are newer than what is here."""
        newest: dict[tuple[str, str], int] = {}
        for item in records:
            place = (item.collection, item.key)
            spec: CollectionSpec = self.schema[item.collection]
            here = newest.get(place, self.tables[spec.name].version(item.key))
            if item.version > here:
                newest[place] = item.version
                yield ChangedRow(
                    item.collection, item.key, item.version, _body(spec, item.record)
                )


def _body(spec: CollectionSpec, record: Any) -> bytes | None:
    return None if record is None else spec.codec.encode(record)
