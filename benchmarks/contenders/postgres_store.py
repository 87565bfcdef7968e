"""Our PostgresStore: typed rows, versions, a change log, and the check of its role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg

from benchmarks.contenders import our_verbs
from benchmarks.measure import Operation, Slice, rate_of, rate_together
from benchmarks.record import SCHEMA
from benchmarks.workbench import Workbench
from pend_storage.store import Store
from pend_storage.stores.postgres import PostgresStore

__all__ = [
    "counts",
    "gets",
    "gets_by",
    "gets_many",
    "gets_together",
    "pages",
    "puts",
    "puts_many",
    "puts_together",
]


@contextmanager
def _sliced(
    bench: Workbench,
    records: int,
    make: Callable[[Store, int], Operation],
    threads: int = 1,
) -> Iterator[Slice]:
    with bench.database() as url, PostgresStore(SCHEMA, url) as store:
        store.migrate()
        our_verbs.fill(store, records)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        operation = make(store, records)
        if threads == 1:
            yield rate_of(operation, bench.plan.seconds)
        else:
            yield rate_together(operation, bench.plan.seconds, threads)


def gets(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record by key."""
    return _sliced(bench, records, our_verbs.get)


def puts(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record, committed with its change-log row."""
    return _sliced(bench, records, our_verbs.put)


def gets_together(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record by key, in sixteen threads."""
    return _sliced(bench, records, our_verbs.get, threads=16)


def puts_together(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record, in sixteen threads."""
    return _sliced(bench, records, our_verbs.put, threads=16)


def gets_many(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """A hundred records by key."""
    return _sliced(bench, records, our_verbs.get_many)


def puts_many(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """A hundred records in one commit."""
    return _sliced(bench, records, our_verbs.put_many)


def gets_by(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record by a unique field."""
    return _sliced(bench, records, our_verbs.get_by)


def pages(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """A filtered, sorted page."""
    return _sliced(bench, records, our_verbs.page)


def counts(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """Count records that meet a condition."""
    return _sliced(bench, records, our_verbs.count)
