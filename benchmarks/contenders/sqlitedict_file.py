"""sqlitedict with autocommit: a table of pickles, a thread of its own for SQLite.

It sets ``synchronous=OFF``: a put is not on the disk when the call returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlitedict import SqliteDict

from benchmarks.measure import Slice, rate_of
from benchmarks.record import as_document, documents, revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["gets", "puts"]


@contextmanager
def _filled(bench: Workbench, records: int) -> Iterator[Any]:
    path = bench.directory("sqlitedict") / "db.sqlite"
    with SqliteDict(str(path), autocommit=False) as table:
        table.update(documents(records))
        table.commit()
    with SqliteDict(str(path), autocommit=True) as table:
        yield table


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """One assignment; it waits for the commit of the other thread."""
    news = [(account.id, as_document(account)) for account in revisions(records)]
    with _filled(bench, records) as table:

        def put(number: int) -> None:
            key, document = news[number % len(news)]
            table[key] = document

        yield rate_of(put, bench.plan.seconds)


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """One look-up."""
    keys = [account.id for account in shuffled(records)]
    with _filled(bench, records) as table:
        yield rate_of(
            lambda number: table[keys[number % len(keys)]], bench.plan.seconds
        )
