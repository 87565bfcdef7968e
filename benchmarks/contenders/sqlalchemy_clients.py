"""SQLAlchemy Core under asyncio, over asyncpg: a connection of its pool at each call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.case import Traffic
from benchmarks.clients import Calls
from benchmarks.contenders.account_table import account_table
from benchmarks.contenders.client_slices import POOL, client_slice
from benchmarks.contenders.sqlalchemy_core import BY_KEY, UPSERT
from benchmarks.measure import Slice
from benchmarks.record import revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["pooled", "pooled_clients"]

_PATIENCE = 120.0
"""Seconds that a call may wait for a connection: more than any does here."""


@asynccontextmanager
async def pooled(url: str, records: int) -> AsyncIterator[Calls]:
    """An engine with a pool of twenty, in autocommit mode."""
    keys = [account.id for account in shuffled(records)]
    rows = [asdict(account) for account in revisions(records)]
    engine = create_async_engine(
        sa.make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=_PATIENCE,
        isolation_level="AUTOCOMMIT",
    )

    async def get(number: int) -> object:
        async with engine.connect() as connection:
            wanted = {"key": keys[number % len(keys)]}
            return (await connection.execute(BY_KEY, wanted)).one_or_none()

    async def put(number: int) -> None:
        async with engine.connect() as connection:
            await connection.execute(UPSERT, rows[number % len(rows)])

    try:
        yield Calls(get, put)
    finally:
        await engine.dispose()


@contextmanager
def pooled_clients(bench: Workbench, records: int, traffic: Traffic) -> Iterator[Slice]:
    """A pool of twenty."""
    with account_table(bench, records) as url:
        opened = partial(pooled, url, records)
        yield client_slice(bench, url, opened, traffic, uvloop=False)
