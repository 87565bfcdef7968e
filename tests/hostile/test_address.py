"""The address itself: what its clients see of an exchange, and what the judge sees."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from pend_storage.phases import Role
from pend_storage.testing.hostile import Exchange, Manner, PostgresServers, Templates


@pytest.fixture
def servers(templates: Templates) -> Iterator[PostgresServers]:
    with PostgresServers(templates) as started:
        yield started


def write(connection: psycopg.Connection, key: str) -> None:
    connection.execute(
        "insert into notes (id, text, version) values (%s, 'x', 1)", (key,)
    )


def keys(connection: psycopg.Connection) -> list[str]:
    return [row[0] for row in connection.execute("select id from notes order by id")]


def connect(servers: PostgresServers) -> psycopg.Connection:
    return psycopg.connect(servers.url, autocommit=True, prepare_threshold=None)


@pytest.mark.parametrize(
    "exchange", [e for e in Exchange if e is not Exchange.READ_ONLY]
)
def test_a_connection_survives_where_it_is_moved(
    servers: PostgresServers, exchange: Exchange
) -> None:
    with connect(servers) as connection:
        write(connection, "before")
        servers.prepare(exchange)
        write(connection, "between")

        with servers.address.exchanging(Manner.MOVED):
            servers.exchange(exchange)
        servers.retire(exchange)

        expected = ["before"] if exchange.loses else ["before", "between"]
        assert keys(connection) == expected
        assert sorted(servers.peek()[1]) == expected


def test_an_idle_connection_ends_where_all_must_connect_anew(
    servers: PostgresServers,
) -> None:
    with connect(servers) as connection:
        write(connection, "before")

        with servers.address.exchanging(Manner.RECONNECTED):
            pass

        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with connect(servers) as again:
        assert keys(again) == ["before"]


def test_nobody_gets_in_during_a_visible_exchange(servers: PostgresServers) -> None:
    with (
        servers.address.exchanging(Manner.CUT),
        pytest.raises(psycopg.OperationalError),
    ):
        connect(servers)
    connect(servers).close()


def test_the_former_primary_keeps_its_connections_and_takes_no_writes(
    servers: PostgresServers,
) -> None:
    servers.prepare(Exchange.READ_ONLY)
    with connect(servers) as connection:
        write(connection, "before")
        with servers.address.exchanging(Manner.MOVED):
            servers.exchange(Exchange.READ_ONLY)
        servers.retire(Exchange.READ_ONLY)

        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            write(connection, "after")
    with connect(servers) as again:
        assert keys(again) == ["before"]
        write(again, "after")


@pytest.mark.parametrize(("way", "done"), [("asked", []), ("answered", ["lost"])])
def test_what_is_trapped_on_its_way_is_lost(
    servers: PostgresServers, way: str, done: list[str]
) -> None:
    sprung = threading.Event()
    with connect(servers) as connection:
        servers.address.trap("asked" if way == "asked" else "answered", 0, sprung.set)

        with pytest.raises(psycopg.OperationalError):
            write(connection, "lost")

    assert sprung.is_set()
    with connect(servers) as again:
        assert keys(again) == done


def test_a_younger_cluster_has_smaller_transaction_ids(
    servers: PostgresServers,
) -> None:
    with connect(servers) as connection:
        (old,) = connection.execute("select txid_current()").fetchone() or (0,)
        servers.prepare(Exchange.YOUNGER_CLUSTER)
        with servers.address.exchanging(Manner.MOVED):
            servers.exchange(Exchange.YOUNGER_CLUSTER)
        servers.retire(Exchange.YOUNGER_CLUSTER)

        (young,) = connection.execute("select txid_current()").fetchone() or (0,)

    assert young < old
    assert servers.peek()[0] is Role.DETACHED  # it has no role yet
