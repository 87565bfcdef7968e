"""A database whose store lock was an advisory lock is taken along with its grants."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from importlib import import_module

import psycopg
import pytest
from psycopg import errors

from pend_storage.errors import SchemaOutOfDate
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import Tally
from tests.migration.older import make_older, run
from tests.migration.test_sequence_numbers import (
    SCHEMA,
    STORE_LOCK,
    keys,
    put,
    wait_for_waiting,
)

MIGRATION = import_module(
    "pend_storage.migrations.versions.0004_locks_that_need_a_grant"
)
FORMER_LOCKS = (STORE_LOCK, 0x70656E64_6D696772)
PUBLIC_FUNCTIONS = (
    "select p.proname from pg_proc as p where p.proname like 'pend\\_%' and exists ("
    "select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a "
    "where a.grantee = 0)"
)


def old_put(url: str, name: str) -> int:
    body = f'{{"name":"{name}","value":1}}'
    ((answer,),) = run(
        url,
        "select pend_put_tallies(null, %s, %s, null, null, null, null, false, null)",
        name,
        body,
    )
    return int(answer)


def old_commit(url: str, name: str) -> str:
    body = f'{{"name":"{name}","value":1}}'
    ((answer,),) = run(
        url,
        "select pend_commit(null, '{}', '{}', '{}', '{}', array[0::bigint],"
        " array['tallies'], array[%s], array[%s::json], array[0::bigint], '{}',"
        " array[null::uuid], array[null], array[null], false, null)",
        name,
        body,
    )
    return str(answer)


def old_apply(url: str, name: str) -> str:
    body = f'{{"name":"{name}","value":1}}'
    ((answer,),) = run(
        url,
        "select pend_apply(null, array['tallies'], array[%s], array[9::bigint],"
        " array[%s::json], 9, null, null, null)",
        name,
        body,
    )
    return str(answer)


@pytest.fixture
def old(any_server: Callable[[], str]) -> str:
    """A database as the library made it before, with some commits in it."""
    url = any_server()
    make_older(url, SCHEMA, "0003")
    assert old_commit(url, "a").startswith("{")
    assert old_apply(url, "x") == "1"
    old_put(url, "b")
    return url


@contextlib.contextmanager
def role(url: str, name: str) -> Iterator[str]:
    """A login role; yields the URL under which it connects."""
    run(url, f"drop role if exists {name}")
    run(url, f"create role {name} login")
    try:
        yield psycopg.conninfo.make_conninfo(url, user=name)
    finally:
        run(url, f"drop owned by {name}; drop role {name}")


@pytest.mark.parametrize("offset", [0, 5_000_000])
def test_the_log_goes_on_above_what_it_has(old: str, offset: int) -> None:
    if offset:  # as after a restore from a server that had come further
        run(
            old,
            "insert into store_meta values ('postgres.numbers', to_jsonb(%s))",
            offset,
        )
    last = old_put(old, "c")
    assert last > offset * 1024

    with PostgresStore(SCHEMA, old) as store:
        store.migrate()
        assert store.head() >= last
        assert keys(store) == ["a", "b", "c"]
        versions = store.commit(put("d"))
        assert last < versions[0] < last + 1_000_000
        store.migrate()
        assert keys(store) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("call", [old_put, old_commit, old_apply])
def test_a_program_of_before_is_refused(
    old: str, call: Callable[[str, str], object]
) -> None:
    with PostgresStore(SCHEMA, old) as store:
        store.migrate()

        with pytest.raises(errors.UndefinedFunction):
            call(old, "c")
        assert keys(store) == ["a", "b"]


@pytest.mark.parametrize("call", [old_put, old_commit])
def test_a_call_under_way_does_not_go_on(
    old: str, call: Callable[[str, str], object]
) -> None:
    raised: list[BaseException] = []

    def commit() -> None:
        try:
            call(old, "late")
        except psycopg.Error as error:
            raised.append(error)

    with PostgresStore(SCHEMA, old) as store, psycopg.connect(old) as holder:
        holder.execute("select pg_advisory_xact_lock(%s)", (STORE_LOCK,))
        late = threading.Thread(target=commit)
        late.start()
        wait_for_waiting(old, 1)
        store.migrate()
        holder.commit()
        late.join()

        assert "update this program" in str(raised[0])
        assert keys(store) == ["a", "b"]


def test_roles_that_hold_the_tables_keep_working(old: str) -> None:
    with role(old, "pend_test_app") as app, role(old, "pend_test_reader") as reader:
        run(
            old,
            "grant select, insert, update, delete on all tables in schema public "
            "to pend_test_app; grant select on all tables in schema public "
            "to pend_test_reader",
        )
        events: list[str] = []
        with PostgresStore(
            SCHEMA, old, hook=lambda event: events.append(event.message)
        ) as store:
            store.migrate()

        assert run(old, PUBLIC_FUNCTIONS) == []
        assert "the store lock granted to pend_test_app" in events[0]
        assert "execute on the functions granted to pend_test_reader" in events[0]
        with PostgresStore(SCHEMA, app) as store:
            assert store.collection(Tally).put(Tally(name="c"))
            store.migrate()
        with PostgresStore(SCHEMA, reader) as store:
            assert keys(store) == ["a", "b", "c"]


def test_a_stranger_cannot_stop_it(old: str) -> None:
    with (
        role(old, "pend_test_guest") as guest,
        psycopg.connect(guest, autocommit=True) as stranger,
        PostgresStore(SCHEMA, old) as store,
    ):
        for number in FORMER_LOCKS:
            stranger.execute("select pg_advisory_lock(%s)", (number,))
        store.migrate(wait=5.0)
        assert store.collection(Tally).put(Tally(name="c"))


def test_it_is_not_taken_back() -> None:
    with pytest.raises(SchemaOutOfDate, match="backup from before the migration"):
        MIGRATION.downgrade()
