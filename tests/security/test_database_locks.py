"""A role without grants cannot stop a store, whatever advisory locks it takes."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

import pend_storage as ps
from pend_storage.errors import LockTimeout
from pend_storage.records import JSON, ChangedRecord
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore

NEVER_LONGER = 5.0
"""Seconds. A commit waits 0.25 s before it looks who is in the way."""
KEYS = [f"k{n}" for n in range(12)]


@dataclass(frozen=True)
class Berth:
    id: str
    name: str


SCHEMA = Schema([ps.collection("berths", Berth, unique=["name"])])


@contextlib.contextmanager
def stranger(url: str) -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    """A role that may log in, and has no grant; yields how it connects."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("drop role if exists pend_nobody")
        owner.execute("create role pend_nobody login")
        guest = psycopg.conninfo.make_conninfo(url, user="pend_nobody")
        opened: list[psycopg.Connection[Any]] = []

        def connect() -> psycopg.Connection[Any]:
            opened.append(psycopg.connect(guest, autocommit=True))
            return opened[-1]

        try:
            yield connect
        finally:
            for connection in opened:
                connection.close()
            ended = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'pend_nobody'"
            owner.execute(ended.encode())
            owner.execute("drop role pend_nobody")


def take_computed(connection: psycopg.Connection[Any]) -> None:
    """Take every lock whose number follows from the source of the library."""
    for number in (0x70656E64_73746F72, 0x70656E64_6D696772):
        connection.execute("select pg_advisory_lock(%s)", (number,))
    for key in KEYS:
        connection.execute(
            "select pg_advisory_lock(hashtextextended('berths' || chr(1) || %s, 0)),"
            "pg_advisory_lock(hashtextextended("
            "'berths' || chr(2) || '0' || chr(1) || %s, 0))",
            (key, f"name of {key}"),
        )
    digest = hashlib.sha256(b"pend_storage lock\nname").digest()
    queue, holders = struct.unpack_from("!qi", digest)
    connection.execute("select pg_advisory_lock(%s)", (queue,))
    connection.execute("select pg_advisory_lock(%s, 0)", (holders,))


def berth(key: str) -> Berth:
    return Berth(key, f"name of {key}")


def timed(call: Callable[[], Any]) -> Any:
    began = time.monotonic()
    result = call()
    assert time.monotonic() - began < NEVER_LONGER
    return result


@pytest.fixture
def store(new_migrated_database: Callable[[Schema], str]) -> Iterator[PostgresStore]:
    with PostgresStore(
        SCHEMA, new_migrated_database(SCHEMA), statement_timeout=20
    ) as store:
        yield store


def url_of(store: PostgresStore) -> str:
    return psycopg.conninfo.make_conninfo(**store.address.settings)


def test_computed_locks_stop_no_writer(store: PostgresStore) -> None:
    berths = store.collection(Berth)
    with stranger(url_of(store)) as connect:
        take_computed(connect())

        version = timed(lambda: berths.put(berth(KEYS[0])))
        timed(lambda: berths.put(berth(KEYS[0]), if_version=version))
        timed(lambda: berths.put_many([berth(key) for key in KEYS]))
        timed(lambda: berths.delete(KEYS[1]))
        with store.transaction() as transaction:
            transaction.collection(Berth).get(KEYS[2])
            transaction.collection(Berth).put(Berth("free", "free"))
        with store.lock("name", NEVER_LONGER) as is_held:
            assert is_held()
            with pytest.raises(LockTimeout), store.lock("name", 0.5):
                pass
        assert timed(lambda: len([*store.changes()])) == 5
        timed(lambda: store.migrate(wait=3.0))


