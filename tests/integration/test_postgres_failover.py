"""Incarnation: each connection checks the server behind an address, which may change."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally
from pend_storage.testing.servers import EmbeddedPostgres, temporary_postgres

from .activity import UNDER_TEST, run, sessions, wait_until
from .failover import either, promote, standby_of

SETTINGS = {"fsync": "off"}


@pytest.fixture
def servers() -> Iterator[tuple[EmbeddedPostgres, EmbeddedPostgres]]:
    """A primary with the tables, and its standby."""
    with temporary_postgres(settings=SETTINGS) as primary:
        with PostgresStore(SCHEMA, primary.url) as store:
            store.migrate()
            put(store, "before")
        with standby_of(primary) as standby:
            yield primary, standby


def put(store: PostgresStore, name: str, value: int = 0) -> int:
    return store.collection(Tally).put(Tally(name=name, value=value))


def get(store: PostgresStore, name: str) -> Tally | None:
    return store.collection(Tally).get(name)


def demote(server: EmbeddedPostgres) -> None:
    """The server stays up and takes no writes any more; no connection breaks."""
    run(server.url, "alter system set default_transaction_read_only = on")
    run(server.url, "select pg_reload_conf()")
    wait_until(
        lambda: run(server.url, "show default_transaction_read_only") == [("on",)],
        "the setting",
    )


def test_a_server_that_turned_read_only_is_left_for_the_present_primary(
    servers: tuple[EmbeddedPostgres, EmbeddedPostgres],
) -> None:
    old, new = servers
    events: list[Event] = []
    with PostgresStore(
        SCHEMA, either(old, new), application_name=UNDER_TEST, hook=events.append
    ) as store:
        before = store.incarnation()
        connections = [store._client.acquire() for _ in range(3)]
        for connection in connections:
            store._client._pool.release(connection)
        promote(new)
        demote(old)

        put(store, "after")

        assert get(store, "after") is not None
        assert run(new.url, "select 1 from tallies where name = 'after'") == [(1,)]
        assert sessions(old.url) == []
        now = store.incarnation()
        assert now != before
        (event,) = [event for event in events if event.name == "server-changed"]
        assert before in event.message
        assert now in event.message
        assert (event.fields["before"], event.fields["now"]) == (before, now)
        assert store._client.generation == 1
        assert store.meta("postgres.home") == now


def test_a_standby_answers_reads_and_says_that_it_takes_no_writes(
    servers: tuple[EmbeddedPostgres, EmbeddedPostgres],
) -> None:
    _, standby = servers
    with PostgresStore(SCHEMA, standby.url, application_name=UNDER_TEST) as store:
        assert get(store, "before") is not None
        assert store.collection(Tally).count() == 1
        assert len(list(store.changes())) == 1
        for write in (
            lambda: put(store, "a"),
            lambda: store.collection(Tally).put_many(
                [Tally(name="a"), Tally(name="b")]
            ),
            lambda: store.compare_and_set_meta("x", None, 1),
            store.migrate,
        ):
            with pytest.raises(ConfigError, match="the server is read-only") as told:
                write()
            assert isinstance(told.value, StoreUnavailable)
            assert told.value.outcome_known
            assert "try again" not in str(told.value)
        assert get(store, "before") is not None


def test_a_standby_that_is_promoted_under_a_store_takes_its_writes(
    servers: tuple[EmbeddedPostgres, EmbeddedPostgres],
) -> None:
    _, standby = servers
    events: list[Event] = []
    with PostgresStore(SCHEMA, standby.url, hook=events.append) as store:
        before = store.incarnation()
        promote(standby)

        put(store, "after")

        now = store.incarnation()
        assert now.split("/")[0] == before.split("/")[0]
        assert int(now.split("/")[1]) == int(before.split("/")[1]) + 1
        assert [event.name for event in events] == ["server-changed"]


def test_an_exchange_that_breaks_no_connection_is_noticed_by_the_next_one() -> None:
    events: list[Event] = []
    with (
        temporary_postgres(settings=SETTINGS) as first,
        temporary_postgres(settings=SETTINGS) as second,
    ):
        address = Path(tempfile.mkdtemp(dir="/tmp")) / "s"  # a socket's path is short
        for server in (second, first):
            with PostgresStore(SCHEMA, server.url) as store:
                store.migrate()
        address.symlink_to(first.sockets)
        url = f"postgresql://postgres@/postgres?host={address}&port=5432"
        with PostgresStore(
            SCHEMA, url, application_name=UNDER_TEST, hook=events.append
        ) as store:
            put(store, "a")
            held = store._client.acquire()  # in use all the time
            address.unlink()
            address.symlink_to(second.sockets)

            put(store, "b")

            assert [event.name for event in events] == ["server-changed"]
            assert events[0].level == logging.WARNING
            store._client._pool.release(held)
            put(store, "c")
            assert sessions(first.url) == []
            assert len(sessions(second.url)) == 1
            assert len(events) == 1
        shutil.rmtree(address.parent)


def test_a_restart_is_no_other_server() -> None:
    events: list[Event] = []
    with (
        temporary_postgres(settings=SETTINGS) as server,
        PostgresStore(
            SCHEMA, server.url, hook=events.append, connect_timeout=10
        ) as store,
    ):
        store.migrate()
        put(store, "a")
        before = store.incarnation()
        server.kill()
        server.start()

        put(store, "b")

        assert store.incarnation() == before
        assert "server-changed" not in [event.name for event in events]


def test_a_table_that_was_restored_is_another_incarnation(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with PostgresStore(SCHEMA, url) as store:
        store.migrate()
        before = store.incarnation()
        run(
            url,
            "create table again (like changes including all); drop table changes; "
            "alter table again rename to changes",
        )

        now = store.incarnation()
        assert now != before
        assert now.rpartition("/")[0] == before.rpartition("/")[0]


def test_a_database_that_came_from_elsewhere_goes_on_above_its_numbers(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with PostgresStore(SCHEMA, url) as store:
        store.migrate()
        put(store, "a")
    high = 2**52
    run(
        url,
        f"update changes set sequence = {high}; update tallies set version = {high}",
    )
    run(url, "update store_meta set value = '\"7/1/1/1\"' where name = 'postgres.home'")

    with PostgresStore(SCHEMA, url) as store:
        assert put(store, "b") > high
        assert store.meta("postgres.home") == store.incarnation()


def test_a_service_that_hides_its_identity_is_served_without_it(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with PostgresStore(SCHEMA, url) as store:
        store.migrate()
    role = f"plain_{time.monotonic_ns()}"
    run(url, f"create role {role} login")
    try:
        for function in ("pg_control_system()", "pg_walfile_name(pg_lsn)"):
            run(url, f"revoke execute on function {function} from public")
        run(
            url,
            f"grant select, insert, update, delete on all tables in schema public to {role}; "
            f"grant execute on all functions in schema public to {role}",
        )
        plain = psycopg.conninfo.make_conninfo(url, user=role)
        with PostgresStore(SCHEMA, plain) as store:
            put(store, "a")
            system, timeline, database, changes = store.incarnation().split("/")
        assert (system, timeline) == ("", "")
        assert database
        assert changes
    finally:
        run(url, f"drop owned by {role}; drop role {role}")


def test_a_connection_is_not_used_for_longer_than_its_greatest_age(
    new_migrated_database: Callable[[Schema], str],
) -> None:
    url = new_migrated_database(SCHEMA)
    with PostgresStore(
        SCHEMA, url, connection_max_age=0.3, application_name=UNDER_TEST
    ) as store:
        put(store, "a")
        (first,) = sessions(url)
        deadline = time.monotonic() + 5
        while first in sessions(url):
            put(store, "a")
            assert time.monotonic() < deadline, "it is used for ever"


def test_each_connection_looks_at_the_isolation_level(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with PostgresStore(SCHEMA, url, pooler="transaction") as store:
        store.migrate()
        put(store, "a")
        held = store._client.acquire()
        run(
            url,
            f"alter database {name} set default_transaction_isolation = 'repeatable read'",
        )
        with pytest.raises(ConfigError, match="read committed"):
            put(store, "a")
        store._client._pool.release(held)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_utf8_is_refused(
    encoding: str, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"odd_{encoding.lower()}_{time.monotonic_ns()}"
    run(
        postgres_server,
        f"create database {name} encoding '{encoding}' locale 'C' template template0",
    )
    url = psycopg.conninfo.make_conninfo(postgres_server, dbname=name)
    advice = f"encoded in {encoding}.*encoding 'UTF8' template template0"
    try:
        with PostgresStore(SCHEMA, url) as store:
            calls: list[Callable[[], Any]] = [store.migrate, lambda: put(store, "a")]
            for call in calls:
                with pytest.raises(ConfigError, match=advice):
                    call()
            with monkeypatch.context() as patched:  # as versions before did
                patched.setattr(
                    "pend_storage.stores.postgres._migration.migrate.encoding_fault",
                    lambda _: None,
                )
                store.migrate()
            with pytest.raises(ConfigError, match=advice):
                put(store, "a")
    finally:
        run(postgres_server, f"drop database {name} with (force)")
