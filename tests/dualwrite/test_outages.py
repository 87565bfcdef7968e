"""Switches that fail, hang or die, and servers that are down."""

from __future__ import annotations

import threading
import time

import pytest

from pend_storage.dualwrite import CODES, DualWriteStore, Lag
from pend_storage.errors import LockTimeout, StoreUnavailable, SwitchTimeout
from pend_storage.phases import Phase, Role
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import FaultyStore, SlowStore

from .processes import Place, Process, Task, living

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def test_a_switch_whose_secondary_dies_behind_the_fence_is_called_off(
    place: Place, one: Process
) -> None:
    """So the primary goes on serving, though the other one cannot be asked."""
    to(one, PAR)
    switch = Task(lambda: to(one, PG)).start("switch.fenced")
    one.postgres.is_cut = True
    switch.resume()

    assert isinstance(switch.error, StoreUnavailable)
    one.put("a", "1")
    assert one.get("a") == "1"
    one.postgres.is_cut = False
    to(one, PG)
    assert living(place.postgres) == {("logs", "a"): a_log("a", "1")}


def test_a_switch_whose_opening_may_or_may_not_have_happened_is_settled() -> None:
    for after in (True, False):
        json, postgres = MemoryStore(SCHEMA), FaultyStore(MemoryStore(SCHEMA))
        store = DualWriteStore(json=json, postgres=postgres, relay_interval=None)
        store.switch(PAR)
        opening = Task(lambda s=store: s.switch(PG, accept=CODES))  # type: ignore[misc]
        opening.start("switch.ready")
        postgres.fail("compare_and_set_meta", after=after)
        opening.resume()

        assert isinstance(opening.error, StoreUnavailable)
        store.collection(Log).put(a_log("a", "1"))
        assert store.phase is (PG if after else PAR)
        store.switch(PG, accept=CODES)
        assert postgres.inner.collection(Log).get("a") == a_log("a", "1")
        store.close()


def test_a_process_without_traffic_knows_the_lag_too(
    place: Place, one: Process, two: Process
) -> None:
    assert two.store.lag() == Lag(0, 0.0, secondary_up=True)
    to(one, PAR)
    one.postgres.is_cut = True
    one.put("a", "1")

    lag = two.store.lag()

    assert (lag.commits, lag.secondary_up) == (1, True)


def test_the_lag_grows_while_the_secondary_is_out_of_reach(
    place: Place, one: Process, two: Process
) -> None:
    to(one, PAR)
    one.put("a", "1")
    one.store.catch_up()
    assert one.store.lag().commits == 0
    one.postgres.is_cut = True

    for count in (1, 2):
        one.put("a", f"after {count}")
        two.store.recover()

        lag = one.store.lag()

        assert (lag.commits, lag.secondary_up) == (count, False)
        assert lag.seconds > 0


def test_a_switch_that_finds_a_store_locked_leaves_nothing_half_done() -> None:
    locked = LockTimeout(path="lock", seconds=5.0)
    json, postgres = (FaultyStore(MemoryStore(SCHEMA)) for _ in range(2))
    store = DualWriteStore(json=json, postgres=postgres, relay_interval=None)
    store.switch(PAR)

    switch = Task(lambda: store.switch(PG, accept=CODES)).start("switch.ready")
    postgres.fail("compare_and_set_meta", error=locked)
    switch.resume()
    assert switch.error is locked
    assert (store.roles().primary, store.roles().is_settled) == ("json", True)

    switch = Task(lambda: store.switch(PG, accept=CODES)).start("switch.opened")
    json.fail("compare_and_set_meta", error=locked)
    switch.resume()
    assert switch.error is None
    assert (store.roles().primary, store.roles().is_settled) == ("postgres", True)
    assert [switch.after for switch in store.history()] == [PAR, PG]
    store.close()


def test_a_switch_that_takes_too_long_leaves_everything_as_it_was(
    place: Place, one: Process
) -> None:
    to(one, PAR)

    with pytest.raises(SwitchTimeout):
        one.store.switch(PG, accept=CODES, timeout=0.0)

    assert place.primaries() == ["json"]
    one.put("a", "1")
    to(one, PG)


def test_a_slow_switch_that_beats_is_not_taken_for_dead(place: Place) -> None:
    slow = SlowStore(place.postgres)
    store = DualWriteStore(json=place.json, postgres=slow, relay_interval=None)
    store.switch(PAR)
    other = Process(place)
    other.store._router._heartbeat._dead_after = 1.2
    with slow.holding("apply") as gate:
        switch = threading.Thread(
            target=store.switch, args=(PG,), kwargs={"accept": CODES}
        )
        switch.start()
        gate.wait_until_reached()  # behind the fence: there was nothing to drain
        write = threading.Thread(target=other.put, args=("a", "1"))
        other.store._router._patience = 30.0
        write.start()
        write.join(2.5)
        assert write.is_alive()
    switch.join(30)
    write.join(30)

    assert place.primaries() == ["postgres"]
    assert "switch-recovered" not in {event.name for event in other.events}
    assert place.postgres.collection(Log).get("a") == a_log("a", "1")
    other.store.close()


