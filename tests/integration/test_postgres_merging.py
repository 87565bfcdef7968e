"""Many callers' commits in one call: one transaction, and yet as if one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pend_storage.errors import (
    Conflict,
    StoreUnavailable,
    UniqueViolation,
)
from pend_storage.records import Batch, Outcome
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Proxy
from pend_storage.testing.domain import (
    SCHEMA,
    Tally,
    a_cargo,
    a_log,
    a_ship,
    a_tally,
)
from pend_storage.testing.servers import temporary_postgres

from .activity import UNDER_TEST, run, wait_until, waiting


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url, application_name=UNDER_TEST) as store:
        yield store


def batch(*records: Any, checks: dict[tuple[str, str], int] | None = None) -> Batch:
    return SCHEMA.batch([SCHEMA.put(type(r), r) for r in records], checks)


def transactions_of(url: str, table: str) -> int:
    """Number of transactions that wrote the rows of a table."""
    ((count,),) = run(url, f"select count(distinct xmin::text) from {table}")
    return int(count)


# -- one transaction ------------------------------------------------------------------


def test_independent_commits_are_one_transaction(
    url: str, store: PostgresStore
) -> None:
    outcomes = store.commit_each([batch(a_log(f"k{n}")) for n in range(100)])

    assert all(isinstance(outcome, tuple) for outcome in outcomes)
    assert transactions_of(url, "logs") == 1
    assert transactions_of(url, "changes") == 1
    assert len(list(store.changes())) == 100


def test_a_violation_costs_its_neighbours_nothing_but_time(
    url: str, store: PostgresStore
) -> None:
    store.collection("ships").put(a_ship("s0", call_sign="ABC"))
    batches = [batch(a_log(f"k{n}")) for n in range(64)]
    batches[40] = batch(a_ship("s1", call_sign="ABC"))

    outcomes = store.commit_each(batches)

    assert isinstance(outcomes.pop(40), UniqueViolation)
    assert all(isinstance(outcome, tuple) for outcome in outcomes)
    # 0-31 together, then 32-39 and so on, in smaller and smaller parts.
    assert transactions_of(url, "logs") == 6


def test_a_conflict_costs_its_neighbours_nothing(
    url: str, store: PostgresStore
) -> None:
    batches = [batch(a_log(f"k{n}"), checks={("logs", f"k{n}"): 0}) for n in range(64)]
    wrong = {("logs", "none"): 7, ("tallies", "none"): 5}
    batches[40] = batch(a_log("k40"), checks=wrong)

    outcomes = store.commit_each(batches)

    conflict = outcomes.pop(40)
    assert isinstance(conflict, Conflict)
    assert (conflict.collection, conflict.expected, conflict.actual) == ("logs", 7, 0)
    assert transactions_of(url, "logs") == 1
    assert store.collection("logs").count() == 63


def test_what_is_referred_to_goes_together_with_what_refers_to_it(
    url: str, store: PostgresStore
) -> None:
    outcomes = store.commit_each(
        [batch(a_ship("s1")), batch(a_cargo("c1", ship_id="s1"))]
    )

    assert all(isinstance(outcome, tuple) for outcome in outcomes)
    assert transactions_of(url, "changes") == 1


def test_puts_of_one_key_are_one_transaction_with_a_version_for_each(
    url: str, store: PostgresStore
) -> None:
    far = store.collection(Tally).put(a_tally("far")) + 10**9
    run(url, "update tallies set version = %s", far)
    run(url, "insert into tombstones values ('tallies', 'gone', %s)", far)
    names = ["hot", "far", "gone"] * 10

    outcomes = store.commit_each([batch(a_tally(k, n)) for n, k in enumerate(names)])

    assert transactions_of(url, "tallies") == 1
    for name, above in (("hot", 0), ("far", far), ("gone", far)):
        given = [o[0] for o, k in zip(outcomes, names, strict=True) if k == name]  # type: ignore[index]
        logged = [
            (r.version, r.record.value)
            for change in store.changes()
            for r in change.records
            if r.key == name
        ][-10:]
        assert [version for version, _ in logged] == given
        assert given == sorted(set(given))
        assert given[0] > above
        last = store.collection(Tally).versioned(name)
        assert last is not None
        assert (last.version, last.record.value) == logged[-1]


def test_every_version_is_above_the_head_and_its_own_sequence(
    store: PostgresStore,
) -> None:
    for _ in range(3):
        head = store.head()
        store.commit_each([batch(a_tally("hot", n), a_log(f"{n}")) for n in range(50)])

        for change in store.changes(head):
            assert all(r.version >= change.sequence > head for r in change.records)


# -- when something breaks ------------------------------------------------------------


def commit_in_a_thread(
    store: PostgresStore, batches: list[Batch]
) -> tuple[threading.Thread, list[Outcome]]:
    outcomes: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: outcomes.extend(store.commit_each(batches))
    )
    thread.start()
    return thread, outcomes


def was_ended(url: str) -> bool:
    """End a session of the store that waits for a lock; whether there was one."""
    return any(
        run(url, f"select pg_terminate_backend({pid}, 5000)")[0][0]
        for pid in waiting(url)
    )


def test_what_the_server_gave_up_is_done_again(url: str, store: PostgresStore) -> None:
    store.head()  # connected
    with psycopg.connect(url) as holder:
        holder.execute("lock table logs in access exclusive mode")
        thread, outcomes = commit_in_a_thread(
            store, [batch(a_log(key), a_tally(key)) for key in "abc"]
        )
        wait_until(lambda: was_ended(url), "the commit")
        holder.rollback()
    thread.join()

    assert len(outcomes) == 3
    assert all(isinstance(outcome, tuple) for outcome in outcomes)
    assert len(list(store.changes())) == 3


def test_a_statement_that_takes_too_long_is_told_to_each(url: str) -> None:
    with PostgresStore(SCHEMA, url, statement_timeout=0.3) as store:
        store.collection("logs").put(a_log("z"))
        with psycopg.connect(url) as holder:
            holder.execute("lock table logs in access exclusive mode")
            outcomes = store.commit_each([batch(a_log(key)) for key in "abc"])
            holder.rollback()

        for outcome in outcomes:
            assert isinstance(outcome, StoreUnavailable)
            assert outcome.outcome_known
            assert "statement_timeout" in outcome.reason
        assert len(set(map(id, outcomes))) == 3
        assert store.collection("logs").count() == 1


def test_a_closed_store_is_told_to_each(url: str) -> None:
    store = PostgresStore(SCHEMA, url)
    store.close()

    outcomes = store.commit_each([batch(a_log(key)) for key in "abc"])

    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert len(set(map(id, outcomes))) == 3


def test_who_cannot_ask_for_a_lost_answer_is_told_so() -> None:
    with (
        temporary_postgres(listen="127.0.0.1") as server,
        Proxy(*server.tcp_address) as line,
        PostgresStore(SCHEMA, server.tcp_url) as direct,
        PostgresStore(
            SCHEMA, line.through(server.tcp_url), statement_timeout=2.0
        ) as store,
    ):
        direct.migrate()
        acknowledged = store.commit_each([batch(a_log(key)) for key in "xyz"])
        line.stall("answers")
        thread, outcomes = commit_in_a_thread(
            store, [batch(a_log(key)) for key in "abc"]
        )
        wait_until(lambda: bool(direct.read("logs", ["a"])), "the commit")
        line.cut()
        thread.join()

        assert all(isinstance(outcome, tuple) for outcome in acknowledged)
        for outcome in outcomes:
            assert isinstance(outcome, StoreUnavailable)
            assert not outcome.outcome_known
        assert len(set(map(id, outcomes))) == 3
        assert set(direct.collection("logs").get_many("abcxyz")) == set("abcxyz")
