"""Writes: the primary first, then the secondary, which may be slow, down or wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
from typing_extensions import override

from pend_storage._transaction import Transaction
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import LockTimeout, StoreUnavailable, UniqueViolation
from pend_storage.phases import Phase
from pend_storage.records import Advance, ChangedRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import (
    SCHEMA,
    Log,
    Ship,
    Tally,
    a_log,
    a_ship,
    a_tally,
)
from pend_storage.testing.faults import FaultyStore, InterceptingStore, SlowStore, Verb

from .processes import Judging, Place, Process, join, living, wait_until

T = TypeVar("T")
BOTH = [Phase.PARALLEL, Phase.POSTGRES_PRIMARY]


def in_phase(process: Process, phase: Phase) -> DualWriteStore:
    process.store.switch(phase, accept=CODES)
    return process.store


@pytest.mark.parametrize("phase", BOTH)
def test_a_write_is_in_both_stores_when_the_call_returns(
    place: Place, one: Process, phase: Phase
) -> None:
    in_phase(one, phase)

    version = one.put("a", "1")
    one.put("b", "1")
    one.store.collection(Log).delete("b")

    for store in (place.json, place.postgres):
        assert store.collection(Log).versioned("a") == (a_log("a", "1"), version)
        assert store.read("logs", ["b"], deleted=True)["b"].record is None


@pytest.mark.parametrize("phase", [Phase.JSON_ONLY, Phase.POSTGRES_ONLY])
def test_a_detached_store_gets_nothing(
    place: Place, one: Process, phase: Phase
) -> None:
    in_phase(one, phase)

    one.put("a", "1")

    found = [living(store) for store in (place.json, place.postgres)]
    assert sorted(map(len, found)) == [0, 1]


@pytest.mark.parametrize("phase", BOTH)
def test_what_a_secondary_that_is_down_misses_comes_from_the_change_log(
    place: Place, one: Process, phase: Phase
) -> None:
    in_phase(one, phase)
    one.put("a", "1")
    line = one.postgres if phase is Phase.PARALLEL else one.json
    line.is_cut = True

    one.put("a", "2")
    one.put("b", "2")

    assert one.store.lag().secondary_up is False
    assert {event.name for event in one.events} == {"secondary-down"}
    line.is_cut = False
    assert one.store.lag().commits == 3  # the first one is there: the mark is behind
    one.store.catch_up()
    assert living(place.json) == living(place.postgres)
    assert one.store.lag().commits == 0
    assert one.store.lag().secondary_up is True
    assert one.events[-1].name == "secondary-up"


def test_a_write_waits_for_a_slow_secondary_until_its_deadline_and_then_never() -> None:
    slow = SlowStore(MemoryStore(SCHEMA))
    events: list[str] = []
    store = DualWriteStore(
        json=MemoryStore(SCHEMA),
        postgres=slow,
        secondary_timeout=0.1,
        relay_interval=0.02,
        hook=lambda event: events.append(event.name),
    )
    store.switch(Phase.PARALLEL)
    logs = store.collection(Log)
    with slow.holding("apply") as gate:
        begun = time.monotonic()
        logs.put(a_log("a"))
        waited = time.monotonic() - begun
        begun = time.monotonic()
        for n in range(50):
            logs.put(a_log(f"{n}"))
        waited_later = time.monotonic() - begun
        gate.wait_until_reached()

    assert 0.1 <= waited < 1.0
    assert waited_later < 1.0
    assert "secondary-down" in events
    store.catch_up()
    assert slow.inner.collection(Log).count() == 51
    store.close()


def test_a_secondary_that_is_not_to_be_waited_for_is_not() -> None:
    slow = SlowStore(MemoryStore(SCHEMA))
    events: list[str] = []
    store = DualWriteStore(
        json=MemoryStore(SCHEMA),
        postgres=slow,
        secondary_timeout=0,
        relay_interval=None,
        hook=lambda event: events.append(event.name),
    )
    store.switch(Phase.PARALLEL)
    with slow.holding("apply"):
        for n in range(20):
            store.collection(Log).put(a_log(f"{n}"))
        assert slow.inner.collection(Log).count() == 0

    store.close()
    assert slow.inner is not None
    assert events == []


def test_a_commit_of_unknown_outcome_is_not_repeated_and_not_forgotten() -> None:
    json = FaultyStore(MemoryStore(SCHEMA))
    postgres = MemoryStore(SCHEMA)
    store = DualWriteStore(json=json, postgres=postgres, relay_interval=None)
    store.switch(Phase.PARALLEL)
    json.fail("commit", after=True)

    with pytest.raises(StoreUnavailable) as caught:
        store.collection(Log).put(a_log("a", "1"))

    assert caught.value.outcome_known is False
    assert json.calls["commit"] == 1
    store.catch_up()
    assert postgres.collection(Log).get("a") == a_log("a", "1")
    store.close()


def test_an_unforeseen_error_of_the_secondary_does_not_reach_the_caller() -> None:
    postgres = FaultyStore(MemoryStore(SCHEMA))
    store = DualWriteStore(
        json=MemoryStore(SCHEMA), postgres=postgres, relay_interval=None
    )
    store.switch(Phase.PARALLEL)
    postgres.fail("apply", error=ZeroDivisionError())

    store.collection(Log).put(a_log("a"))

    store.catch_up()
    assert postgres.inner.collection(Log).get("a") == a_log("a")
    store.close()


class Picky(InterceptingStore):
    """Refuses what concerns one key."""

    refused: str | None = None

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        return call()

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        if any(record.key == self.refused for record in records):
            raise UniqueViolation(collection="logs", fields=("id",), key="x")
        return super().apply(records, epoch=epoch, mark=mark)


def test_a_secondary_that_is_locked_is_out_of_reach_and_not_asked_again_and_again() -> (
    None
):
    postgres = FaultyStore(MemoryStore(SCHEMA))
    events: list[str] = []
    store = DualWriteStore(
        json=MemoryStore(SCHEMA),
        postgres=postgres,
        relay_interval=None,
        hook=lambda event: events.append(event.name),
    )
    store.switch(Phase.PARALLEL)
    before = postgres.calls.get("apply", 0)
    postgres.fail("apply", times=None, error=LockTimeout(path="lock", seconds=5.0))

    for n in range(5):
        store.collection(Log).put(a_log(f"{n}"))

    assert postgres.calls["apply"] == before + 1
    assert events == ["secondary-down"]
    postgres.heal()
    store.catch_up()
    assert postgres.inner.collection(Log).count() == 5
    assert store.lag().secondary_up
    store.close()


def test_one_commit_that_the_secondary_refuses_does_not_keep_others_from_it() -> None:
    """Of commits that travel together."""
    slow = SlowStore(MemoryStore(SCHEMA))
    picky = Picky(slow)
    store = DualWriteStore(
        json=MemoryStore(SCHEMA),
        postgres=picky,
        secondary_timeout=20.0,
        relay_interval=None,  # else it may be the relay that stands at the gate
    )
    store.switch(Phase.PARALLEL)
    picky.refused = "2"
    with slow.holding("apply") as gate:
        workers = [
            threading.Thread(target=store.collection(Log).put, args=(a_log(f"{n}"),))
            for n in range(5)
        ]
        workers[0].start()
        gate.wait_until_reached()
        for worker in workers[1:]:
            worker.start()
        wait_until(lambda: len(store._replicator._waiting) == 4)
        gate.open()
        join(*workers)

    assert {log.id for log in slow.inner.collection(Log).scan()} == {"0", "1", "3", "4"}
    picky.refused = None
    store.catch_up()
    assert slow.inner.collection(Log).count() == 5
    assert store.lag().secondary_up
    store.close()


def test_writers_of_one_key_at_one_moment_leave_the_stores_equal() -> None:
    """2,000 times two threads: the schedule at which plain dual writers diverge."""
    json, postgres = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    store = DualWriteStore(json=json, postgres=postgres, compare=0)
    store.switch(Phase.PARALLEL)
    barrier = threading.Barrier(2, timeout=60)

    def work(me: int) -> None:
        for n in range(2_000):
            barrier.wait()
            store.collection(Log).put(a_log(f"{n}", f"{me}"))

    workers = [threading.Thread(target=work, args=(me,)) for me in range(2)]
    for worker in workers:
        worker.start()
    join(*workers, timeout=60)

    assert living(json) == living(postgres)
    assert all(event is not None for event in store.history())
    store.close()


def test_a_late_apply_does_not_undo_a_later_one(place: Place, one: Process) -> None:
    store = in_phase(one, Phase.PARALLEL)
    first = one.put("a", "1")
    one.put("a", "2")

    late = ChangedRecord("logs", "a", first, a_log("a", "1"))
    place.postgres.apply([late], epoch=store._router.route.epoch)

    assert place.postgres.collection(Log).get("a") == a_log("a", "2")


def test_a_deleted_record_is_not_brought_back_by_a_late_apply(
    place: Place, one: Process
) -> None:
    store = in_phase(one, Phase.PARALLEL)
    first = one.put("a", "1")
    store.collection(Log).delete("a")

    late = ChangedRecord("logs", "a", first, a_log("a", "1"))
    place.postgres.apply([late], epoch=store._router.route.epoch)

    assert place.postgres.collection(Log).get("a") is None


def test_commits_that_come_before_their_turn_are_put_in_order_by_the_relay() -> None:
    """One takes a value that another one frees, and arrives first."""
    postgres = Judging(MemoryStore(SCHEMA))
    events: list[str] = []
    store = DualWriteStore(
        json=MemoryStore(SCHEMA),
        postgres=postgres,
        relay_interval=None,
        hook=lambda event: events.append(event.name),
    )
    store.switch(Phase.PARALLEL)
    ships = store.collection(Ship)
    ships.put(a_ship("s1", call_sign="AB"))
    postgres.fail("apply")
    ships.put(a_ship("s1", call_sign="CD"))  # is missed
    store._breaker.succeeded(0.0)
    ships.put(a_ship("s2", call_sign="AB"))  # is refused: s1 still has it there

    assert postgres.inner.collection(Ship).get("s2") is None
    assert "secondary-postpones" in events
    store.catch_up()
    assert postgres.inner.collection(Ship).get_by("call_sign", "AB") == a_ship(
        "s2", call_sign="AB"
    )
    store.close()


def test_increments_through_transactions_are_in_both_stores(
    place: Place, one: Process
) -> None:
    store = in_phase(one, Phase.PARALLEL)

    def add(tx: Transaction) -> None:
        tally = tx.collection(Tally).get("t") or a_tally("t")
        tx.collection(Tally).put(replace(tally, value=tally.value + 1))

    for phase in (*Phase, *reversed(Phase)):
        store.switch(phase, accept=CODES)
        store.run(add)

    store.switch(Phase.PARALLEL, accept=CODES)
    store.catch_up()
    assert place.json.collection(Tally).get("t") == a_tally("t", 8)
    assert living(place.json) == living(place.postgres)


def test_what_both_sides_have_passed_is_forgotten_after_its_retention(
    place: Place,
) -> None:
    process = Process(place, retention=timedelta(0))
    store = in_phase(process, Phase.PARALLEL)
    for n in range(10):
        process.put("a", f"{n}")
    process.postgres.is_cut = True
    process.put("a", "missed")
    process.postgres.is_cut = False

    store._relay.prune()  # nothing has been passed yet

    assert len(list(place.json.changes())) == 11
    store.catch_up()
    store._relay.prune()
    assert len(list(place.json._log)) < 5
    process.put("a", "later")
    store.catch_up()
    assert living(place.json) == living(place.postgres)
    process.store.close()
