"""Two stores, and a DualWriteStore over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.contenders import our_verbs
from benchmarks.measure import Slice, rate_of, rate_together
from benchmarks.record import SCHEMA
from benchmarks.workbench import Workbench
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore

__all__ = ["dual_store", "puts", "puts_together", "puts_with_postgres_first", "stores"]


@contextmanager
def stores(bench: Workbench) -> Iterator[tuple[JsonStore, PostgresStore]]:
    """Both of them, empty."""
    with bench.database() as url, PostgresStore(SCHEMA, url) as postgres:
        postgres.migrate()
        with JsonStore(SCHEMA, bench.directory("pair")) as json:
            yield json, postgres


@contextmanager
def dual_store(
    json: Store, postgres: Store, phase: Phase, **settings: Any
) -> Iterator[DualWriteStore]:
    """The pair, in a phase."""
    with DualWriteStore(
        json=json, postgres=postgres, backfill=backfill, **settings
    ) as store:
        store.switch(phase, accept=CODES)
        yield store


@contextmanager
def _sliced(
    bench: Workbench, records: int, phase: Phase, threads: int = 1
) -> Iterator[Slice]:
    with (
        stores(bench) as (json, postgres),
        dual_store(json, postgres, phase) as store,
    ):
        our_verbs.fill(store, records)
        put: Callable[[int], object] = our_verbs.put(store, records)
        if threads == 1:
            yield rate_of(put, bench.plan.seconds)
        else:
            yield rate_together(put, bench.plan.seconds, threads)


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """One record, in both stores when the call returns."""
    with _sliced(bench, records, Phase.PARALLEL) as run:
        yield run


@contextmanager
def puts_with_postgres_first(bench: Workbench, records: int) -> Iterator[Slice]:
    """The same with the other store as primary."""
    with _sliced(bench, records, Phase.POSTGRES_PRIMARY) as run:
        yield run


@contextmanager
def puts_together(bench: Workbench, records: int) -> Iterator[Slice]:
    """One record, in sixteen threads."""
    with _sliced(bench, records, Phase.PARALLEL, threads=16) as run:
        yield run
