"""AsyncStore over our stores, and the same stores without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import psycopg

from benchmarks.case import Traffic
from benchmarks.clients import Calls
from benchmarks.contenders import our_verbs
from benchmarks.contenders.client_slices import client_slice
from benchmarks.contenders.pair import dual_store
from benchmarks.measure import Slice
from benchmarks.record import SCHEMA, Account, revisions, shuffled
from benchmarks.workbench import Workbench
from pend_storage import AsyncStore
from pend_storage.backfill import backfill
from pend_storage.dualwrite import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore

__all__ = [
    "direct",
    "direct_clients",
    "dual_clients",
    "postgres_clients",
    "shared",
    "threaded",
    "threaded_clients",
]

Make: TypeAlias = Callable[[], Store]
"""Opens the store that a slice uses; the caller closes it."""


@asynccontextmanager
async def shared(make: Make, records: int) -> AsyncIterator[Calls]:
    """``AsyncStore``: what many clients want at the same time is asked for together."""
    keys = [account.id for account in shuffled(records)]
    news = revisions(records)
    async with AsyncStore(make()) as store:
        collection = store.collection(Account)
        yield Calls(
            lambda number: collection.get(keys[number % len(keys)]),
            lambda number: collection.put(news[number % len(news)]),
        )


@asynccontextmanager
async def threaded(make: Make, records: int) -> AsyncIterator[Calls]:
    """``asyncio.to_thread`` around each call of the store."""
    with make() as store:
        get, put = our_verbs.get(store, records), our_verbs.put(store, records)
        yield Calls(
            lambda number: asyncio.to_thread(get, number),
            lambda number: asyncio.to_thread(put, number),
        )


@asynccontextmanager
async def direct(make: Make, records: int) -> AsyncIterator[Calls]:
    """The store itself, on which the loop waits; for one client only."""
    with make() as store:
        get, put = our_verbs.get(store, records), our_verbs.put(store, records)

        async def ask(number: int) -> object:
            await asyncio.sleep(0)  # or no other task of the loop would ever run
            return get(number)

        async def write(number: int) -> object:
            await asyncio.sleep(0)
            return put(number)

        yield Calls(ask, write)


@contextmanager
def _filled(bench: Workbench, records: int) -> Iterator[str]:
    """The URL of a filled database."""
    with bench.database() as url:
        with PostgresStore(SCHEMA, url) as store:
            store.migrate()
            our_verbs.fill(store, records)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        yield url


@contextmanager
def _filled_pair(
    bench: Workbench, records: int, phase: Phase
) -> Iterator[tuple[str, Path]]:
    """The URL and the directory of a filled pair in a phase."""
    with bench.database() as url:
        directory = bench.directory("async-pair")
        json, postgres = JsonStore(SCHEMA, directory), PostgresStore(SCHEMA, url)
        postgres.migrate()
        with dual_store(json, postgres, phase) as store:
            our_verbs.fill(store, records)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        yield url, directory


@contextmanager
def postgres_clients(
    bench: Workbench, records: int, traffic: Traffic, *, uvloop: bool = False
) -> Iterator[Slice]:
    """AsyncStore over PostgresStore."""
    with _filled(bench, records) as url:
        opened = partial(shared, partial(PostgresStore, SCHEMA, url), records)
        yield client_slice(bench, url, opened, traffic, uvloop=uvloop)


@contextmanager
def dual_clients(
    bench: Workbench, records: int, traffic: Traffic, *, phase: Phase
) -> Iterator[Slice]:
    """AsyncStore over DualWriteStore: both stores are written."""
    with _filled_pair(bench, records, phase) as (url, directory):

        def make() -> Store:
            return DualWriteStore(
                json=JsonStore(SCHEMA, directory),
                postgres=PostgresStore(SCHEMA, url),
                backfill=backfill,
            )

        opened = partial(shared, make, records)
        yield client_slice(bench, url, opened, traffic, uvloop=False)


@contextmanager
def threaded_clients(
    bench: Workbench, records: int, traffic: Traffic
) -> Iterator[Slice]:
    """PostgresStore in threads."""
    with _filled(bench, records) as url:
        opened = partial(threaded, partial(PostgresStore, SCHEMA, url), records)
        yield client_slice(bench, url, opened, traffic, uvloop=False)


@contextmanager
def direct_clients(bench: Workbench, records: int, traffic: Traffic) -> Iterator[Slice]:
    """PostgresStore, called by the only client there is."""
    with _filled(bench, records) as url:
        opened = partial(direct, partial(PostgresStore, SCHEMA, url), records)
        yield client_slice(bench, url, opened, traffic, uvloop=False)