def test_computed_locks_stop_no_group_of_writers(store: PostgresStore) -> None:
    berths = store.collection(Berth)
    failed: list[BaseException] = []

    def write(key: str) -> None:
        try:
            timed(lambda: berths.put(berth(key)))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failed.append(error)

    with stranger(url_of(store)) as connect:
        take_computed(connect())
        threads = [threading.Thread(target=write, args=(key,)) for key in KEYS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        batches = [SCHEMA.batch([SCHEMA.put("berths", berth(key))]) for key in KEYS]
        outcomes = timed(lambda: store.commit_each(batches))
        assert all(isinstance(outcome, tuple) for outcome in outcomes)


def test_computed_locks_stop_no_change_of_roles_and_no_relay(
    store: PostgresStore,
) -> None:
    with stranger(url_of(store)) as connect:
        take_computed(connect())
        secondary: dict[str, JSON] = {"role": "secondary", "epoch": 1}
        assert timed(lambda: store.compare_and_set_meta("role", None, secondary))
        records = [ChangedRecord("berths", key, 10**15, berth(key)) for key in KEYS]
        assert timed(lambda: store.apply(records, epoch=1)) == len(KEYS)


def test_locks_that_a_stranger_reads_stop_no_writer(store: PostgresStore) -> None:
    """It asks for each lock that any session holds, as soon as it sees it.

    A commit waits once for all that a stranger has, not once for each of its keys.
    """
    berths = store.collection(Berth)
    many = [berth(f"many {number}") for number in range(40)]
    done = threading.Event()
    seen: set[tuple[int, int, int]] = set()

    def take(connection: psycopg.Connection[Any], place: tuple[int, int, int]) -> None:
        high, low, kind = place
        with contextlib.suppress(psycopg.Error):
            if kind == 1:
                number = (high << 32 | low) - (1 << 64 if high >> 31 else 0)
                connection.execute("select pg_advisory_lock(%s)", (number,))
            else:
                parts = [n - (1 << 32) if n >> 31 else n for n in (high, low)]
                connection.execute("select pg_advisory_lock(%s::int, %s::int)", parts)

    def watch(connect: Callable[[], psycopg.Connection[Any]]) -> None:
        watcher = connect()
        while not done.is_set():
            rows = watcher.execute(
                "select distinct classid::bigint, objid::bigint, objsubid::int "
                "from pg_locks where locktype = 'advisory'"
            ).fetchall()
            for place in set(rows) - seen:
                if len(seen) < 60:
                    seen.add(place)
                    threading.Thread(
                        target=take, args=(connect(), place), daemon=True
                    ).start()

    with stranger(url_of(store)) as connect:
        thread = threading.Thread(target=watch, args=(connect,))
        thread.start()
        try:
            until = time.monotonic() + 6.0
            while time.monotonic() < until:
                timed(lambda: berths.put(berth(KEYS[0])))
                timed(lambda: berths.put_many(many))
                with store.lock("name", NEVER_LONGER):
                    pass
        finally:
            done.set()
            thread.join()
    assert seen


def test_a_stranger_does_not_hold_back_the_change_log(store: PostgresStore) -> None:
    store.collection(Berth).put(berth("a"))
    with stranger(url_of(store)) as connect:
        holder = connect()
        holder.execute("begin")
        holder.execute("select pg_current_xact_id()")
        take_computed(holder)
        store.collection(Berth).put(berth("b"))
        assert [r.key for change in store.changes() for r in change.records] == [
            "a",
            "b",
        ]


def test_a_named_lock_has_one_holder_at_a_time(store: PostgresStore) -> None:
    """Beside a stranger who takes and frees the lock of the name all the time."""
    counts = {"inside": 0, "most": 0, "entered": 0}
    failed: list[BaseException] = []
    done = threading.Event()

    def disturb(connection: psycopg.Connection[Any]) -> None:
        digest = hashlib.sha256(b"pend_storage lock\nname").digest()
        (queue,) = struct.unpack_from("!q", digest)
        while not done.is_set():
            connection.execute("select pg_advisory_lock(%s)", (queue,))
            done.wait(0.3)
            connection.execute("select pg_advisory_unlock(%s)", (queue,))
            done.wait(0.01)

    def enter() -> None:
        try:
            for _ in range(3):
                with store.lock("name", 30.0):
                    counts["inside"] += 1
                    counts["most"] = max(counts["most"], counts["inside"])
                    done.wait(0.02)
                    counts["inside"] -= 1
                    counts["entered"] += 1
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failed.append(error)

    with stranger(url_of(store)) as connect:
        disturber = threading.Thread(target=disturb, args=(connect(),))
        threads = [threading.Thread(target=enter) for _ in range(4)]
        disturber.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        disturber.join()
    assert failed == []
    assert counts == {"inside": 0, "most": 1, "entered": 12}


def test_the_store_lock_needs_a_grant(store: PostgresStore) -> None:
    with stranger(url_of(store)) as connect:
        for mode in ("row share", "exclusive"):
            statement = f"begin; lock table pend_store_lock in {mode} mode"
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connect().execute(statement.encode())
