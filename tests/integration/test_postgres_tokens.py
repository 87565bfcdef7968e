"""A lost answer is asked for under the commit's token: what was done is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import errors

from pend_storage.errors import InvalidRecord, StoreUnavailable
from pend_storage.records import Batch, Outcome
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._schema.tables import TOKEN_CONSTRAINT
from pend_storage.testing.domain import SCHEMA, Tally, a_log, a_tally
from pend_storage.testing.proxy import Proxy
from pend_storage.testing.servers import temporary_postgres
from tests.integration.activity import UNDER_TEST, run, wait_until, waiting


class Place(NamedTuple):
    """A store behind a line that can be cut, and the same database without it."""

    line: Proxy
    store: PostgresStore
    direct: PostgresStore
    url: str


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[tuple[str, int], str]]:
    with temporary_postgres(listen="127.0.0.1") as server:
        with PostgresStore(SCHEMA, server.tcp_url) as store:
            store.migrate()
        yield server.tcp_address, server.tcp_url


@pytest.fixture
def place(server: tuple[tuple[str, int], str]) -> Iterator[Place]:
    address, url = server
    with (
        Proxy(*address) as line,
        PostgresStore(SCHEMA, url) as direct,
        PostgresStore(
            SCHEMA,
            line.through(url),
            statement_timeout=10.0,
            application_name=UNDER_TEST,
        ) as store,
    ):
        store.commit(a_batch(a_log("v"), a_log("w")))  # a statement that is prepared
        run(url, "truncate changes, tallies, logs, tombstones")
        store.collection(Tally).put(Tally(name="t", value=0))
        yield Place(line, store, direct, url)


def a_batch(*records: Any, checks: dict[tuple[str, str], int] | None = None) -> Batch:
    return SCHEMA.batch([SCHEMA.put(type(r), r) for r in records], checks or {})


def version(store: PostgresStore) -> int:
    return store.read("tallies", ["t"])["t"].version


def a_put(store: PostgresStore) -> list[Batch]:
    checks = {("tallies", "t"): version(store)}
    return [a_batch(a_tally("t", 1), checks=checks)]


def a_transaction(store: PostgresStore) -> list[Batch]:
    checks = {("tallies", "t"): version(store), ("logs", "a"): 0}
    return [a_batch(a_tally("t", 1), a_log("a"), checks=checks)]


def a_wave(store: PostgresStore) -> list[Batch]:
    return [*a_put(store), *(a_batch(a_log(key)) for key in "abc")]


def in_a_thread(
    place: Place, batches: list[Batch]
) -> tuple[threading.Thread, list[Outcome]]:
    outcomes: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: outcomes.extend(place.store.commit_each(batches))
    )
    thread.start()
    return thread, outcomes


def assert_done_once(place: Place, batches: list[Batch], outcomes: list[Any]) -> None:
    found = [place.direct.find_commit(batch.token) for batch in batches]
    assert outcomes == [
        change and change.versions_of(batch)
        for change, batch in zip(found, batches, strict=True)
    ]
    tokens = [change.token for change in place.direct.changes()]
    assert len(tokens) == len(set(tokens)) == 1 + len(batches)


@pytest.mark.parametrize("make", [a_put, a_transaction, a_wave])
def test_what_was_done_without_an_answer_gives_its_versions(
    place: Place, make: Callable[[PostgresStore], list[Batch]]
) -> None:
    batches = make(place.store)
    place.line.stall("answers")
    thread, outcomes = in_a_thread(place, batches)
    wait_until(
        lambda: place.direct.find_commit(batches[-1].token) is not None, "the commit"
    )
    place.line.cut()
    place.line.restore()
    thread.join()

    assert_done_once(place, batches, outcomes)


@pytest.mark.parametrize("make", [a_put, a_transaction, a_wave])
def test_a_repeat_waits_for_the_attempt_that_is_still_at_work(
    place: Place, make: Callable[[PostgresStore], list[Batch]]
) -> None:
    batches = make(place.store)
    with psycopg.connect(place.url) as holder:
        holder.execute("select from tallies where name = 't' for update")
        thread, outcomes = in_a_thread(place, batches)
        wait_until(lambda: bool(waiting(place.url)), "the commit")
        place.line.reset()
        holder.rollback()
    thread.join()

    assert_done_once(place, batches, outcomes)


def test_what_arrives_after_its_repeat_is_refused(place: Place) -> None:
    batch = a_batch(a_tally("t", 1))
    place.store.commit(batch)
    late = (
        "select pend_put_tallies(null, 't', %s, null, %s, null, null, false, null, false)",
        '{"name":"t","value":7}',
        batch.token,
    )

    with pytest.raises(errors.UniqueViolation) as caught:
        run(place.url, *late)

    assert caught.value.diag.constraint_name == TOKEN_CONSTRAINT
    assert place.direct.collection(Tally).get("t") == a_tally("t", 1)


def test_where_the_server_cannot_be_asked_the_token_is_told(
    server: tuple[tuple[str, int], str], place: Place
) -> None:
    address, url = server
    with (
        Proxy(*address) as line,
        PostgresStore(
            SCHEMA, line.through(url), statement_timeout=1.0, connect_timeout=1.0
        ) as store,
    ):
        batch = a_batch(a_tally("t", 5))
        store.collection(Tally).put(a_tally("t", 4))
        line.stall("answers")
        caught: list[StoreUnavailable] = []

        def commit() -> None:
            with pytest.raises(StoreUnavailable) as told:
                store.commit(batch)
            caught.append(told.value)

        thread = threading.Thread(target=commit)
        thread.start()
        wait_until(lambda: place.direct.find_commit(batch.token) is not None, "it")
        line.cut()
        thread.join()
        (error,) = caught
        assert (error.outcome_known, error.token) == (False, batch.token)
        assert batch.token in str(error)

        line.restore()
        assert store.find_commit(batch.token) is not None
        assert store.commit(batch) == (version(store),)


@pytest.mark.parametrize("token", ["x", "A" * 32, "0" * 31, "0" * 33, "g" * 32])
def test_what_is_no_token_is_refused_and_never_found(place: Place, token: str) -> None:
    batch = Batch(a_batch(a_log("a")).operations, {}, token)

    with pytest.raises(InvalidRecord, match="32 hexadecimal digits"):
        place.store.commit(batch)
    assert place.store.find_commit(token) is None
    assert place.store.find_commit("") is None


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_who_writes_must_be_storable(place: Place, text: str) -> None:
    put = SCHEMA.put(Tally, Tally(name="n"))
    batch = replace(SCHEMA.batch([put]), by=text)  # not by acting(), which refuses it

    with pytest.raises(InvalidRecord, match="by and"):
        place.store.commit(batch)


@pytest.mark.parametrize("together", [False, True])
def test_a_delete_that_is_repeated_gives_its_first_version(
    new_migrated_database: Callable[[Schema], str], *, together: bool
) -> None:
    """It finds nothing any more, and so enters nothing that a token could stop."""
    with PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as store:
        store.collection("logs").put(a_log("a"))
        gone = SCHEMA.batch([SCHEMA.delete("logs", "a")])
        first = store.commit(gone)

        again: object = store.commit(gone)
        if together:
            other = SCHEMA.batch([SCHEMA.delete("logs", "b")])
            again, nothing = store.commit_each([gone, other])
            assert nothing == (0,)

        assert first[0] > 0
        assert again == first
