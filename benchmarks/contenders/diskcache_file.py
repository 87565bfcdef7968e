"""diskcache: pickles in SQLite's write-ahead mode, not synced at each put."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diskcache import Cache

from benchmarks.measure import Slice, rate_of
from benchmarks.record import as_document, documents, revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["gets", "puts"]


@contextmanager
def _filled(bench: Workbench, records: int) -> Iterator[Any]:
    directory = str(bench.directory("diskcache"))
    with Cache(directory, eviction_policy="none") as cache:
        with cache.transact():
            for key, document in documents(records).items():
                cache.set(key, document)
        yield cache


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """``set``, a transaction of its own."""
    news = [(account.id, as_document(account)) for account in revisions(records)]
    with _filled(bench, records) as cache:

        def put(number: int) -> None:
            key, document = news[number % len(news)]
            cache.set(key, document)

        yield rate_of(put, bench.plan.seconds)


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """``get``."""
    keys = [account.id for account in shuffled(records)]
    with _filled(bench, records) as cache:
        yield rate_of(
            lambda number: cache.get(keys[number % len(keys)]), bench.plan.seconds
        )
