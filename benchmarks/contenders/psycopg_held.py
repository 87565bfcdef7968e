"""psycopg by hand: ``execute`` on one connection that is kept, in autocommit mode.

psycopg prepares each statement by itself after it has run five times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.contenders.account_table import (
    SELECT,
    UPSERT,
    account_table,
    parameters,
)
from benchmarks.measure import Slice, rate_of
from benchmarks.record import revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["counts", "gets", "gets_by", "gets_many", "pages", "puts", "puts_many"]

_BY_KEY = f"{SELECT} where id = %s"
_BY_KEYS = f"{SELECT} where id = any(%s)"
_BY_HASH = f"{SELECT} where phone_hash = %s"
_PAGE = f"{SELECT} where status = %s and tier = %s order by opened_at desc, id limit 21"
_COUNT = "select count(*) from accounts where tier = %s"


@contextmanager
def _held(bench: Workbench, records: int) -> Iterator[psycopg.Connection]:
    with (
        account_table(bench, records) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        yield connection


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """One select by key; gives a tuple of typed values."""
    keys = [account.id for account in shuffled(records)]
    with _held(bench, records) as connection:

        def get(number: int) -> object:
            return connection.execute(_BY_KEY, (keys[number % len(keys)],)).fetchone()

        yield rate_of(get, bench.plan.seconds)


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """One upsert, committed."""
    rows = [parameters(account) for account in revisions(records)]
    with _held(bench, records) as connection:

        def put(number: int) -> None:
            connection.execute(UPSERT, rows[number % len(rows)])

        yield rate_of(put, bench.plan.seconds)


@contextmanager
def gets_many(bench: Workbench, records: int) -> Iterator[Slice]:
    """A hundred rows by ``= any``."""
    keys = [account.id for account in shuffled(records)]
    with _held(bench, records) as connection:

        def get(number: int) -> object:
            first = number * 100 % (len(keys) - 99)
            wanted = keys[first : first + 100]
            return connection.execute(_BY_KEYS, (wanted,)).fetchall()

        yield rate_of(get, bench.plan.seconds)


@contextmanager
def puts_many(bench: Workbench, records: int) -> Iterator[Slice]:
    """A hundred upserts by ``executemany`` (which pipelines them), in one transaction."""
    rows = [parameters(account) for account in revisions(records)]
    with _held(bench, records) as connection:

        def put(number: int) -> None:
            first = number * 100 % (len(rows) - 99)
            with connection.transaction():
                connection.cursor().executemany(UPSERT, rows[first : first + 100])

        yield rate_of(put, bench.plan.seconds)


@contextmanager
def gets_by(bench: Workbench, records: int) -> Iterator[Slice]:
    """One select by a unique field."""
    hashes = [account.phone_hash for account in shuffled(records)]
    with _held(bench, records) as connection:

        def get(number: int) -> object:
            wanted = (hashes[number % len(hashes)],)
            return connection.execute(_BY_HASH, wanted).fetchone()

        yield rate_of(get, bench.plan.seconds)


@contextmanager
def pages(bench: Workbench, records: int) -> Iterator[Slice]:
    """A filter over two fields, sorted by a third, the first twenty."""
    with _held(bench, records) as connection:
        yield rate_of(
            lambda number: connection.execute(
                _PAGE, ("pending", number % 4)
            ).fetchall(),
            bench.plan.seconds,
        )


@contextmanager
def counts(bench: Workbench, records: int) -> Iterator[Slice]:
    """Count records of a tier."""
    with _held(bench, records) as connection:
        yield rate_of(
            lambda number: connection.execute(_COUNT, (number % 4,)).fetchone(),
            bench.plan.seconds,
        )
