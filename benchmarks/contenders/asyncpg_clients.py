"""asyncpg: its pool as it comes, without its reset query, and one held connection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import astuple
from functools import partial
from typing import Any, Final

import asyncpg

from benchmarks.case import Traffic
from benchmarks.clients import Calls
from benchmarks.contenders.account_table import COLUMNS, SELECT, account_table
from benchmarks.contenders.client_slices import POOL, client_slice
from benchmarks.measure import Slice
from benchmarks.record import revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["held", "held_clients", "pooled", "pooled_clients"]

_BY_KEY: Final = f"{SELECT} where id = $1"
_UPSERT: Final = (
    f"insert into accounts ({', '.join(COLUMNS)}) "
    f"values ({', '.join(f'${n + 1}' for n in range(len(COLUMNS)))}) "
    "on conflict (id) do update set "
    + ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
)


class _WithoutReset(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """A connection that is given back as it is: a round trip less for each call."""

    __slots__ = ()

    def get_reset_query(self) -> str:
        return ""


async def _decode_json(connection: asyncpg.Connection) -> None:
    """As its documentation has it; without, the caller would get text."""
    await connection.set_type_codec(
        "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
    )


def _calls(queries: Any, records: int) -> Calls:
    """The verbs of a pool are those of a connection."""
    keys = [account.id for account in shuffled(records)]
    rows = [astuple(account) for account in revisions(records)]

    async def get(number: int) -> object:
        found = await queries.fetchrow(_BY_KEY, keys[number % len(keys)])
        return tuple(found)

    async def put(number: int) -> None:
        await queries.execute(_UPSERT, *rows[number % len(rows)])

    return Calls(get, put)


@asynccontextmanager
async def pooled(url: str, records: int, *, reset: bool = True) -> AsyncIterator[Calls]:
    """A pool; a connection is fetched and given back at each call."""
    async with asyncpg.create_pool(
        url,
        min_size=POOL,
        max_size=POOL,
        init=_decode_json,
        connection_class=asyncpg.Connection if reset else _WithoutReset,
    ) as pool:
        yield _calls(pool, records)


@asynccontextmanager
async def held(url: str, records: int) -> AsyncIterator[Calls]:
    """One connection of a pool, which is kept; for one client only."""
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=1, init=_decode_json) as pool,
        pool.acquire() as connection,
    ):
        yield _calls(connection, records)


@contextmanager
def pooled_clients(
    bench: Workbench,
    records: int,
    traffic: Traffic,
    *,
    reset: bool = True,
    uvloop: bool = False,
) -> Iterator[Slice]:
    """A pool of twenty."""
    with account_table(bench, records) as url:
        opened = partial(pooled, url, records, reset=reset)
        yield client_slice(bench, url, opened, traffic, uvloop=uvloop)


@contextmanager
def held_clients(bench: Workbench, records: int, traffic: Traffic) -> Iterator[Slice]:
    """One connection."""
    with account_table(bench, records) as url:
        opened = partial(held, url, records)
        yield client_slice(bench, url, opened, traffic, uvloop=False)
