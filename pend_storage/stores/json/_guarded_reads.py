"""Guarded reads: reads, queries and scans, refused if they rest on an unread legacy file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final, TypeVar

from pend_storage._layouts.layout import Layout
from pend_storage._layouts.listing import Listing
from pend_storage._layouts.unread_files import names_one
from pend_storage._model.records import Row
from pend_storage.errors import CorruptFile
from pend_storage.query import And, Condition, Query
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.listings import Listings, is_current
from pend_storage.stores._inmemory.state import State
from pend_storage.stores._inmemory.table import StoredRow, Table
from pend_storage.stores.json._journal.replica import Replica
from pend_storage.stores.json._legacy_sync.unread_guard import UnreadFileGuard

__all__ = ["GuardedReads"]

T = TypeVar("T")

_PAGE: Final = 500
"""Rows that a scan takes under the lock at a time."""


class GuardedReads:
    """Answer from the state of an engine, at an epoch, unless a file is unread.

    Every method takes an ``epoch`` at which the caller believes the store to be primary;
    with None any role may be read. Every method raises:

    - ``CorruptFile``: the answer rests on a legacy file that was never read.
    - ``StaleEpoch``: the store has another role or epoch by now.
    """

    def __init__(self, schema: Schema, guard: UnreadFileGuard) -> None:
        self._schema = schema
        self._guard = guard
        self._listings = Listings()

    def read(
        self,
        engine: Replica,
        collection: str,
        keys: Collection[str],
        epoch: int | None,
        *,
        deleted: bool,
    ) -> dict[str, Row]:
        """Return the rows of some keys; with ``deleted``, tombstones too."""

        def read(state: State) -> dict[str, Row]:
            state.require_read(epoch)
            rows = state.read(collection, keys, deleted=deleted)
            if not deleted:
                self._guard.require_rows(state, collection, keys, rows)
            return rows

        return engine.read_state(read)

    def query(
        self, engine: Replica, collection: str, query: Query, epoch: int | None
    ) -> list[Row]:
        """Return the rows that match a query, in its order."""

        def read(state: State) -> tuple[State, list[StoredRow], CorruptFile | None]:
            state.require_read(epoch)
            refusal = self._guard.refusal(state, collection, query.where)
            return state, state.candidates(collection, query), refusal

        # Candidates are taken under the lock; decoding and sorting happen without it.
        state, candidates, refusal = engine.read_state(read)
        rows = state.answer(collection, query, candidates)
        if refusal is not None and not (
            rows and names_one(self._schema[collection], query.where)
        ):
            raise refusal
        return rows

    def count(
        self, engine: Replica, collection: str, where: Condition, epoch: int | None
    ) -> int:
        """Count the rows that match a condition."""
        if where != And(()):
            return len(self.query(engine, collection, Query(where), epoch))

        def read(state: State) -> int:
            state.require_read(epoch)
            self._guard.require_all(state, collection, where)
            return len(state.table(collection))

        return engine.read_state(read)

    def listing(
        self, engine: Replica, layout: Layout, epoch: int | None
    ) -> Listing | None:
        """Return the records of a layout's file by name; None if there are too many."""
        version, known = engine.version, self._listings.known(layout)
        state = engine.unlocked_state()
        if (
            known is not None
            and state is not None
            and state.is_read
            and is_current(known, state)
            and engine.version == version
        ):  # the usual case; the version, read before and after, replaces the lock
            state.require_read(epoch)
            return known

        def read(job: Callable[[State], T]) -> T:
            def careful(state: State) -> T:
                state.require_read(epoch)
                self._guard.require_file(state, layout)
                return job(state)

            return engine.read_state(careful)

        return self._listings.of(layout, read)

    def scan(
        self,
        opened: Callable[[], Replica],
        collection: str,
        after: str | None,
        *,
        deleted: bool,
        epoch: int | None,
    ) -> Iterator[Row]:
        """Scan a collection: yield the rows after a key, in the order of keys.

        Each page is taken under the lock, and decoded without it.

        Args:
            opened: returns the engine; after a fork it is another one for the next page.
            collection: name.
            after: a key; None: from the beginning.
            deleted: yield tombstones too.
            epoch: see the class.
        """

        def read(state: State) -> tuple[Table, list[StoredRow]]:
            state.require_read(epoch)
            if not deleted:
                self._guard.require_all(state, collection, And(()))
            rows = state.page(collection, after, deleted=deleted, size=_PAGE)
            return state.table(collection), rows

        while True:
            table, rows = opened().read_state(read)
            yield from table.decoded(rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]
