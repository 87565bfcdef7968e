"""A process of busy clients, for the trial of switching; started by the crash kit."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.record import SCHEMA, Account, accounts, revised
from pend_storage.backfill import backfill
from pend_storage.collection import Collection
from pend_storage.dualwrite import DualWriteStore
from pend_storage.errors import PendStorageError
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Report

__all__ = ["THREADS", "Client", "Place", "be_busy"]

THREADS: Final = 16
"""Clients in a process."""


@dataclass(frozen=True, slots=True)
class Place:
    """Addresses of the stores, and the file that ends the work."""

    directory: Path
    url: str
    end: Path

    def open(self) -> DualWriteStore:
        """The pair, as a process of a server opens it."""
        return DualWriteStore(
            json=JsonStore(SCHEMA, self.directory),
            postgres=PostgresStore(SCHEMA, self.url),
            backfill=backfill,
        )


@dataclass(slots=True)
class Client:
    """Calls and observations of one client."""

    key: str
    written: int = 0
    """The last revision that was acknowledged; so many writes there were."""
    reads: int = 0
    failed: int = 0
    stale: int = 0
    """Reads of something older than that."""
    waits: list[tuple[float, float]] = field(default_factory=list)
    """When a write began that took unusually long, and its seconds."""


_UNUSUAL: Final = 0.02


def be_busy(report: Report, place: Place, number: int) -> None:
    """Write and read until the end, then report the observations."""
    logging.getLogger("pend_storage").setLevel(logging.CRITICAL)
    mine = accounts((number + 1) * THREADS)[number * THREADS :]
    clients = [Client(account.id) for account in mine]
    with place.open() as store:
        collection = store.collection(Account)
        report("ready")
        threads = [
            threading.Thread(target=_work, args=(collection, account, client, place))
            for account, client in zip(mine, clients, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report(clients)


def _work(
    collection: Collection[Account], account: Account, client: Client, place: Place
) -> None:
    while not (client.written % 16 == 0 and place.end.exists()):
        wanted = client.written + 1
        began = time.monotonic()
        try:
            collection.put(revised(account, wanted))
        except PendStorageError:
            client.failed += 1
            continue
        client.written = wanted
        seconds = time.monotonic() - began
        if seconds > _UNUSUAL:
            client.waits.append((began, seconds))
        if wanted % 4 == 0:
            _read(collection, client)


def _read(collection: Collection[Account], client: Client) -> None:
    client.reads += 1
    try:
        found = collection.get(client.key)
    except PendStorageError:
        client.failed += 1
        return
    client.stale += found is None or found.metadata["rev"] != client.written
