"""Snapshots of PostgreSQL: exact, canonical, under any role and pooler that may write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from pend_storage._model.records import ChangedRecord
from pend_storage.errors import ConfigError, LockTimeout, StoreUnavailable
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally, a_tally
from pend_storage.testing.servers import find_pgbouncer, temporary_pgbouncer
from tests.backup.postgres_rows import (
    content,
    fill,
    loaded_from,
    rows_in,
    stored,
)
from tests.security.database_roles import new_roles


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url) as store:
        yield store


def put(store: PostgresStore, name: str, value: int = 0) -> int:
    return store.collection(Tally).put(Tally(name=name, value=value))


def test_it_has_every_row_as_the_codec_writes_it(store: PostgresStore) -> None:
    fill(store)

    with store.snapshot() as snapshot:
        rows = rows_in(snapshot, store)

    assert loaded_from(rows) == content(store)
    assert len(rows) == len(content(store))
    for name, row in rows:
        if row.body is not None:
            record = store.collection(name).get(row.key)
            assert row.body == SCHEMA[name].codec.encode(record)


def test_its_point_is_the_last_commit(store: PostgresStore) -> None:
    put(store, "a")
    last = put(store, "b")

    with store.snapshot() as snapshot:
        point = snapshot.point
        later = put(store, "c")
        names = {row.key for row in snapshot.rows("tallies")}

    assert point.sequence == last
    assert point.identity == store.identity() == snapshot.meta["identity"]
    assert point.epoch == 0
    assert names == {"a", "b"}
    assert later > point.sequence
    assert [change.sequence for change in store.changes(point.sequence)] == [later]


def test_no_later_commit_has_an_earlier_time(store: PostgresStore) -> None:
    put(store, "a")
    with store.snapshot() as snapshot:
        put(store, "b")

    before, after = (change.at for change in store.changes())
    assert before <= snapshot.at <= after


def test_the_point_of_a_promoted_store_is_above_what_it_applied(
    store: PostgresStore,
) -> None:
    put(store, "mine")
    far = store.head() + 5_000_000
    secondary = RoleState(Role.SECONDARY, 3)
    assert store.compare_and_set_meta(ROLE_META, None, secondary.to_meta())
    store.apply([ChangedRecord("tallies", "theirs", far, a_tally("theirs"))], epoch=3)
    primary = RoleState(Role.PRIMARY, 4)
    assert store.compare_and_set_meta(ROLE_META, secondary.to_meta(), primary.to_meta())

    with store.snapshot() as snapshot:
        assert snapshot.point.sequence == far
        assert snapshot.point.epoch == 4
    own = put(store, "mine", 2)
    assert own > far
    with store.snapshot() as snapshot:
        assert snapshot.point.sequence == own


def test_the_point_of_a_pruned_store_is_where_its_log_begins(
    store: PostgresStore,
) -> None:
    put(store, "a")
    store.prune(store.head())

    with store.snapshot() as snapshot:
        point = snapshot.point

    assert list(store.changes(point.sequence)) == []
    later = put(store, "b")
    assert [change.sequence for change in store.changes(point.sequence)] == [later]


def test_it_is_exact_under_many_writers(store: PostgresStore) -> None:
    stop = threading.Event()

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            put(store, f"{writer}-{number % 7}", number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    found = []
    try:
        for _ in range(12):
            with store.snapshot() as snapshot:
                rows = {row.key: row.version for row in snapshot.rows("tallies")}
                found.append((snapshot.point.sequence, rows))
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    log = list(store.changes())
    for sequence, rows in found:
        replayed: dict[str, int] = {}
        for change in log:
            if change.sequence <= sequence:
                replayed |= {item.key: item.version for item in change.records}
        assert rows == replayed


def test_vacuum_leaves_the_rows_of_a_snapshot(store: PostgresStore, url: str) -> None:
    fill(store, 5)
    before = content(store)
    with (
        store.snapshot() as snapshot,
        psycopg.connect(url, autocommit=True) as admin,
    ):
        for number in range(5):
            store.collection(Tally).put(a_tally(f"t{number:03}", 100))
        admin.execute("vacuum tallies, tombstones")
        admin.execute("vacuum (freeze) ships")
        assert loaded_from(rows_in(snapshot, store)) == before


def test_an_iteration_may_be_abandoned(store: PostgresStore, url: str) -> None:
    with psycopg.connect(url) as admin:  # more than fits into the buffers in between
        admin.execute(
            "insert into logs (id, text, version) "
            "select n::text, repeat('x', 1000), n from generate_series(1, 20000) as n"
        )
    before = content(store)
    with store.snapshot() as snapshot:
        rows = snapshot.rows("logs")
        next(rows)
        rows.close()  # type: ignore[attr-defined]  # a generator
        put(store, "later")
        assert loaded_from(rows_in(snapshot, store)) == before


def test_two_iterations_at_once_are_refused(store: PostgresStore) -> None:
    fill(store, 3)
    with store.snapshot() as snapshot:
        first = snapshot.rows("ships")
        next(first)
        with pytest.raises(RuntimeError, match="finish one iteration"):
            next(snapshot.rows("cargo"))
        assert len(list(first)) == 2


def test_no_timeout_of_a_statement_ends_it(url: str) -> None:
    with PostgresStore(SCHEMA, url, statement_timeout=0.2) as store:
        fill(store, 3)
        with store.snapshot() as snapshot:
            list(snapshot.rows("ships"))
            time.sleep(0.6)  # longer than idle_in_transaction_session_timeout
            assert len(list(snapshot.rows("cargo"))) == 3


def test_a_held_store_lock_is_named(url: str) -> None:
    with (
        PostgresStore(SCHEMA, url, statement_timeout=0.5) as store,
        psycopg.connect(url, application_name="someone") as other,
    ):
        store.identity()
        other.execute("lock table pend_store_lock in row share mode")
        with pytest.raises(LockTimeout, match="someone"), store.snapshot():
            pass


def test_a_lost_connection_is_no_end_of_the_rows(
    store: PostgresStore, url: str
) -> None:
    for number in range(40):
        put(store, f"{number}")
    with (
        psycopg.connect(url, autocommit=True) as admin,
        store.snapshot() as snapshot,
    ):
        admin.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = current_database() and state = 'idle in transaction'"
        )
        with pytest.raises(StoreUnavailable):
            list(snapshot.rows("tallies"))


def test_the_application_role_may_and_the_reader_learns_how(
    postgres_server: str, url: str
) -> None:
    with new_roles(postgres_server) as roles:
        roles.grant(url, SCHEMA)
        with PostgresStore(SCHEMA, roles.url(url, "application")) as store:
            put(store, "a")
            with store.snapshot() as snapshot:
                assert [row.key for row in snapshot.rows("tallies")] == ["a"]
        with (
            PostgresStore(SCHEMA, roles.url(url, "reader")) as store,
            pytest.raises(ConfigError, match="grant select, update on"),
            store.snapshot(),
        ):
            pass


def test_it_needs_one_connection_of_a_pooler(
    postgres_server: str, url: str, new_migrated_database: Callable[[Schema], str]
) -> None:
    if find_pgbouncer() is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    settings = {"default_pool_size": "1", "server_idle_timeout": "1"}
    database, other = (
        str(psycopg.conninfo.conninfo_to_dict(each)["dbname"])
        for each in (url, new_migrated_database(SCHEMA))
    )
    with temporary_pgbouncer(postgres_server, settings) as bouncer:
        pooled = bouncer.url_of(database)
        with PostgresStore(SCHEMA, pooled, pooler="transaction") as store:
            fill(store, 5)
            before = content(store)
            with store.snapshot() as snapshot:
                rows = rows_in(snapshot, store)
            log = list(stored(store.changes()))
        assert loaded_from(rows) == before
        pooled = bouncer.url_of(other)
        with PostgresStore(SCHEMA, pooled, pooler="transaction") as store:
            store.load_snapshot(rows)
            store.load_changes(log)
            assert content(store) == before
            assert list(store.record_history("ships", "s001")) == []
