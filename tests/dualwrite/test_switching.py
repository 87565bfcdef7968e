"""Changing phases under traffic, and what everybody sees meanwhile."""

from __future__ import annotations

import threading
from itertools import islice

import pytest

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.dualwrite._roles import SIDES
from pend_storage.phases import Phase, Role, RoleState, path
from pend_storage.testing.domain import Log, a_log
from pend_storage.testing.faults import SlowStore

from .processes import Place, Process, Task, join, living, wait_until

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def test_a_fresh_pair_is_json_only(place: Place, one: Process) -> None:
    assert one.store.phase is J
    assert place.json.role() == RoleState(Role.PRIMARY, 1)
    assert place.postgres.role() == RoleState(Role.DETACHED, 1)


@pytest.mark.parametrize("before", Phase)
@pytest.mark.parametrize("after", Phase)
def test_every_phase_is_reached_from_every_other_with_the_data(
    place: Place, one: Process, before: Phase, after: Phase
) -> None:
    to(one, before)
    one.put("a", "1")

    report = one.store.switch(after, accept=CODES)

    assert (report.before, report.after) == (before, after)
    assert report.steps == (() if before is after else path(before, after))
    assert one.store.phase is after
    assert place.json.role().role is after.json_role
    assert place.postgres.role().role is after.postgres_role
    assert one.get("a") == "1"
    one.put("a", "2")
    assert one.get("a") == "2"


def test_another_process_notices(one: Process, two: Process) -> None:
    for phase in (PAR, PG, P, PG, PAR, J):
        to(one, phase)
        two.put("a", phase)
        assert one.get("a") == phase
        assert two.store.phase is phase


def test_a_process_that_did_nothing_notices_a_new_secondary_at_its_next_write(
    place: Place, one: Process, two: Process
) -> None:
    two.put("a", "1")
    to(one, PAR)

    two.put("a", "2")

    assert place.postgres.collection(Log).get("a") == a_log("a", "2")


def test_epochs_only_grow(place: Place, one: Process) -> None:
    seen: dict[str, list[RoleState]] = {side: [] for side in SIDES}
    for phase in (PAR, J, PAR, PG, P, PG, PAR, PG):
        to(one, phase)
        for side in SIDES:
            role = place.of(side).role()
            if role not in seen[side][-1:]:
                seen[side].append(role)

    for side in SIDES:
        assert len(set(seen[side])) == len(seen[side])
        epochs = [role.epoch for role in seen[side]]
        assert epochs == sorted(epochs)


def test_a_write_during_a_switch_waits_and_does_not_fail(
    place: Place, one: Process, two: Process
) -> None:
    to(one, PAR)
    two.store._router._heartbeat._dead_after = 60.0
    switch = Task(lambda: to(one, PG)).start("switch.drained")
    write = threading.Thread(target=two.put, args=("a", "1"))
    write.start()
    wait_until(two.store._router._role_lock.locked)
    assert write.is_alive()

    switch.resume()
    write.join(10)

    assert not write.is_alive()
    assert place.postgres.collection(Log).get("a") == a_log("a", "1")
    assert switch.error is None


def test_a_read_during_a_switch_is_answered_at_once(one: Process, two: Process) -> None:
    to(one, PAR)
    one.put("a", "1")
    two.store._router._heartbeat._dead_after = 60.0

    switch = Task(lambda: to(one, PG)).start("switch.drained")

    assert two.get("a") == "1"
    assert two.store.collection(Log).count() == 1
    assert [log.id for log in two.store.collection(Log).find().items] == ["a"]
    switch.resume()


def test_a_read_of_a_fenced_store_is_repeated_if_the_other_one_has_opened(
    one: Process, two: Process
) -> None:
    to(one, PAR)
    one.put("a", "old")
    two.get("a")
    switch = Task(lambda: to(one, PG)).start("switch.fenced")
    read = Task(lambda: two.get("a")).start("read.fenced")
    switch.resume()
    one.put("a", "new")

    read.resume()

    assert read.result == "new"


def test_a_process_that_slept_can_neither_write_to_nor_read_from_the_former_primary(
    place: Place, one: Process, two: Process
) -> None:
    to(one, PAR)
    two.get("a")  # it knows JSON as the primary
    to(one, P)  # which gets nothing any more
    one.put("a", "1")

    assert two.get("a") == "1"
    two.put("a", "2")
    assert place.json.collection(Log).get("a") is None
    assert one.get("a") == "2"


def test_a_write_that_slept_before_its_commit_goes_to_the_new_primary(
    place: Place, one: Process
) -> None:
    slow = SlowStore(one.json)
    late = DualWriteStore(json=slow, postgres=one.postgres, relay_interval=None)
    to(one, PAR)
    late.collection(Log).get("a")
    with slow.holding("commit") as gate:
        write = threading.Thread(target=late.collection(Log).put, args=(a_log("a"),))
        write.start()
        gate.wait_until_reached()
        to(one, P)
        gate.open()
        write.join(10)

    assert place.postgres.collection(Log).get("a") == a_log("a")
    assert place.json.collection(Log).get("a") is None
    late.close()


