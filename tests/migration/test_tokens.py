"""A database whose commits had no tokens is taken along; programs of before are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
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
    "pend_storage.migrations.versions.0003_tokens_and_attribution"
)


def old_put(url: str, name: str) -> int:
    body = f'{{"name":"{name}","value":1}}'
    ((answer,),) = run(url, "select pend_put_tallies(null, %s, %s, null)", name, body)
    return int(answer)


def old_commit(url: str, name: str) -> str:
    body = f'{{"name":"{name}","value":1}}'
    ((answer,),) = run(
        url,
        "select pend_commit(null, '{}', '{}', '{}', '{}', array[0::bigint],"
        " array['tallies'], array[%s], array[%s::json], array[0::bigint], '{}')",
        name,
        body,
    )
    return str(answer)


def old_apply(url: str, name: str) -> str:
    body = f'{{"name":"{name}","value":1}}'
    ((answer,),) = run(
        url,
        "select pend_apply(null, array['tallies'], array[%s], array[9::bigint],"
        " array[%s::json], null, null)",
        name,
        body,
    )
    return str(answer)


@pytest.fixture
def old(any_server: Callable[[], str]) -> str:
    """A database as the library made it before, with some commits in it."""
    url = any_server()
    make_older(url, SCHEMA, "0002")
    assert old_commit(url, "a").startswith("{")
    assert old_apply(url, "x") == "1"
    old_put(url, "b")
    return url


@pytest.mark.parametrize("offset", [0, 5_000_000])
def test_the_log_goes_on_above_what_it_has(old: str, offset: int) -> None:
    if offset:  # as after a restore from a server that had come further
        run(
            old,
            "insert into store_meta values ('postgres.offset', to_jsonb(%s))",
            offset,
        )
    last = old_put(old, "c")
    assert last > offset * 1024

    with PostgresStore(SCHEMA, old) as store:
        store.migrate()
        assert store.head() >= last
        assert keys(store) == ["a", "b", "c"]
        batch = put("d")
        versions = store.commit(batch)
        assert versions[0] > last
        assert store.commit(batch) == versions
        assert [c.token for c in store.changes()] == [None, None, None, batch.token]
        store.migrate()
        assert keys(store) == ["a", "b", "c", "d"]


def test_versions_that_came_from_elsewhere_are_below_later_commits(old: str) -> None:
    run(old, "update tallies set version = 1000000000000 where name = 'x'")

    with PostgresStore(SCHEMA, old) as store:
        store.migrate()

        assert store.collection(Tally).put(Tally(name="new")) > 10**12


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


def test_it_is_not_taken_back() -> None:
    with pytest.raises(SchemaOutOfDate, match="backup from before the migration"):
        MIGRATION.downgrade()
