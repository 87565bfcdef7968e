"""Our JsonStore: every commit is in its journal, and synced, before the call returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.contenders import our_verbs
from benchmarks.measure import Operation, Slice, rate_of, rate_together
from benchmarks.record import SCHEMA
from benchmarks.workbench import Workbench
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore

__all__ = ["counts", "gets", "gets_by", "pages", "puts", "puts_together"]


@contextmanager
def _sliced(
    bench: Workbench,
    records: int,
    make: Callable[[Store, int], Operation],
    threads: int = 1,
) -> Iterator[Slice]:
    with JsonStore(SCHEMA, bench.directory("json-store")) as store:
        our_verbs.fill(store, records)
        operation = make(store, records)
        if threads == 1:
            yield rate_of(operation, bench.plan.seconds)
        else:
            yield rate_together(operation, bench.plan.seconds, threads)


def gets(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record by key."""
    return _sliced(bench, records, our_verbs.get)


def puts(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record, durable."""
    return _sliced(bench, records, our_verbs.put)


def puts_together(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record, durable, in sixteen threads that share the syncs."""
    return _sliced(bench, records, our_verbs.put, threads=16)


def gets_by(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """One record by a unique field."""
    return _sliced(bench, records, our_verbs.get_by)


def pages(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """A filtered, sorted page."""
    return _sliced(bench, records, our_verbs.page)


def counts(bench: Workbench, records: int) -> AbstractContextManager[Slice]:
    """Count records that meet a condition."""
    return _sliced(bench, records, our_verbs.count)
