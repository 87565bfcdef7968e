"""A server that crashes, under writers who go on: nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import psycopg
import pytest

from pend_storage.errors import StoreUnavailable
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally
from pend_storage.testing.servers import temporary_postgres


@pytest.fixture
def url() -> Iterator[str]:
    """A server of its own, because it is going to crash."""
    with temporary_postgres() as server:
        yield server.url


def crash(url: str) -> None:
    """Kill one of the server's processes: all of it starts again, from its log."""
    with psycopg.connect(url) as connection:
        pid = connection.info.backend_pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_writers_survive_crashes_and_lose_nothing(url: str) -> None:
    acknowledged: dict[str, int] = {}
    doubtful: set[str] = set()
    refused: set[str] = set()
    stop = threading.Event()
    lock = threading.Lock()
    with PostgresStore(SCHEMA, url, connect_timeout=10.0) as store:
        store.migrate()
        tallies = store.collection(Tally)

        def write(writer: int) -> None:
            number = 0
            while not stop.is_set():
                name = f"{writer}/{number}"
                number += 1
                try:
                    version = tallies.put(Tally(name=name, value=number))
                except StoreUnavailable as error:
                    with lock:
                        (refused if error.outcome_known else doubtful).add(name)
                else:
                    with lock:
                        acknowledged[name] = version

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        pause = threading.Event()

        def wait_for_more() -> None:  # so the server is up, again
            enough = len(acknowledged) + 150
            while len(acknowledged) < enough:
                pause.wait(0.01)

        for _ in range(3):
            wait_for_more()
            crash(url)
        wait_for_more()
        stop.set()
        for thread in threads:
            thread.join()

        logged = {r.key: r.version for c in store.changes() for r in c.records}
        stored = {row.key: row.version for row in store.scan("tallies")}
        assert logged == stored
        assert acknowledged.items() <= logged.items()
        assert not refused & logged.keys()
        assert logged.keys() - acknowledged.keys() <= doubtful
