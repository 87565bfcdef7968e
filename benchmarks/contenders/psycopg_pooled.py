"""psycopg with its own pool: a connection is fetched and given back at each call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg_pool import ConnectionPool

from benchmarks.contenders.account_table import (
    SELECT,
    UPSERT,
    account_table,
    parameters,
)
from benchmarks.measure import Operation, Slice, rate_of, rate_together
from benchmarks.record import revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["gets", "gets_together", "puts", "puts_together"]

_BY_KEY = f"{SELECT} where id = %s"
_THREADS = 16


@contextmanager
def _pool(bench: Workbench, records: int) -> Iterator[ConnectionPool[Any]]:
    with (
        account_table(bench, records) as url,
        ConnectionPool(
            url, min_size=20, kwargs={"autocommit": True}, open=True
        ) as pool,
    ):
        pool.wait()
        yield pool


def _get(pool: ConnectionPool[Any], records: int) -> Operation:
    keys = [account.id for account in shuffled(records)]

    def get(number: int) -> object:
        with pool.connection() as connection:
            return connection.execute(_BY_KEY, (keys[number % len(keys)],)).fetchone()

    return get


def _put(pool: ConnectionPool[Any], records: int) -> Operation:
    rows = [parameters(account) for account in revisions(records)]

    def put(number: int) -> None:
        with pool.connection() as connection:
            connection.execute(UPSERT, rows[number % len(rows)])

    return put


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """One select by key."""
    with _pool(bench, records) as pool:
        yield rate_of(_get(pool, records), bench.plan.seconds)


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """One upsert, committed."""
    with _pool(bench, records) as pool:
        yield rate_of(_put(pool, records), bench.plan.seconds)


@contextmanager
def gets_together(bench: Workbench, records: int) -> Iterator[Slice]:
    """One select by key, in sixteen threads."""
    with _pool(bench, records) as pool:
        yield rate_together(_get(pool, records), bench.plan.seconds, _THREADS)


@contextmanager
def puts_together(bench: Workbench, records: int) -> Iterator[Slice]:
    """One upsert, committed, in sixteen threads."""
    with _pool(bench, records) as pool:
        yield rate_together(_put(pool, records), bench.plan.seconds, _THREADS)
