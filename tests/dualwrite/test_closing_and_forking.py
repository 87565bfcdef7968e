"""Closing, forking, and the relay that goes on."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta

import pytest

from pend_storage.dualwrite import CODES
from pend_storage.dualwrite import _relay as relay
from pend_storage.errors import (
    StaleEpoch,
    StoreUnavailable,
)
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.testing.domain import Log, a_log

from .processes import Place, Process, Task, living, wait_until

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def test_closing_frees_those_who_wait(place: Place, one: Process) -> None:
    to(one, PAR)
    two = Process(place, switch_patience=60.0)
    two.store._router._heartbeat._dead_after = 60.0
    assert Task(lambda: to(one, PG)).start("switch.drained", dies=True).has_died
    write = Task(lambda: two.put("a", "1"))
    write._thread.start()
    wait_until(two.store._router._role_lock.locked)

    begun = time.monotonic()
    two.store.close()
    write._thread.join(10)

    assert time.monotonic() - begun < 5.0
    assert isinstance(write.error, StoreUnavailable)
    assert "closed" in str(write.error)


def test_closing_ends_all_threads(place: Place) -> None:
    before = set(threading.enumerate())
    process = Process(place, relay_interval=0.01, secondary_timeout=1.0, compare=1.0)
    to(process, PAR)
    process.put("a", "1")
    process.get("a")
    assert len(threading.enumerate()) > len(before)

    process.store.close()

    assert {t for t in threading.enumerate() if t.name.startswith("pend-")} <= before


def test_a_forked_child_works_with_threads_of_its_own(place: Place) -> None:
    process = Process(place, relay_interval=0.01, secondary_timeout=5.0, compare=1.0)
    to(process, PAR)
    process.put("a", "1")
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            process.put("a", "child")
            same = living(place.json) == living(place.postgres)
            process.store.close()
            os.write(write_end, b"equal" if same else b"not equal")
        finally:
            os._exit(0)
    os.close(write_end)
    _, status = os.waitpid(child, 0)

    assert os.read(read_end, 99) == b"equal"
    assert status == 0
    assert process.get("a") == "1"  # a memory store is copied with the process
    process.put("a", "parent")
    process.store.close()
    os.close(read_end)


def test_the_relay_heals_what_nobody_else_touches(place: Place, one: Process) -> None:
    to(one, PAR)
    one.postgres.is_cut = True
    one.put("a", "1")
    healed = threading.Event()

    def listen(event: Event) -> None:
        if event.name == "switch-recovered":
            healed.set()

    assert (
        Task(lambda: to(one, PG)).start("switch.prepared", dies=True).error is not None
    )
    one.postgres.is_cut = False
    assert Task(lambda: to(one, PG)).start("switch.opened", dies=True).has_died
    other = Process(place, relay_interval=0.01, hook=listen)
    other.store._router._heartbeat._dead_after = 0.0
    other.get("a")

    assert healed.wait(20)
    wait_until(lambda: living(place.json) == living(place.postgres))
    other.store.close()


def test_one_relay_works_at_a_time(place: Place) -> None:
    """A relay that finds the mark moved leaves the work to the relay that moved it."""
    one = Process(place)
    to(one, PAR)
    two = Process(place)
    route, relay = two.store._router.route, two.store._relay
    one.put("a", "1")
    one.store.catch_up()

    assert relay._drain_if_due(route, mine=False)  # sees that it has moved
    assert not relay._drain_if_due(route, mine=False)  # it has not: looks itself
    one.put("a", "2")
    one.store.catch_up()
    one.put("a", "3")
    mark = place.postgres.meta("mark")
    assert relay._drain_if_due(route, mine=False)
    assert place.postgres.meta("mark") == mark
    assert relay._drain_if_due(route, mine=False)  # the mark rests: takes over
    assert place.postgres.meta("mark") != mark
    one.store.close()
    two.store.close()


def test_logs_are_kept_as_long_as_they_are_said_to_be(place: Place) -> None:
    process = Process(place, retention=timedelta(hours=1))
    to(process, PAR)
    for n in range(5):
        process.put("a", f"{n}")
    process.store.catch_up()

    process.store._relay.prune()

    assert len(list(place.json.changes())) == 5
    process.store.close()


def test_a_log_that_nobody_follows_is_kept_short_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_PRUNE_EVERY", 0.0)
    place.postgres.collection(Log).put(a_log("a", "0"))
    process = Process(place, relay_interval=0.01, retention=timedelta(0))
    assert process.store.phase is P

    for n in range(20):
        process.put("a", f"{n}")

    wait_until(lambda: len(place.postgres._log) < 5)
    process.store.close()


def test_a_log_is_not_shortened_by_who_does_not_know_of_its_follower(
    place: Place, one: Process, two: Process
) -> None:
    two.store._relay._retention = timedelta(0)
    assert two.store.phase is J
    to(one, PAR)
    one.postgres.is_cut = True
    for n in range(9):
        one.put("a", f"{n}")
    one.postgres.is_cut = False

    with pytest.raises(StaleEpoch):
        two.store._relay.prune()

    assert one.store.catch_up() == 9
