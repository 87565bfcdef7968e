"""Connections: few, reused, closed when idle, never shared with a child, never hung on."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
import pytest

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._connection.address import Address
from pend_storage.testing.domain import SCHEMA, Tally
from pend_storage.testing.servers import temporary_postgres

from .activity import UNDER_TEST, run, sessions, wait_until

SECRET = "hunter2-%&x"  # noqa: S105 - invented


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url, application_name=UNDER_TEST) as store:
        yield store


def put(store: PostgresStore, name: str, value: int = 0) -> int:
    return store.collection(Tally).put(Tally(name=name, value=value))


def get(store: PostgresStore, name: str) -> Tally | None:
    return store.collection(Tally).get(name)


def test_one_thread_uses_one_connection(url: str, store: PostgresStore) -> None:
    for number in range(20):
        put(store, str(number))
        get(store, str(number))
    list(store.scan("tallies"))

    assert len(sessions(url)) == 1


def test_a_connection_that_is_lost_in_a_cycle_is_closed(
    url: str, store: PostgresStore
) -> None:
    """The driver warns of one that is garbage and open; warnings are errors here."""
    for _ in range(20):
        connection = store._client._pool.acquire()
        connection.slot = [connection.slot, connection, connection.driver_connection]
        del connection
        gc.collect()

    wait_until(lambda: not sessions(url), "the end of the lost sessions")


def test_there_are_never_more_than_allowed(url: str) -> None:
    with PostgresStore(SCHEMA, url, pool_size=3, application_name=UNDER_TEST) as store:
        begin = threading.Barrier(12)
        most: list[int] = []

        def work(number: int) -> None:
            begin.wait()
            for turn in range(10):
                put(store, f"{number}/{turn}")
            most.append(len(sessions(url)))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 1 <= max(most) <= 3
        assert store.collection(Tally).count() == 120


def test_who_gets_no_connection_in_time_is_told(url: str) -> None:
    with PostgresStore(SCHEMA, url, pool_size=1, pool_timeout=0.05) as store:
        put(store, "a")
        connection = store._client.acquire()

        with pytest.raises(StoreUnavailable, match="all 1 connections were in use"):
            get(store, "a")
        store._client._pool.release(connection)

        assert get(store, "a") is not None


def test_an_idle_connection_is_closed_without_a_call(url: str) -> None:
    with PostgresStore(
        SCHEMA, url, idle_timeout=0.1, application_name=UNDER_TEST
    ) as store:
        put(store, "a")
        wait_until(lambda: sessions(url) == [], "the end of the session")

        assert get(store, "a") is not None


def test_closing_ends_every_session_and_every_call_after_it(url: str) -> None:
    store = PostgresStore(SCHEMA, url, application_name=UNDER_TEST)
    put(store, "a")
    store.close()
    store.close()

    wait_until(lambda: sessions(url) == [], "the end of the session")
    for action in (
        lambda: get(store, "a"),
        lambda: store.read("tallies", []),
        lambda: put(store, "b"),
        lambda: list(store.changes()),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            action()


def test_what_was_cut_off_while_idle_is_not_noticed(
    url: str, store: PostgresStore
) -> None:
    put(store, "a", 1)
    for action in (
        lambda: put(store, "a", 2),
        lambda: get(store, "a"),
        lambda: store.collection(Tally).count(),
    ):
        for pid in sessions(url):
            run(url, f"select pg_terminate_backend({pid}, 5000)")
        action()

    assert get(store, "a") == Tally(name="a", value=2)


Together = Callable[[Callable[[], Any], Callable[[], Any]], Any]


@pytest.fixture(params=["main thread", "other thread"])
def together(request: pytest.FixtureRequest) -> Together:
    """Calls something, where it waits in Python or in libpq, and something meanwhile."""

    def do(action: Callable[[], Any], meanwhile: Callable[[], Any]) -> Any:
        with ThreadPoolExecutor(1) as other:
            if request.param == "main thread":
                future = other.submit(meanwhile)
                try:
                    return action()
                finally:
                    future.result()
            future = other.submit(action)
            meanwhile()
            return future.result()

    return do


def end_who_waits(url: str, holder: psycopg.Connection[Any]) -> None:
    wait_until(lambda: _waiting(url) == 1, "the call")
    (pid,) = sessions(url)
    run(url, f"select pg_terminate_backend({pid}, 5000)")
    holder.rollback()


def test_a_read_that_is_cut_off_is_asked_again(
    url: str, store: PostgresStore, together: Together
) -> None:
    put(store, "a", 1)
    with psycopg.connect(url) as holder:
        holder.execute("lock table tallies in access exclusive mode")
        found = together(lambda: get(store, "a"), lambda: end_who_waits(url, holder))

    assert found == Tally(name="a", value=1)


def test_a_commit_that_the_server_gave_up_is_done_again(
    url: str, store: PostgresStore, together: Together
) -> None:
    put(store, "a", 1)
    with psycopg.connect(url) as holder:
        holder.execute("lock table tallies in access exclusive mode")
        together(lambda: put(store, "a", 2), lambda: end_who_waits(url, holder))

    assert get(store, "a") == Tally(name="a", value=2)
    assert len(list(store.changes())) == 2


def _waiting(url: str) -> int:
    ((count,),) = run(
        url,
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' "
        "and datname = current_database()",
    )
    return int(count)


def test_a_statement_that_takes_too_long_is_broken_off(
    url: str, together: Together
) -> None:
    with PostgresStore(SCHEMA, url, statement_timeout=0.3) as store:
        put(store, "a", 1)
        with psycopg.connect(url) as holder:
            holder.execute("lock table tallies in access exclusive mode")
            for action in (lambda: get(store, "a"), lambda: put(store, "a", 2)):
                with pytest.raises(StoreUnavailable, match="statement_timeout") as told:
                    together(action, lambda: None)
                assert told.value.outcome_known
            holder.rollback()

        assert get(store, "a") == Tally(name="a", value=1)


def test_a_server_that_says_nothing_is_left(url: str, together: Together) -> None:
    with PostgresStore(
        SCHEMA,
        url,
        statement_timeout=0.2,
        pooler="transaction",
        application_name=UNDER_TEST,
    ) as store:
        put(store, "a", 1)
        (pid,) = sessions(url)
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            together(lambda: put(store, "a", 2), lambda: None)  # on another session
            assert time.monotonic() - began < 5
        finally:
            os.kill(pid, signal.SIGCONT)

        wait_until(lambda: pid not in sessions(url), "the end of the session")
        assert get(store, "a") == Tally(name="a", value=2)
        values = [r.record.value for c in store.changes() for r in c.records]
        assert values == [1, 2]  # not once more when it came to itself


def test_who_is_interrupted_while_waiting_need_not_wait_to_the_end(url: str) -> None:
    ran = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with psycopg.connect(url) as holder:
        holder.execute("lock table tallies in access exclusive mode")
        wait_until(lambda: _waiting(url) == 1, "the call")
        ran.send_signal(signal.SIGINT)
        out, _ = ran.communicate(timeout=20)  # the lock is still held

    assert out == "interrupted\n"


INTERRUPTED = """
import sys
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally

