"""The standard library's SQLite, by hand, and as durable as the JSON store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from benchmarks.measure import Slice, rate_of
from benchmarks.record import as_document, documents, revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["gets", "puts"]

_UPSERT = (
    "insert into record values (?, ?) "
    "on conflict (id) do update set document = excluded.document"
)


@contextmanager
def _filled(bench: Workbench, records: int) -> Iterator[sqlite3.Connection]:
    path = bench.directory("sqlite") / "db.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")  # a sync at every commit
        connection.execute("create table record (id text primary key, document text)")
        connection.execute("begin")
        connection.executemany(
            _UPSERT,
            ((key, json.dumps(value)) for key, value in documents(records).items()),
        )
        connection.execute("commit")
        yield connection


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """One upsert of JSON text, synced."""
    news = [(account.id, as_document(account)) for account in revisions(records)]
    with _filled(bench, records) as connection:

        def put(number: int) -> None:
            key, document = news[number % len(news)]
            connection.execute(_UPSERT, (key, json.dumps(document)))

        yield rate_of(put, bench.plan.seconds)


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """One select, parsed."""
    keys = [account.id for account in shuffled(records)]
    with _filled(bench, records) as connection:

        def get(number: int) -> object:
            row = connection.execute(
                "select document from record where id = ?", (keys[number % len(keys)],)
            ).fetchone()
            return json.loads(row[0])

        yield rate_of(get, bench.plan.seconds)
