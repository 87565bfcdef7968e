"""Store double that reports reads of a commit which the commit does not check.

A whole record that was read, changed and written back undoes every commit made to it in
between, unless the commit checks the version that was read. The same holds for what is
computed from other records. :class:`WatchedStore` stands in front of any store;
:func:`watch_edits` does the same for the keeper of legacy files, which works below the
verbs of a store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from typing_extensions import override

from pend_storage.query import Query
from pend_storage.records import Batch, Row
from pend_storage.store import Store
from pend_storage.stores._inmemory.table import Table
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores.json import JsonStore
from pend_storage.stores.wrapper import WrapperStore

Place = tuple[str, str]


class _Reads(threading.local):
    """Of one thread, since its last commit."""

    def __init__(self) -> None:
        self.looked_up: set[Place] = set()
        """Read one by one: whatever is written is computed from them."""
        self.passed: set[Place] = set()
        """Read in passing, by a scan: what is written over them is."""
        self.paused = False

    def forget(self) -> None:
        self.looked_up, self.passed = set(), set()


class Watch:
    """Reads and writes of each thread, and what of it went unchecked."""

    def __init__(self) -> None:
        self.unchecked: list[str] = []
        self.commits = 0
        self._reads = _Reads()

    def begin(self) -> None:
        """Forget what this thread has read: another operation begins."""
        self._reads.forget()

    def looked_up(self, places: Iterable[Place]) -> None:
        if not self._reads.paused:
            self._reads.looked_up.update(places)

    def passed(self, place: Place) -> None:
        if not self._reads.paused:
            self._reads.passed.add(place)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While a store reads to carry out a commit."""
        self._reads.paused = True
        try:
            yield
        finally:
            self._reads.paused = False

    def judge(
        self,
        operations: Iterable[Place],
        checks: Mapping[Place, int],
        *,
        blind: bool = True,
    ) -> None:
        """Look at a commit.

        Args:
            operations: the places that it writes.
            checks: those that it checks.
            blind: whether it may write what was not read at all.
        """
        reads, written = self._reads, set(operations)
        over = written if not blind else written & (reads.looked_up | reads.passed)
        self.commits += 1
        self.unchecked += [f"{c}[{k!r}] is written" for c, k in over - checks.keys()]
        rest = reads.looked_up - written - checks.keys()
        self.unchecked += [f"{c}[{k!r}] is computed from" for c, k in rest]
        reads.forget()


class WatchedStore(WrapperStore):
    """Notes what is read of a store, and judges each commit by it."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.watch = Watch()

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        wanted = list(keys)
        found = super().read(collection, wanted, deleted=deleted, epoch=epoch)
        name = self.schema[collection].name
        self.watch.looked_up((name, key) for key in wanted)
        return found

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        rows = super().query(collection, query, epoch=epoch)
        name = self.schema[collection].name
        self.watch.looked_up((name, row.key) for row in rows)
        return rows

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        name = self.schema[collection].name
        for row in super().scan(collection, after=after, deleted=deleted, epoch=epoch):
            self.watch.passed((name, row.key))
            yield row

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        self.watch.judge(_places(batch), batch.checks)
        return super().commit(batch, epoch=epoch)


@contextmanager
def watch_edits(store: JsonStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Watch what the keeper of the legacy files reads and commits in this thread.

    It never writes what it has not read, so all that it writes must be checked.
    """
    watch = Watch()
    row, add = Table.row, Plan.add

    def watched_row(table: Table, key: str, **more: Any) -> Row | None:
        live = store._opened()._live.state
        if live.tables.get(table.spec.name) is table:  # not the past
            watch.looked_up([(table.spec.name, key)])
        return row(table, key, **more)

    def watched_add(plan: Plan, batch: Batch, *given: Any, **more: Any) -> Any:
        watch.judge(_places(batch), batch.checks, blind=False)
        with watch.paused():
            return add(plan, batch, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Table, "row", watched_row)
        patched.setattr(Plan, "add", watched_add)
        yield watch


def _places(batch: Batch) -> list[Place]:
    return [(o.collection, o.key) for o in batch.operations]
