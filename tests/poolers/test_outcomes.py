"""Error messages of PgBouncer do not show what the server did.

Every test counts: acknowledged increments are all there, refused ones are not, and
only those with an unknown outcome may be there or not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pend_storage.errors import PendStorageError, StoreUnavailable
from pend_storage.store import Store
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._connection import connection
from pend_storage.stores.postgres._connection.server_errors import ConnectionLost
from pend_storage.testing.domain import SCHEMA, Tally
from pend_storage.testing.servers import EmbeddedPgBouncer

from .conftest import Before, name_of

WRITERS = 6


def run(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def through(bouncer: EmbeddedPgBouncer, url: str, **settings: Any) -> PostgresStore:
    return PostgresStore(
        SCHEMA, bouncer.url_of(name_of(url)), pooler="transaction", **settings
    )


def value(url: str, name: str) -> int:
    ((found,),) = run(url, f"select value from tallies where name = '{name}'")
    return int(found)


def increment(store: Store, name: str, called: list[int]) -> None:
    def add(tx: Any) -> None:
        called.append(1)
        tallies = tx.collection(Tally)
        found = tallies.get(name)
        tallies.put(Tally(name=name, value=found.value + 1))

    store.run(add)


Where = Callable[[Callable[[], None]], None]


@pytest.fixture(params=["main thread", "other thread"])
def where(request: pytest.FixtureRequest) -> Where:
    """Runs something where a link waits in Python, or where it leaves that to libpq."""

    def work(action: Callable[[], None]) -> None:
        if request.param == "main thread":
            action()
            return
        with ThreadPoolExecutor(1) as other:
            other.submit(action).result()

    return work


@contextmanager
def held_row(url: str, name: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session has a row locked until it is closed, or the end."""
    with psycopg.connect(url) as holder:
        holder.execute("select 1 from tallies where name = %s for update", (name,))
        yield holder


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pooler_that_hangs_up_does_not_make_a_commit_happen_twice(
    url: str, bouncer_before: Before, where: Where
) -> None:
    bouncer = bouncer_before(url, query_timeout="1")
    with through(bouncer, url) as store:
        store.collection(Tally).put(Tally(name="a", value=0))
        called: list[int] = []
        told: list[StoreUnavailable] = []

        def work() -> None:
            try:
                increment(store, "a", called)
            except StoreUnavailable as error:
                told.append(error)

        with held_row(url, "a") as holder:
            release = threading.Timer(2.0, holder.close)
            release.start()
            where(work)
            release.join()
        # The server does not notice the hang-up, gets the row, and commits.
        wait_until(lambda: value(url, "a") == 1)
        time.sleep(0.3)

        assert value(url, "a") == 1
        assert len(called) == 1
        assert [error.outcome_known for error in told] == [False] * len(told)


def test_a_put_of_a_version_does_not_meet_its_own_commit(
    url: str, bouncer_before: Before, where: Where
) -> None:
    bouncer = bouncer_before(url, query_timeout="1")
    with through(bouncer, url) as store:
        tallies = store.collection(Tally)
        version = tallies.put(Tally(name="a", value=0))
        told: list[PendStorageError] = []

        def work() -> None:
            try:
                tallies.put(Tally(name="a", value=7), if_version=version)
            except PendStorageError as error:
                told.append(error)

        with held_row(url, "a") as holder:
            release = threading.Timer(2.0, holder.close)
            release.start()
            where(work)
            release.join()
        wait_until(lambda: value(url, "a") == 7)

        assert all(
            isinstance(error, StoreUnavailable) and not error.outcome_known
            for error in told
        )


