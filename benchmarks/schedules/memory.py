"""Resident memory of a process with many records, and of one with many clients."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.case import Traffic
from benchmarks.clients import Calls, drive
from benchmarks.contenders import our_verbs
from benchmarks.contenders.async_store import shared
from benchmarks.record import SCHEMA, Account, account, revised
from benchmarks.results import Figure
from benchmarks.workbench import Workbench
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Child, Report

__all__ = ["run"]

_RECORDS: Final = 100_000
_QUICK_RECORDS: Final = 5_000
_CLIENTS: Final = 1_000
_MIB: Final = 2**20


def run(bench: Workbench, tell: Callable[[str], None]) -> Sequence[Figure]:
    """A process for the records, and one for the clients."""
    records = _QUICK_RECORDS if bench.plan.quick else _RECORDS
    tell(f"{records:,} records")
    directory = bench.directory("memory")
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as json:
        our_verbs.fill(json, records)
    figures = _reported(keep_records, directory)
    tell(f"{_CLIENTS:,} clients")
    with bench.database() as url:
        with PostgresStore(SCHEMA, url) as postgres:
            postgres.migrate()
            our_verbs.fill(postgres, _QUICK_RECORDS)
        figures += _reported(keep_clients, url, bench.plan.seconds)
    return [
        Figure(what=what, value=value, unit="MiB", note=note)
        for what, value, note in figures
    ]


def _reported(work: Callable[..., None], *args: object) -> list[Any]:
    with Child[Any](work, *args) as child:
        return list(child.finish().reports[-1])


def keep_records(report: Report, directory: Path) -> None:
    """Open a directory, read all of it, write a record."""
    logging.getLogger("pend_storage").setLevel(logging.CRITICAL)
    before = _resident()
    with JsonStore(SCHEMA, directory) as store:
        collection = store.collection(Account)
        records = sum(1 for _ in collection.scan())
        read = _resident() - before
        collection.put(revised(account(0), 1))
        written = _resident() - before
    report(
        [
            (f"JsonStore, {records:,} records, read", read, ""),
            (f"JsonStore, {records:,} records, written to", written, "all indexes"),
        ]
    )


def keep_clients(report: Report, url: str, seconds: float) -> None:
    """Have clients, idle and at work."""
    logging.getLogger("pend_storage").setLevel(logging.CRITICAL)
    report(asyncio.run(_clients(url, seconds)))


async def _clients(url: str, seconds: float) -> list[tuple[str, float, str]]:
    before = _resident()

    def make() -> PostgresStore:
        return PostgresStore(SCHEMA, url)

    async with shared(make, _QUICK_RECORDS) as calls:
        opened = _resident() - before
        begin = asyncio.Event()
        clients = [
            asyncio.create_task(_idle(begin, calls, number))
            for number in range(_CLIENTS)
        ]
        await asyncio.sleep(0)
        idle = _resident() - before
        begin.set()
        await asyncio.gather(*clients)
        await drive(calls, Traffic(clients=_CLIENTS), seconds, lambda: None, _CLIENTS)
        active = _resident() - before
    name = f"AsyncStore, {_CLIENTS:,} clients"
    return [
        ("AsyncStore, open", opened, "with what its clients will write"),
        (f"{name}, idle", idle, ""),
        (f"{name}, after work", active, ""),
    ]


async def _idle(begin: asyncio.Event, calls: Calls, number: int) -> None:
    await begin.wait()
    await calls.get(number)


def _resident() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / _MIB
