"""The change log has no holes: not under open transactions, nor after a restore."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pend_storage.errors import ChangesExpired
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url) as store:
        yield store


def put(store: PostgresStore, name: str, value: int = 0) -> int:
    return store.collection(Tally).put(Tally(name=name, value=value))


def keys(store: PostgresStore, after: int = 0) -> list[str]:
    return [r.key for change in store.changes(after) for r in change.records]


@contextmanager
def open_transaction(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of another session, which has an id and goes on."""
    with psycopg.connect(url) as connection:
        connection.execute("select pg_current_xact_id()")
        yield connection
        connection.rollback()


@contextmanager
def commit_under_way(url: str, key: str) -> Iterator[psycopg.Connection[Any]]:
    """A commit of another program: done, but not ended yet."""
    with psycopg.connect(url) as connection:
        body = f'{{"name":"{key}","value":1}}'
        answer = connection.execute(
            "select pend_put_tallies(null, %s, %s, null, null, null, null, false, null, false)",
            (key, body),
        ).fetchone()
        assert answer is not None
        assert answer[0].isdigit()
        yield connection


def test_a_commit_is_seen_although_others_have_open_transactions(
    url: str, store: PostgresStore
) -> None:
    with open_transaction(url):
        put(store, "a")

        assert keys(store) == ["a"]


def test_nothing_is_told_that_an_open_commit_may_come_before(
    url: str, store: PostgresStore
) -> None:
    put(store, "before")
    with commit_under_way(url, "slow") as slow:
        put(store, "quick")
        seen = list(store.changes())

        assert [r.key for change in seen for r in change.records] == ["before"]
        slow.commit()

    assert keys(store, seen[-1].sequence) == ["slow", "quick"]


def test_a_reader_who_follows_misses_nothing(url: str, store: PostgresStore) -> None:
    stop = threading.Event()
    versions: list[int] = []
    lock = threading.Lock()

    def write(name: str) -> None:
        number = 0
        with PostgresStore(SCHEMA, url) as own:
            while not stop.is_set():
                version = put(own, f"{name}{number}")
                number += 1
                with lock:
                    versions.append(version)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    followed: list[int] = []
    mark = 0
    while len(followed) < 600:
        for change in store.changes(mark):
            assert change.sequence > mark
            mark = change.sequence
            followed += [record.version for record in change.records]
    stop.set()
    for thread in threads:
        thread.join()
    for change in store.changes(mark):
        followed += [record.version for record in change.records]

    assert sorted(versions) == sorted(followed)


def test_a_fenced_store_gives_all_of_its_log(url: str, store: PostgresStore) -> None:
    put(store, "a")
    with open_transaction(url):
        put(store, "b")
        fenced = RoleState(Role.FENCED, 1).to_meta()
        assert store.compare_and_set_meta(ROLE_META, None, fenced)

        assert keys(store) == ["a", "b"]


def test_a_change_of_role_waits_for_a_commit_under_way(
    url: str, store: PostgresStore
) -> None:
    fenced = RoleState(Role.FENCED, 1).to_meta()
    done = threading.Event()

    def fence() -> None:
        store.compare_and_set_meta(ROLE_META, None, fenced)
        done.set()

    with commit_under_way(url, "a") as under_way:
        thread = threading.Thread(target=fence)
        thread.start()
        _wait_for_a_waiting_lock(url)
        assert not done.is_set()
        under_way.commit()
    thread.join()

    assert keys(store) == ["a"]
    assert store.role() == RoleState(Role.FENCED, 1)


def _wait_for_a_waiting_lock(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        pause = threading.Event()
        for _ in range(1000):
            row = connection.execute(
                "select count(*) from pg_locks where not granted "
                "and database = (select oid from pg_database "
                "where datname = current_database())"
            ).fetchone()
            if row is not None and row[0]:
                return
            pause.wait(0.01)
    pytest.fail("no session waits for a lock")


def test_the_head_is_below_a_commit_under_way(url: str, store: PostgresStore) -> None:
    with commit_under_way(url, "slow") as slow:
        put(store, "quick")
        head = store.head()
        slow.commit()

    assert keys(store, head) == ["slow", "quick"]
    assert all(change.sequence <= store.head() for change in store.changes())


def test_after_a_restore_on_a_younger_server_the_log_goes_on(url: str) -> None:
    with PostgresStore(SCHEMA, url) as store:
        put(store, "a")
        put(store, "b")
    # As on a server whose transaction ids have not come as far as these numbers.
    with psycopg.connect(url) as connection:
        connection.execute("update changes set sequence = sequence + 1000000000")
        connection.execute("update tallies set version = version + 1000000000")

    with PostgresStore(SCHEMA, url) as restored:
        assert keys(restored) == ["a", "b"]
        last = [change.sequence for change in restored.changes()][-1]
        assert restored.head() >= last
        version = put(restored, "a")
        assert version > last
        assert keys(restored, last) == ["a"]


def test_what_was_pruned_is_not_asked_for_in_vain(store: PostgresStore) -> None:
    first, second, third = (put(store, name) for name in "abc")

    store.prune(second)

    assert keys(store, second) == ["c"]
    with pytest.raises(ChangesExpired) as caught:
        keys(store, first)
    assert (caught.value.after, caught.value.oldest) == (first, second)
    store.prune(first)
    assert keys(store, second) == ["c"]
    store.prune(third + 10**12)
    head = store.head()
    assert head >= third
    put(store, "d")
    assert keys(store, head) == ["d"]


def test_pruning_while_it_is_read_is_told(store: PostgresStore) -> None:
    versions = [put(store, f"k{number:03}") for number in range(450)]
    reader = store.changes()
    next(reader)

    store.prune(versions[-1])

    with pytest.raises(ChangesExpired):
        list(reader)


def test_a_large_commit_is_one_entry_in_its_own_order(store: PostgresStore) -> None:
    tallies = [Tally(name=f"k{number % 97:03}{number}") for number in range(3000)]

    versions = store.collection(Tally).put_many(tallies)

    (change,) = store.changes()
    assert [record.key for record in change.records] == [t.name for t in tallies]
    assert [record.version for record in change.records] == versions