def test_a_scan_goes_on_through_switches(one: Process, two: Process) -> None:
    to(one, PAR)
    one.store.collection(Log).put_many(a_log(f"{n:05}") for n in range(2_000))
    scan = two.store.collection(Log).scan()

    seen = [log.id for log in islice(scan, 700)]
    to(one, PG)
    seen += [log.id for log in islice(scan, 700)]
    to(one, PAR)
    seen += [log.id for log in scan]

    assert seen == [f"{n:05}" for n in range(2_000)]


def test_a_late_controller_can_do_no_harm(
    place: Place, one: Process, two: Process
) -> None:
    to(one, PAR)
    late = Task(lambda: one.store.switch(PG, accept=CODES, timeout=1.0))
    late.start("switch.ready")
    two.store.recover()
    two.put("a", "1")
    assert place.primaries() == ["json"]

    late.resume()

    assert len(place.primaries()) == 1
    assert two.get("a") == "1"
    two.put("a", "2")
    assert one.get("a") == "2"


def test_a_recovery_stops_the_new_primary_before_it_reopens_the_old_one(
    place: Place, one: Process, two: Process
) -> None:
    to(one, PAR)
    late = Task(lambda: one.store.switch(PG, accept=CODES, timeout=1.0))
    late.start("switch.ready")
    recovery = Task(two.store.recover).start("role.changed")

    late.resume()

    assert len(place.primaries()) <= 1
    recovery.resume()
    assert len(place.primaries()) == 1
    two.put("a", "1")
    assert one.get("a") == "1"


def test_a_store_that_is_attached_again_is_not_the_one_that_was_detached(
    place: Place, one: Process, two: Process
) -> None:
    """Else a switch that knew the former one opens it while others reopen the old."""
    to(one, PAR)
    three = Process(place, switch_patience=20.0)
    switch = Task(lambda: one.store.switch(PG, accept=CODES, timeout=5.0))
    switch.start("switch.prepared")
    to(two, J)
    attaching = Task(lambda: two.store.switch(PAR, timeout=5.0)).start("attach.marked")
    switch.resume(until="switch.fenced")
    healing = Task(three.store.recover).start("recover.step")
    attaching.resume()
    switch.resume(until="switch.opened")

    healing.resume()

    assert len(place.primaries()) == 1
    if not switch.is_done:
        switch.resume()
    three.put("a", "1")
    assert one.get("a") == two.get("a") == "1"
    three.store.close()


def test_a_late_controller_does_not_make_the_old_primary_skip_anything(
    place: Place, one: Process, two: Process
) -> None:
    """The place from which it follows must be from before the new one was opened."""
    to(one, PAR)
    late = Task(lambda: one.store.switch(PG, accept=CODES, timeout=1.0))
    late.start("switch.planned")
    to(two, PG)
    two.json.is_cut = True
    two.put("a", "1")  # which JSON misses
    two.json.is_cut = False

    late.resume()

    two.store.catch_up()
    assert living(place.json) == living(place.postgres)


def test_two_who_switch_at_once_both_arrive(
    place: Place, one: Process, two: Process
) -> None:
    for phase in (PAR, PG, P, PG, PAR, J):
        workers = [
            threading.Thread(target=to, args=(process, phase)) for process in (one, two)
        ]
        for worker in workers:
            worker.start()
        join(*workers)
        assert one.store.phase is phase
    assert place.primaries() == ["json"]


def test_the_history_tells_who_did_what(one: Process) -> None:
    one.store.switch(PAR, by="ann")
    one.store.switch(PG, by="bob", accept=("validation", "backup", "lag"))
    one.store.switch(J)

    history = one.store.history()

    assert [(s.before, s.after) for s in history] == [
        (J, PAR),
        (PAR, PG),
        (PG, PAR),
        (PAR, J),
    ]
    assert [s.by for s in history[:2]] == ["ann", "bob"]
    assert "process" in history[2].by
    assert history[1].accepted == ("validation", "backup")
    assert history[1].pause > 0
    assert [s.epoch for s in history] == sorted(s.epoch for s in history)
    assert all(s.at.tzinfo is not None for s in history)


def test_values_of_the_pair_stay_when_the_primary_changes(
    one: Process, two: Process
) -> None:
    assert one.store.compare_and_set_meta("n", None, 0)
    for n, phase in enumerate((PAR, PG, P, PG, PAR, J)):
        assert two.store.compare_and_set_meta("n", n, n + 1)
        to(one, phase)
        assert two.store.meta("n") == n + 1
        assert not two.store.compare_and_set_meta("n", n, 99)


@pytest.mark.parametrize("point", ["switch.fenced", "switch.sealed", "switch.ready"])
def test_no_value_is_set_where_it_would_be_forgotten(
    one: Process, two: Process, point: str
) -> None:
    to(one, PAR)
    two.store._router._heartbeat._dead_after = 60.0
    two.store.meta("n")
    switch = Task(lambda: to(one, PG)).start(point)
    setting = threading.Thread(
        target=two.store.compare_and_set_meta, args=("n", None, 1)
    )
    setting.start()
    setting.join(0.05)
    switch.resume()
    setting.join(20)

    assert not setting.is_alive()
    assert one.store.meta("n") == two.store.meta("n") == 1
