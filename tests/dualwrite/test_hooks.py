"""A hook of the application that fails breaks no commit, no switch and no thread."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from typing_extensions import override

import pend_storage as ps
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.flags import AutoSwitch, DesiredPhase, FlagSource, FlagWatcher
from pend_storage.phases import Phase
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import SlowStore

from .processes import Place, Process, Task, living, wait_until

J, PAR, PG, P = Phase


class Failing:
    """Notes the names of events, and then fails at every one."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, event: Event) -> None:
        self.names.append(event.name)
        raise RuntimeError("the pager is down")


@pytest.fixture
def hook() -> Failing:
    return Failing()


def failures(caplog: pytest.LogCaptureFixture) -> int:
    return sum("hook-failed" in record.getMessage() for record in caplog.records)


def test_a_commit_and_the_relay_go_on(
    place: Place, hook: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        process = Process(place, hook=hook, relay_interval=0.01, switch_patience=20.0)
        process.store.switch(PAR)
        process.postgres.is_cut = True
        process.put("a", "1")  # the event comes in the middle of it
        assert "secondary-down" in hook.names

        process.postgres.is_cut = False
        wait_until(lambda: living(place.json) == living(place.postgres))
        process.put("b", "2")
        wait_until(lambda: "secondary-up" in hook.names)
        wait_until(lambda: living(place.json) == living(place.postgres))
        process.store.close()

    assert failures(caplog) == 1


def test_a_switch_that_was_left_half_done_is_finished(
    place: Place, hook: Failing
) -> None:
    first = Process(place, switch_patience=20.0)
    first.store.switch(PAR)
    first.store.backfill()
    task = Task(lambda: first.store.switch(PG, accept=CODES))
    assert task.start("switch.fenced", dies=True).has_died
    second = Process(place, hook=hook, switch_patience=20.0)
    second.store._router._heartbeat._dead_after = 0.0

    second.put("a", "1")
    second.store.switch(PG, accept=CODES)

    assert "switch-recovered" in hook.names
    assert second.store.phase is PG
    assert second.get("a") == "1"
    for process in (first, second):
        process.store.close()


def test_jobs_go_on(hook: Failing) -> None:
    source, target = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    source.collection(Log).put_many([a_log(f"{n:04}") for n in range(700)])

    report = backfill(source, target, rate=2_000, hook=hook)

    assert hook.names == ["backfill-throttled"]
    assert report.rows == 700


def test_a_file_is_adopted_and_checkpoints_go_on(tmp_path: Path, hook: Failing) -> None:
    (tmp_path / "other.json").write_text("{}")  # which no layout claims
    with ps.JsonStore(SCHEMA, tmp_path, checkpoint_interval=0.01, hook=hook) as store:
        store.collection(Log).put(a_log("a"))
        wait_until(lambda: "files-unclaimed" in hook.names)  # in the checkpointer
        store.checkpoint()
        file = tmp_path / "logs.json"
        wait_until(file.exists)
        file.write_text(file.read_text().replace('"a"', '"b"'))
        wait_until(lambda: "outside-edit-adopted" in hook.names)
        store.collection(Log).put(a_log("c"))
        wait_until(lambda: '"c"' in file.read_text())

        assert {log.id for log in store.collection(Log).scan()} == {"b", "c"}


def test_a_migration_is_done(postgres_url: str, hook: Failing) -> None:
    with ps.PostgresStore(SCHEMA, postgres_url, hook=hook) as store:
        store.migrate()
        store.collection(Log).put(a_log("a"))

    assert hook.names == ["database-migrated"]


class Scripted(FlagSource):
    """A flag that fails first."""

    place, writable = "the script", True

    def __init__(self) -> None:
        self.says: DesiredPhase | Exception = ConfigError("'sideways' is no phase.")

    @override
    def read(self) -> DesiredPhase:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        self.says = DesiredPhase(phase, self.place)
        return self.says


def test_the_flag_is_followed(one: Process, hook: Failing) -> None:
    flag = Scripted()
    auto = AutoSwitch(one.store, flag, hook, accept=CODES, interval=0.01)
    wait_until(lambda: hook.names == ["flag-unknown"])
    flag.says = StoreUnavailable("it is down", store="the flag")
    wait_until(lambda: hook.names[-1] == "flag-unreachable")

    for phase in (PAR, PG, J):
        flag.write(phase, by="ann")
        wait_until(lambda wanted=phase: one.store.phase is wanted)  # type: ignore[misc]
    wait_until(lambda: hook.names.count("auto-switched") == 3)
    auto.close()


def test_a_listener_that_fails_beside_its_hook_is_called_again(hook: Failing) -> None:
    flag, called = Scripted(), threading.Semaphore(0)
    flag.write(PAR, by="ann")

    def fail(_: DesiredPhase) -> None:
        called.release()
        raise RuntimeError("cannot")

    watcher = FlagWatcher(flag, fail, hook, interval=0.01)
    assert called.acquire(timeout=60)
    flag.write(PG, by="ann")
    assert called.acquire(timeout=60)
    watcher.close()

    assert hook.names == ["flag-listener-failed"] * 2


def test_a_slow_secondary_is_left_while_the_hook_fails(hook: Failing) -> None:
    slow = SlowStore(MemoryStore(SCHEMA))
    store = ps.DualWriteStore(
        json=MemoryStore(SCHEMA),
        postgres=slow,
        secondary_timeout=0.05,
        relay_interval=0.02,
        hook=hook,
    )
    store.switch(PAR)
    with slow.holding("apply") as gate:
        for n in range(20):
            store.collection(Log).put(a_log(f"{n}"))
        gate.wait_until_reached()
    store.catch_up()

    assert "secondary-down" in hook.names
    assert slow.inner.collection(Log).count() == 20
    store.close()