class Count:
    """Increments under way, by what was said of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.acknowledged = 0
        self.unknown = 0
        self.refused = 0
        self.stop = threading.Event()

    def add_until_stopped(self, store: Store) -> None:
        while not self.stop.is_set():
            try:
                increment(store, "a", [])
            except StoreUnavailable as error:
                with self.lock:
                    self.unknown += not error.outcome_known
                    self.refused += error.outcome_known
            except PendStorageError:  # ten conflicts in a row
                with self.lock:
                    self.refused += 1
            else:
                with self.lock:
                    self.acknowledged += 1

    def wait_for_more(self, number: int = 40) -> None:
        enough = self.acknowledged + number
        wait_until(lambda: self.acknowledged >= enough)

    def judge(self, found: int) -> None:
        told = (self.acknowledged, self.unknown, self.refused)
        assert self.acknowledged <= found <= self.acknowledged + self.unknown, told


@contextmanager
def writers(store: Store, url: str) -> Iterator[Count]:
    """Threads that increment one counter; judged at the end."""
    store.collection(Tally).put(Tally(name="a", value=0))
    count = Count()
    threads = [
        threading.Thread(target=count.add_until_stopped, args=(store,))
        for _ in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    try:
        count.wait_for_more()
        yield count
        count.wait_for_more()
    finally:
        count.stop.set()
        for thread in threads:
            thread.join()
    wait_until(lambda: not _under_way(url))
    count.judge(value(url, "a"))


def _under_way(url: str) -> list[Any]:
    """Statements that go on though no client waits for them any more."""
    return run(
        url,
        "select pid from pg_stat_activity where datname = current_database() "
        "and state = 'active' and pid <> pg_backend_pid()",
    )


def test_increments_are_counted_while_sessions_are_killed(
    url: str, bouncer_before: Before
) -> None:
    bouncer = bouncer_before(url, default_pool_size="4", server_login_retry="1")
    with through(bouncer, url) as store, writers(store, url) as count:
        for _ in range(12):
            run(
                url,
                "select pg_terminate_backend(pid) from pg_stat_activity where "
                "datname = current_database() and pid <> pg_backend_pid()",
            )
            count.wait_for_more(10)


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Messages of connections that ended while a statement was under way."""
    heard: list[str] = []

    class Heard(ConnectionLost):
        def __init__(self, reason: str, *, sent: bool) -> None:
            super().__init__(reason, sent=sent)
            if sent:
                heard.append(reason)

    monkeypatch.setattr(connection, "ConnectionLost", Heard)
    return heard


def test_increments_are_counted_while_the_pooler_gives_up_statements(
    url: str, bouncer_before: Before, given_up: list[str]
) -> None:
    bouncer = bouncer_before(url, query_timeout="1")
    with through(bouncer, url) as store, writers(store, url) as count:
        for _ in range(2):
            before = len(given_up)
            with held_row(url, "a"):
                wait_until(lambda before=before: len(given_up) > before)  # type: ignore[misc]
            count.wait_for_more(10)

    assert any("query timeout" in reason for reason in given_up)


def test_a_pause_of_the_pooler_is_waited_for(url: str, bouncer_before: Before) -> None:
    bouncer = bouncer_before(url)
    with through(bouncer, url) as store, writers(store, url) as count:
        for _ in range(3):
            bouncer.order("PAUSE")
            time.sleep(0.3)
            bouncer.order("RESUME")
            count.wait_for_more(10)

    assert not count.unknown


def test_increments_are_counted_while_the_pooler_is_killed(
    url: str, bouncer_before: Before
) -> None:
    bouncer = bouncer_before(url)
    with (
        through(bouncer, url, connect_timeout=10.0) as store,
        writers(store, url) as count,
    ):
        for _ in range(3):
            bouncer.kill()
            bouncer.start()
            count.wait_for_more(10)


def test_a_pooler_that_was_not_told_of_is_named_with_the_setting(
    url: str, bouncer: EmbeddedPgBouncer
) -> None:
    from pend_storage.errors import ConfigError

    with (
        PostgresStore(SCHEMA, bouncer.url_of(name_of(url))) as store,
        pytest.raises(ConfigError, match='pooler = "transaction"'),
    ):
        store.collection(Tally).get("a")