def test_a_dead_switch_is_finished_by_the_next_who_writes(
    place: Place, one: Process, two: Process
) -> None:
    to(one, PAR)
    assert Task(lambda: to(one, PG)).start("switch.drained", dies=True).has_died

    two.put("a", "1")

    assert place.primaries() == ["json"]
    assert [event.name for event in two.events] == ["switch-recovered"] * 2


def test_who_is_told_of_a_recovery_may_ask_the_store(
    place: Place, one: Process
) -> None:
    to(one, PAR)
    assert Task(lambda: to(one, PG)).start("switch.opened", dies=True).has_died
    seen: list[tuple[str, Phase]] = []
    asked: list[Process] = []
    other = Process(
        place, hook=lambda event: seen.append((event.name, asked[0].store.phase))
    )
    asked.append(other)

    recovery = Task(other.store.recover).start()

    assert recovery.error is None
    assert seen == [("switch-recovered", PG)]
    other.store.close()


@pytest.mark.parametrize("phase", [J, PAR])
def test_the_primary_serves_while_the_other_server_is_down_from_the_start(
    place: Place, one: Process, phase: Phase
) -> None:
    to(one, phase)
    one.put("a", "1")

    two = Process(place)
    two.postgres.is_cut = True
    two.store.close()
    two.store = two._make()

    assert two.get("a") == "1"
    two.put("a", "2")
    assert two.store.phase is phase
    assert one.get("a") == "2"
    two.postgres.is_cut = False
    two.store.recover()
    two.put("a", "3")
    two.store.catch_up()
    if phase is PAR:
        assert living(place.json) == living(place.postgres)
    two.store.close()


def test_a_primary_that_is_down_is_told_at_once(place: Place, one: Process) -> None:
    to(one, PG)
    two = Process(place, switch_patience=20.0)
    two.postgres.is_cut = True
    begun = time.monotonic()

    with pytest.raises(StoreUnavailable):
        two.get("a")
    two.store.close()
    two.store = two._make()
    with pytest.raises(StoreUnavailable):
        two.put("a", "1")

    assert time.monotonic() - begun < 5.0
    assert living(place.json) == {}
    two.store.close()


def test_a_secondary_out_of_reach_can_be_given_up(
    place: Place, one: Process, two: Process
) -> None:
    """At three in the morning, with the database gone."""
    to(one, PAR)
    for process in (one, two):
        process.postgres.is_cut = True

    report = one.store.switch(J)

    assert report.steps == (J,)
    assert one.store.phase is J
    one.put("a", "1")
    for process in (one, two):
        process.postgres.is_cut = False
    two.store.recover()
    assert place.postgres.role().role is Role.DETACHED
    assert living(place.postgres) == {}
    to(one, PAR)
    one.store.catch_up()
    assert living(place.postgres) == living(place.json)


@pytest.mark.parametrize(("before", "after"), [(PG, PAR), (PAR, PG), (PG, J), (PAR, P)])
def test_who_has_lost_the_line_to_the_former_primary_goes_on_at_the_new_one(
    place: Place, one: Process, two: Process, before: Phase, after: Phase
) -> None:
    to(one, before)
    one.put("a", "1")
    one.line("json" if before is PAR else "postgres").is_cut = True
    to(two, after)
    two.put("a", "2")

    assert one.get("a") == "2"
    one.put("b", "3")
    assert place.live().collection(Log).get("b") == a_log("b", "3")


@pytest.mark.parametrize("outcome_known", [True, False])
def test_a_write_is_repeated_at_the_new_primary_only_if_it_did_not_happen(
    outcome_known: bool,
) -> None:
    json, postgres = MemoryStore(SCHEMA), FaultyStore(MemoryStore(SCHEMA))
    late = DualWriteStore(json=json, postgres=postgres, relay_interval=None)
    late.switch(PG, accept=CODES)
    late.collection(Log).put(a_log("a", "1"))
    other = DualWriteStore(json=json, postgres=postgres.inner, relay_interval=None)
    other.switch(PAR, accept=CODES)
    lost = StoreUnavailable("cut", store="PostgreSQL", outcome_known=outcome_known)
    postgres.fail("commit", error=lost)

    if outcome_known:
        late.collection(Log).put(a_log("a", "2"))
    else:
        with pytest.raises(StoreUnavailable):
            late.collection(Log).put(a_log("a", "2"))

    found = json.collection(Log).get("a")
    assert found == a_log("a", "2" if outcome_known else "1")
    late.close()
    other.close()
