"""Accidents of servers, disks, clocks and configurations around a pair."""

from __future__ import annotations

import resource
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from typing_extensions import override

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.dualwrite import _lag as lag
from pend_storage.dualwrite import _log_pruning as log_pruning
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.phases import Phase
from pend_storage.stores._inmemory import write_planner
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.crash import Child, Report
from pend_storage.testing.domain import SCHEMA, Log, a_log

from .processes import Place, Process, Task, living, wait_until
from .test_restored_stores import copied, replaced

J, PAR, PG, P = Phase
BOTH = [PAR, PG]


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


# -- lines and servers ------------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
def test_both_stores_down_is_told_at_once_and_over_when_they_are_back(
    place: Place, phase: Phase
) -> None:
    process = Process(place, switch_patience=60.0)
    to(process, phase)
    process.put("a", "1")
    process.json.is_cut = process.postgres.is_cut = True
    begun = time.monotonic()

    with pytest.raises(StoreUnavailable):
        process.put("a", "2")
    with pytest.raises(StoreUnavailable):
        process.get("a")
    with pytest.raises(StoreUnavailable):
        to(process, PAR if phase is not PAR else PG)
    newcomer = process._make()
    with pytest.raises(StoreUnavailable):
        newcomer.collection(Log).get("a")

    assert time.monotonic() - begun < 10.0
    process.json.is_cut = process.postgres.is_cut = False
    for n, store in enumerate((process.store, newcomer), start=1):
        assert store.phase is phase
        assert store.collection(Log).get("a") == a_log("a", f"{n}")
        store.collection(Log).put(a_log("a", f"{n + 1}"))
    assert len(place.primaries()) == 1
    newcomer.close()
    process.store.close()


@pytest.mark.parametrize("phase", BOTH)
def test_what_one_process_cannot_bring_to_the_secondary_others_do(
    place: Place, one: Process, two: Process, phase: Phase
) -> None:
    to(one, phase)
    one.line("postgres" if phase is PAR else "json").is_cut = True
    one.put("a", "1")
    assert one.store.lag().secondary_up is False

    two.store.catch_up()

    assert (
        living(place.json) == living(place.postgres) == {("logs", "a"): a_log("a", "1")}
    )


def test_a_relay_that_wakes_late_brings_nothing_back(
    place: Place, one: Process, two: Process
) -> None:
    """Two at once: what it read long ago, it applies after the other one has finished."""
    to(one, PAR)
    one.postgres.is_cut = True
    one.put("a", "1")
    one.put("b", "1")
    one.postgres.is_cut = False
    late = Task(one.store.catch_up).start("relay.read")
    two.put("a", "2")
    two.store.collection(Log).delete("b")
    two.store.catch_up()

    late.resume()

    assert late.error is None
    expected = {("logs", "a"): a_log("a", "2")}
    assert living(place.postgres) == living(place.json) == expected
    two.store.catch_up()
    assert two.store.lag().commits == 0


def test_a_primary_that_lost_commits_in_a_failover_is_noticed_when_it_is_back(
    place: Place,
) -> None:
    """By a process that was there all the time."""
    process = Process(place, relay_interval=0.01, secondary_timeout=5.0)
    to(process, PG)
    process.put("a", "1")
    process.store.catch_up()
    standby = copied(place.postgres)
    process.put("a", "2")
    process.put("b", "2")
    process.store.catch_up()

    process.postgres.is_cut = True
    wait_until(lambda: not process.store._breaker.is_closed)
    process.postgres.inner = standby
    process.postgres.is_cut = False

    wait_until(lambda: "relay-blocked" in {event.name for event in process.events})
    told = [e.message for e in process.events if e.name == "relay-blocked"]
    assert "restored from a backup" in told[0]
    assert living(place.json)["logs", "b"] == a_log("b", "2")  # nothing was undone
    process.store.close()


# -- directories and databases ----------------------------------------------------------


def test_an_empty_directory_in_the_place_of_json_is_filled_on_the_way_back(
    place: Place, one: Process
) -> None:
    to(one, PG)
    one.put("a", "1")
    process = Process(replaced(place, json=MemoryStore(SCHEMA)))

    assert process.store.phase is P
    process.put("b", "2")
    to(process, J)

    assert living(process.place.json) == {
        ("logs", "a"): a_log("a", "1"),
        ("logs", "b"): a_log("b", "2"),
    }
    process.store.close()


