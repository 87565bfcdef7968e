"""psycopg under asyncio: its own async pool, and its plain pool in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from benchmarks.case import Traffic
from benchmarks.clients import Calls
from benchmarks.contenders.account_table import (
    SELECT,
    UPSERT,
    account_table,
    parameters,
)
from benchmarks.contenders.client_slices import POOL, client_slice
from benchmarks.measure import Slice
from benchmarks.record import revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["pooled", "pooled_clients", "threaded", "threaded_clients"]

_BY_KEY: Final = f"{SELECT} where id = %s"
_AUTOCOMMIT: Final[dict[str, Any]] = {"autocommit": True}
_PATIENCE: Final = 120.0
"""Seconds that a call may wait for a connection: more than any does here."""


@asynccontextmanager
async def pooled(url: str, records: int) -> AsyncIterator[Calls]:
    """``AsyncConnectionPool``."""
    keys = [account.id for account in shuffled(records)]
    rows = [parameters(account) for account in revisions(records)]
    pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
        url, min_size=POOL, kwargs=_AUTOCOMMIT, open=False, timeout=_PATIENCE
    )

    async def get(number: int) -> object:
        wanted = (keys[number % len(keys)],)
        async with pool.connection() as connection:
            return await (await connection.execute(_BY_KEY, wanted)).fetchone()

    async def put(number: int) -> None:
        async with pool.connection() as connection:
            await connection.execute(UPSERT, rows[number % len(rows)])

    async with pool:
        await pool.wait()
        yield Calls(get, put)


@asynccontextmanager
async def threaded(url: str, records: int) -> AsyncIterator[Calls]:
    """``ConnectionPool``, and ``asyncio.to_thread`` around each call."""
    keys = [account.id for account in shuffled(records)]
    rows = [parameters(account) for account in revisions(records)]
    pool: ConnectionPool[Any] = ConnectionPool(
        url, min_size=POOL, kwargs=_AUTOCOMMIT, open=False, timeout=_PATIENCE
    )

    def get(number: int) -> object:
        wanted = (keys[number % len(keys)],)
        with pool.connection() as connection:
            return connection.execute(_BY_KEY, wanted).fetchone()

    def put(number: int) -> None:
        with pool.connection() as connection:
            connection.execute(UPSERT, rows[number % len(rows)])

    with pool:
        pool.wait()
        yield Calls(
            lambda number: asyncio.to_thread(get, number),
            lambda number: asyncio.to_thread(put, number),
        )


@contextmanager
def pooled_clients(
    bench: Workbench, records: int, traffic: Traffic, *, uvloop: bool = False
) -> Iterator[Slice]:
    """The async pool of twenty."""
    with account_table(bench, records) as url:
        opened = partial(pooled, url, records)
        yield client_slice(bench, url, opened, traffic, uvloop=uvloop)


@contextmanager
def threaded_clients(
    bench: Workbench, records: int, traffic: Traffic
) -> Iterator[Slice]:
    """The plain pool of twenty, in twenty threads."""
    with account_table(bench, records) as url:
        opened = partial(threaded, url, records)
        yield client_slice(bench, url, opened, traffic, uvloop=False)
