"""A database whose sequence numbers had no room yet goes on above them, and loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg import errors

from pend_storage.records import Batch
from pend_storage.schema import Schema, collection
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import Tally
from tests.migration.older import make_older, run

SCHEMA = Schema([collection("tallies", Tally, key="name")])
STORE_LOCK = 0x70656E64_73746F72
"""Advisory lock that programs took before revision 0004."""


def old_put(url: str, name: str) -> int:
    body = f'{{"name":"{name}","value":1}}'
    ((answer,),) = run(url, "select pend_put_tallies(null, %s, %s, null)", name, body)
    return int(answer)


def old_commit(url: str, name: str) -> str:
    body = f'{{"name":"{name}","value":1}}'
    ((answer,),) = run(
        url,
        "select pend_commit(null, '{}', '{}', '{}', array['tallies'], array[%s],"
        " array[%s::json])",
        name,
        body,
    )
    return str(answer)


@pytest.fixture
def old(any_server: Callable[[], str]) -> str:
    """A database as the library made it before, with some commits in it."""
    url = any_server()
    make_older(url, SCHEMA, "0001")
    assert old_commit(url, "a").startswith("{")
    old_put(url, "b")
    return url


def put(name: str) -> Batch:
    return SCHEMA.batch([SCHEMA.put("tallies", Tally(name=name))])


def keys(store: PostgresStore, after: int = 0) -> list[str]:
    return [r.key for change in store.changes(after) for r in change.records]


@pytest.mark.parametrize("base", [0, 5_000_000])
def test_the_log_goes_on_above_what_it_has(old: str, base: int) -> None:
    if base:  # as after a restore from a server that had come further
        run(old, "insert into store_meta values ('postgres.base', to_jsonb(%s))", base)
    last = old_put(old, "c")
    assert last > base

    with PostgresStore(SCHEMA, old) as store:
        store.migrate()
        head = store.head()
        assert head >= last
        assert keys(store) == ["a", "b", "c"]
        assert keys(store, last) == []
        outcomes = store.commit_each([put(name) for name in "ade"])
        version = store.collection(Tally).put(Tally(name="b"))

        sequences = [change.sequence for change in store.changes(last)]
        assert keys(store, last) == ["a", "d", "e", "b"]
        assert sequences == sorted(set(sequences))
        assert sequences[0] > head
        assert [(s,) for s in sequences] == [*outcomes, (version,)]
        store.migrate()
        assert keys(store) == ["a", "b", "c", "a", "d", "e", "b"]


def test_a_program_of_before_cannot_commit_with_its_own_numbers(old: str) -> None:
    with PostgresStore(SCHEMA, old) as store:
        store.migrate()
        before = store.head()

        for call in (old_commit, old_put):
            with pytest.raises(errors.UndefinedFunction):
                call(old, "c")
        assert store.head() >= before
        assert keys(store) == ["a", "b"]


@pytest.mark.parametrize("call", [old_put, old_commit])
def test_a_call_under_way_does_not_go_on_with_a_small_number(
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


def wait_for_waiting(url: str, count: int) -> None:
    pause = threading.Event()
    for _ in range(1000):
        ((found,),) = run(
            url,
            "select count(*) from pg_locks where not granted and locktype = 'advisory' "
            "and database = (select oid from pg_database "
            "where datname = current_database())",
        )
        if found == count:
            return
        pause.wait(0.01)
    pytest.fail(f"{count} did not come to wait")