def test_a_process_with_another_database_is_refused_once_json_follows(
    place: Place, one: Process
) -> None:
    """While JSON is primary it writes into the same JSON store, so nothing is lost."""
    to(one, PAR)
    stray = Process(Place(json=place.json))
    assert stray.store.phase is J
    stray.put("a", "1")
    one.store.catch_up()
    assert one.get("a") == "1"
    assert living(place.postgres) == living(place.json)
    to(one, PG)

    with pytest.raises(ConfigError, match="replaced"):
        stray.put("a", "2")

    assert one.get("a") == "1"
    assert place.primaries() == ["postgres"]
    stray.store.close()


# -- the disk ---------------------------------------------------------------------------


def fill_the_disk(report: Report, directory: Path, phase: Phase) -> None:
    """A file may not grow beyond a size: for a journal that is as good as a full disk."""
    inner = JsonStore(SCHEMA, directory, checkpoint_interval=None)
    postgres = MemoryStore(SCHEMA)
    store = DualWriteStore(
        json=inner,
        postgres=postgres,
        relay_interval=None,
        secondary_timeout=None,
        hook=lambda _: None,
    )
    store.switch(phase, accept=CODES)
    unlimited = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, unlimited))
    logs, written, refused = store.collection(Log), 0, []
    for n in range(40):
        try:
            logs.put(a_log(f"{n:02}", "y" * 3_000))
        except StoreUnavailable as error:
            refused.append(error.outcome_known)
        else:
            written += 1
    lag = store.lag()
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    logs.put(a_log("after"))
    store.catch_up()
    equal = living(inner) == living(postgres)
    report((written, logs.count(), refused, lag.secondary_up, equal))
    store.close()


@pytest.mark.parametrize("phase", BOTH)
def test_a_full_disk_under_json_loses_nothing(tmp_path: Path, phase: Phase) -> None:
    with Child(fill_the_disk, tmp_path / "data", phase) as child:
        ((written, count, refused, secondary_up, equal),) = child.finish().reports

    assert equal
    assert count == written + 1
    if phase is PAR:  # the primary: the error tells the caller that nothing happened
        assert 0 < written < 40
        assert refused == [True] * (40 - written)
    else:
        assert written == 40
        assert secondary_up is False


# -- clocks -----------------------------------------------------------------------------


class Skewed(datetime):
    """A clock that was set to another time."""

    by = timedelta(0)

    @classmethod
    @override
    def now(cls, tz: tzinfo | None = None) -> Skewed:
        moment = datetime.now(tz) + cls.by
        return cls.fromisoformat(moment.isoformat())


def test_clocks_that_are_wrong_change_neither_order_nor_outcome(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (write_planner, log_pruning, lag):
        monkeypatch.setattr(module, "datetime", Skewed)
    process = Process(place)
    jumps = [timedelta(days=n) for n in (0, 30, -400, 5, -1)]

    for n, phase in enumerate((PAR, PG, PAR, PG, PAR)):
        monkeypatch.setattr(Skewed, "by", jumps[n])
        to(process, phase)
        line = process.line("postgres" if phase is PAR else "json")
        line.is_cut = True
        process.put("a", f"{n}")
        process.put("b", f"{n}")
        process.store.collection(Log).delete("b")
        line.is_cut = False
        assert process.get("a") == f"{n}"
        monkeypatch.setattr(Skewed, "by", jumps[n] - timedelta(days=1))
        found = process.store.lag()
        assert (found.commits, found.seconds) == (3, 0.0)

    process.store.catch_up()
    assert (
        living(place.json) == living(place.postgres) == {("logs", "a"): a_log("a", "4")}
    )
    process.store.close()


def test_a_clock_that_is_ahead_forgets_nothing_that_is_still_needed(
    place: Place, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    to(one, PAR)
    one.postgres.is_cut = True
    for n in range(9):
        one.put("a", f"{n}")
    one.postgres.is_cut = False
    monkeypatch.setattr(log_pruning, "datetime", Skewed)
    monkeypatch.setattr(Skewed, "by", timedelta(days=3_000))

    one.store._relay.prune()

    assert one.store.catch_up() == 9
    assert living(place.json) == living(place.postgres)