store = PostgresStore(SCHEMA, sys.argv[1])
try:
    store.collection(Tally).get("a")
except KeyboardInterrupt:
    print("interrupted")
"""


DRIBBLING = """
import socket, sys, threading
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally

port, url = int(sys.argv[1]), sys.argv[2]
listener = socket.create_server(("127.0.0.1", 0))
ready = b"Z\\x00\\x00\\x00\\x05I"

def relay(source, target, is_answer):
    while data := source.recv(65536):
        cut = data.rfind(ready) if is_answer else -1
        if cut > 0:  # the last message arrives later than the rest
            target.sendall(data[:cut])
            threading.Event().wait(0.02)
            data = data[cut:]
        target.sendall(data)

def serve():
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = socket.create_connection(("127.0.0.1", port))
        for way in ((client, server, False), (server, client, True)):
            threading.Thread(target=relay, args=way, daemon=True).start()

threading.Thread(target=serve, daemon=True).start()
through = url.replace(f":{port}/", f":{listener.getsockname()[1]}/")
with PostgresStore(SCHEMA, through) as store:
    store.collection(Tally).put(Tally(name="a", value=1))
    print(store.collection(Tally).get("a").value)
"""


def test_an_answer_that_comes_in_pieces_does_not_stop_other_threads() -> None:
    with temporary_postgres(listen="127.0.0.1") as server:
        with PostgresStore(SCHEMA, server.tcp_url) as store:
            store.migrate()
        port = str(server.tcp_address[1])
        ran = subprocess.run(
            [sys.executable, "-c", DRIBBLING, port, server.tcp_url],
            capture_output=True,
            text=True,
            timeout=30,  # the relay is a thread, and would never come to its turn
            check=False,
        )

    assert (ran.stdout, ran.stderr) == ("1\n", "")


def test_behind_a_pooler_nothing_is_left_in_a_session(url: str) -> None:
    with PostgresStore(
        SCHEMA, url, pooler="transaction", application_name=UNDER_TEST
    ) as store:
        for number in range(10):
            put(store, "a", number)
            get(store, "a")
            store.collection(Tally).find(limit=3)
            store.collection(Tally).put_many([Tally(name="b"), Tally(name="c")])
        list(store.scan("tallies", deleted=True))
        list(store.changes())
        store.compare_and_set_meta("x", None, 1)
        connection = store._client.acquire()
        left = connection.driver_connection.execute(
            "select (select count(*) from pg_prepared_statements), "
            "(select count(*) from pg_locks where locktype = 'advisory' "
            "and pid = pg_backend_pid()), "
            "(select count(*) from pg_settings where source in ('session', 'client') "
            "and name not in ('application_name', 'client_encoding', 'DateStyle', "
            "'TimeZone', 'IntervalStyle'))"
        ).fetchone()
        store._client._pool.release(connection)

        assert left == (0, 0, 0)


def test_migrating_leaves_nothing_in_a_session_either(
    new_database: Callable[[], str],
) -> None:
    with PostgresStore(SCHEMA, new_database(), pooler="transaction") as store:
        store.migrate()
        put(store, "a", 1)

        assert get(store, "a") == Tally(name="a", value=1)


def test_a_child_makes_connections_of_its_own(url: str, store: PostgresStore) -> None:
    put(store, "a", 1)
    before = sessions(url)
    child = os.fork()
    if child == 0:  # whatever happens here, it must not go on as a test
        code = 1
        try:
            found = get(store, "a")
            put(store, "child", 2)
            store.close()
            code = 0 if found == Tally(name="a", value=1) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert get(store, "child") == Tally(name="child", value=2)
    assert sessions(url) == before


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app_owner:{SECRET.replace('%', '%25')}@127.0.0.1:1/pend",
        f"host=127.0.0.1 port=1 user=app_owner password='{SECRET}' dbname=pend",
        f"postgresql://app_owner:{SECRET.replace('%', '%25')}@nowhere.invalid/pend",
    ],
)
def test_who_cannot_be_reached_is_named_without_the_password(url: str) -> None:
    store = PostgresStore(SCHEMA, url)

    for action in (partial(store.meta, "x"), store.migrate, store.inspect):
        with pytest.raises(StoreUnavailable) as told:
            action()
        texts = [repr(told.value), str(told.value), repr(told.value.__context__)]
        assert not any("hunter2" in text for text in texts)
        assert "app_owner" not in told.value.store
        assert told.value.outcome_known


@pytest.mark.parametrize(
    "url", [f"postgresql://a:{SECRET}@h:p:q/x", f"password={SECRET} nonsense", "?"]
)
def test_a_url_that_makes_no_sense_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be understood") as told:
        PostgresStore(SCHEMA, url)

    assert "hunter2" not in repr(told.value)
    assert told.value.__cause__ is None


def test_a_url_as_sqlalchemy_writes_it_is_understood() -> None:
    address = Address.parse("postgresql+psycopg://u:p@h:7/d?sslmode=require")

    assert address.settings == {
        "user": "u",
        "password": "p",
        "host": "h",
        "port": "7",
        "dbname": "d",
        "sslmode": "require",
    }
    assert str(address) == "PostgreSQL at h:7/d"
    assert repr(address) == "Address(PostgreSQL at h:7/d)"


def test_a_server_too_old_is_refused_by_name(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pend_storage.stores.postgres._connection.connector.OLDEST_SERVER", 99
    )
    with PostgresStore(SCHEMA, url) as store:
        for action in (partial(store.meta, "x"), store.migrate):
            with pytest.raises(ConfigError, match="needs PostgreSQL 99 or newer"):
                action()


def test_another_isolation_level_is_refused_behind_a_pooler(url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    run(
        url, f"alter database {name} set default_transaction_isolation = 'serializable'"
    )
    try:
        with (
            PostgresStore(SCHEMA, url, pooler="transaction") as store,
            pytest.raises(ConfigError, match="read committed"),
        ):
            put(store, "a")
        with PostgresStore(SCHEMA, url) as store:
            put(store, "a")
    finally:
        run(url, f"alter database {name} reset default_transaction_isolation")


def test_settings_of_the_server_do_not_change_answers(url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    settings = {
        "TimeZone": "'Asia/Kathmandu'",
        "DateStyle": "'SQL, DMY'",
        "IntervalStyle": "'sql_standard'",
        "bytea_output": "'escape'",
        "extra_float_digits": "1",
        "standard_conforming_strings": "off",
        "backslash_quote": "on",
        "escape_string_warning": "off",
    }
    from pend_storage import field
    from pend_storage.testing.domain import Ship, a_ship

    ship = a_ship(speed=0.1 + 0.2, seal=b"\\x00\xff'", name="back\\slash", draught=None)
    for setting, value in settings.items():
        run(url, f'alter database {name} set "{setting}" = {value}')
    try:
        for pooler in (None, "transaction"):
            with PostgresStore(SCHEMA, url, pooler=pooler) as store:
                ships = store.collection(Ship)
                ships.put(ship)
                assert ships.get("s1") == ship
                same = (field("seen_at") == ship.seen_at) & (
                    field("built") == ship.built
                )
                assert ships.find(same & (field("name") == "back\\slash")).items
                assert ships.find(field("name").contains("K\\S")).items == (ship,)
                assert ships.find(field("seal") == ship.seal).items == (ship,)
                (change,) = list(store.changes())[-1:]
                assert change.records[0].record == ship
    finally:
        for setting in settings:
            run(url, f'alter database {name} reset "{setting}"')
