"""Commits of many threads go together; each thread gets what is its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from typing_extensions import override

from pend_storage.errors import (
    Conflict,
    StoreUnavailable,
    UniqueViolation,
    UnknownCollection,
)
from pend_storage.records import Batch, Delete
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._writes import committer
from pend_storage.stores.postgres._writes.committer import SLOTS
from pend_storage.testing.domain import SCHEMA, Tally, a_log, a_ship, a_tally

from .activity import UNDER_TEST, run, wait_until, waiting

THREADS = 64


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url, application_name=UNDER_TEST) as store:
        yield store


def batch(*records: Any, checks: dict[tuple[str, str], int] | None = None) -> Batch:
    return SCHEMA.batch([SCHEMA.put(type(r), r) for r in records], checks)


class Call(threading.Thread):
    """A commit in a thread of its own."""

    def __init__(self, store: PostgresStore, wanted: Batch, epoch: int | None) -> None:
        super().__init__(daemon=True)
        self._store, self._wanted, self._epoch = store, wanted, epoch
        self.outcome: Any = None
        self.start()

    @override
    def run(self) -> None:
        try:
            self.outcome = self._store.commit(self._wanted, epoch=self._epoch)
        except BaseException as error:  # noqa: BLE001
            self.outcome = error


def end(calls: list[Call]) -> list[Any]:
    for call in calls:
        call.join(60)
    assert not any(call.is_alive() for call in calls), "somebody sleeps on"
    return [call.outcome for call in calls]


@contextmanager
def held_up(url: str, store: PostgresStore) -> Iterator[Callable[..., Call]]:
    """Commits begun in the block wait; at its end those that wait go together."""
    calls: list[Call] = []

    def begin(wanted: Batch, epoch: int | None = None) -> Call:
        call = Call(store, wanted, epoch)
        calls.append(call)
        queue = store._committer._queue._waiting
        wait_until(lambda: len(queue) == len(calls), "the call")
        return call

    # On a busy machine the threads take longer to start than a slot waits in haste.
    patient = patch.object(committer, "_SLOT_LOCK_TIMEOUT", b"60s")
    with patient, psycopg.connect(url) as holder:
        holder.execute("lock table changes in access exclusive mode")
        direct = [Call(store, batch(a_log(f"d{n}")), None) for n in range(SLOTS)]
        wait_until(lambda: len(waiting(url)) == SLOTS, "the direct commits")
        yield begin
        holder.rollback()
    assert all(isinstance(outcome, tuple) for outcome in end(direct))
    end(calls)


def transactions_of(url: str, table: str, where: str = "true") -> int:
    found = run(url, f"select count(distinct xmin::text) from {table} where {where}")
    return int(found[0][0])


def test_what_waits_goes_in_one_transaction(url: str, store: PostgresStore) -> None:
    with held_up(url, store) as begin:
        calls = [begin(batch(a_tally("hot", n), a_log(f"{n}"))) for n in range(THREADS)]

    versions = [call.outcome[0] for call in calls]
    assert versions == sorted(set(versions))
    assert store.collection(Tally).versioned("hot") == (
        a_tally("hot", THREADS - 1),
        versions[-1],
    )
    assert transactions_of(url, "logs", "id !~ 'd'") == 1
    assert len(list(store.changes())) == THREADS + SLOTS


def test_each_thread_gets_its_own_error(url: str, store: PostgresStore) -> None:
    store.collection("ships").put(a_ship("s0", call_sign="ABC"))

    with held_up(url, store) as begin:
        calls = [begin(batch(a_log(f"{n}"))) for n in range(THREADS - 3)]
        taken = begin(batch(a_ship("s1", call_sign="ABC")))
        late = begin(batch(a_log("late"), checks={("logs", "none"): 5}))
        stale = begin(batch(a_log("stale")), 7)
        with pytest.raises(UnknownCollection):
            store.commit(Batch((Delete("nothing", "a"), Delete("logs", "a"))))

    assert isinstance(taken.outcome, UniqueViolation)
    assert taken.outcome.key == "s1"
    assert isinstance(late.outcome, Conflict)
    assert (late.outcome.key, late.outcome.expected) == ("none", 5)
    assert type(stale.outcome).__name__ == "StaleEpoch"
    assert all(isinstance(call.outcome, tuple) for call in calls)
    assert store.collection("logs").count() == THREADS - 3 + SLOTS


def test_those_who_wait_are_told_that_the_store_was_closed(
    url: str, store: PostgresStore
) -> None:
    with held_up(url, store) as begin:
        calls = [begin(batch(a_tally(f"{n}"))) for n in range(20)]
        store.close()

    outcomes = [call.outcome for call in calls]
    for outcome in outcomes:
        assert isinstance(outcome, StoreUnavailable)
        assert outcome.outcome_known
        assert "closed" in outcome.reason
    assert len(set(map(id, outcomes))) == 20
    assert run(url, "select count(*) from tallies") == [(0,)]


def test_an_interrupted_leader_leaves_nobody_asleep_nor_in_the_dark(
    url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = store._committer._execution.commit_group

    def interrupted(*_: Any) -> Any:
        monkeypatch.setattr(store._committer._execution, "commit_group", together)
        raise KeyboardInterrupt

    with held_up(url, store) as begin:
        monkeypatch.setattr(store._committer._execution, "commit_group", interrupted)
        # More than one wave: what was not begun is done by somebody else.
        calls = [
            begin(batch(*(a_tally(f"{n}/{i}") for i in range(10)))) for n in range(20)
        ]

    first, rest = calls[0].outcome, [call.outcome for call in calls[1:]]
    assert isinstance(first, KeyboardInterrupt)
    unknown = [o for o in rest if isinstance(o, StoreUnavailable)]
    assert len(unknown) == 11
    assert len(set(map(id, unknown))) == 11
    assert not any(error.outcome_known for error in unknown)
    assert sum(isinstance(outcome, tuple) for outcome in rest) == 8
    assert store.collection(Tally).count() == 80
    assert [store._committer._queue.try_acquire_slot() for _ in range(SLOTS)] == [
        True
    ] * SLOTS


def test_a_child_of_a_busy_process_commits(url: str, store: PostgresStore) -> None:
    with held_up(url, store) as begin:
        call = begin(batch(a_tally("a")))
        child = os.fork()
        if child == 0:  # whatever happens here, it must not go on as a test
            code = 1
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # what sleeps on is killed
            signal.alarm(60)
            try:
                code = 0 if store.collection(Tally).put(a_tally("child")) else 2
            finally:
                os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert isinstance(call.outcome, tuple)
    assert set(store.collection(Tally).get_many(["a", "child"])) == {"a", "child"}


def test_threads_in_each_others_way_lose_nothing(store: PostgresStore) -> None:
    tallies = store.collection(Tally)
    turns = 5

    def increment() -> None:
        for _ in range(turns):
            store.run(add, attempts=1000)

    def add(transaction: Any) -> None:
        found = transaction.collection(Tally).get("sum")
        value = found.value if found else 0
        transaction.collection(Tally).put(a_tally("sum", value + 1))

    def put(number: int) -> None:
        for turn in range(turns):
            tallies.put(a_tally(f"{number}/{turn}"))

    threads = [threading.Thread(target=increment) for _ in range(8)]
    threads += [threading.Thread(target=put, args=(n,)) for n in range(56)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tallies.get("sum") == a_tally("sum", 8 * turns)
    assert tallies.count() == 1 + 56 * turns
    log = [c.sequence for c in store.changes()]
    assert log == sorted(set(log))
    assert len(log) == 64 * turns
