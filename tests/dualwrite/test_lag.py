"""Lag: exact, or reported as unknown; at the same cost always."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from pend_storage.dualwrite import CODES, Lag
from pend_storage.dualwrite._lag import lag_of
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.dualwrite._throttle import LAG, LagThrottle
from pend_storage.errors import ConfigError
from pend_storage.phases import Phase
from pend_storage.records import Change
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import FaultyStore

from .processes import Place, Process
from .test_restored_stores import copied

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


@pytest.mark.parametrize("phase", [PAR, PG])
def test_a_secondary_out_of_reach_is_never_at_zero(
    place: Place, one: Process, phase: Phase
) -> None:
    to(one, phase)
    one.put("a", "1")
    one.store.catch_up()
    assert one.store.lag() == Lag(0, 0.0, secondary_up=True)
    one.line("postgres" if phase is PAR else "json").is_cut = True

    lag = one.store.lag()

    assert (lag.commits, lag.seconds, lag.secondary_up) == (1, math.inf, False)
    assert "the line is cut" in (lag.blocked or "")
    one.put("b", "1")
    lag = one.store.lag()
    assert (lag.commits, lag.secondary_up) == (1, False)
    assert 0 < lag.seconds < 60
    assert "the line is cut" in (lag.blocked or "")


def test_a_log_that_does_not_reach_back_is_infinitely_far(
    place: Place, one: Process
) -> None:
    to(one, PAR)
    one.postgres.is_cut = True
    for n in range(3):
        one.put("a", f"{n}")
    one.postgres.is_cut = False
    place.json.prune(place.json.head())

    lag = one.store.lag()

    assert (lag.commits > 0, lag.seconds) == (True, math.inf)
    assert lag.blocked is not None


def test_a_log_that_is_kept_from_behind_the_mark_on_is_measured(
    place: Place, one: Process
) -> None:
    """Nothing is left to compare the mark with."""
    to(one, PAR)
    one.put("a", "1")
    one.store.catch_up()
    place.json.prune(place.json.head())
    one.postgres.is_cut = True
    one.put("a", "2")
    one.postgres.is_cut = False

    lag = one.store.lag()

    assert (lag.commits, lag.blocked) == (1, None)


@pytest.mark.parametrize("reaches_further", [False, True])
def test_a_primary_that_was_rewound_is_at_no_distance(
    place: Place, one: Process, reaches_further: bool
) -> None:
    to(one, PG)
    one.put("a", "1")
    backup = copied(place.postgres)
    one.put("a", "lost")
    one.store.catch_up()
    one.postgres.inner = backup
    if reaches_further:  # by a process that does not know what was lost
        epoch = backup.role().epoch
        for n in range(5):
            put = SCHEMA.put(Log, a_log("a", f"after {n}"))
            backup.commit(SCHEMA.batch([put]), epoch=epoch)

    lag = one.store.lag()

    assert lag.commits >= 1
    assert lag.seconds == math.inf
    assert "restored from a backup" in (lag.blocked or "")
    blockers = {b.code: b.sentence for b in one.store.readiness(P).blockers}
    assert "restored from a backup" in blockers["lag"]


def test_what_came_at_once_and_was_lost_by_the_primary_is_not_hidden(
    place: Place, one: Process
) -> None:
    """The mark lies before it, so the log still has the entry of the mark."""
    to(one, PG)
    one.put("a", "1")
    one.store.catch_up()
    backup = copied(place.postgres)
    one.put("a", "lost")  # is in both stores, and no relay has come by
    one.postgres.inner = backup
    batch = SCHEMA.batch([SCHEMA.put(Log, a_log("a", "after"))])
    backup.commit(batch, epoch=backup.role().epoch)
    mark = ReplicationPosition.load(place.json)
    one.store._continuity._refreshed = 0.0

    lag = one.store.lag()

    assert (lag.commits, lag.seconds) == (1, math.inf)
    assert "failed over" in (lag.blocked or "")
    with pytest.raises(ConfigError, match="failed over"):
        one.store.catch_up()
    assert ReplicationPosition.load(place.json) == mark


@pytest.fixture
def far_behind(
    place: Place, one: Process, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """A backlog; what is read of the log from then on."""
    to(one, PAR)
    one.put("first", "1")
    one.store.catch_up()
    epoch = place.json.role().epoch
    for n in range(500):
        batch = SCHEMA.batch([SCHEMA.put(Log, a_log(f"{n}"))])
        place.json.commit(batch, epoch=epoch)
    read: list[int] = []
    changes = MemoryStore.changes

    def counted(store: MemoryStore, after: int = 0) -> Iterator[Change]:
        for change in changes(store, after):
            read.append(change.sequence)
            yield change

    monkeypatch.setattr(MemoryStore, "changes", counted)
    return read


def test_the_lag_is_counted_without_reading_the_log(
    one: Process, far_behind: list[int]
) -> None:
    assert one.store.lag().commits == 500
    one.postgres.is_cut = True
    assert one.store.lag().commits == 500
    assert far_behind == []


def test_a_job_is_held_back_without_reading_the_log(
    one: Process, far_behind: list[int]
) -> None:
    assert LagThrottle(one.store._router.route, max_lag=0.0, stuck=60.0)() == LAG
    assert far_behind == []


def test_a_store_without_a_count_of_its_own_is_walked(place: Place) -> None:
    """Like a third party's store: it reports the same lag."""
    walked = FaultyStore(place.json)
    mark = ReplicationPosition(
        source="x", sequence=0, contiguous_from=0, needs_no_backfill=True
    )
    for n in range(3):
        place.json.commit(SCHEMA.batch([SCHEMA.put(Log, a_log(f"{n}"))]))

    assert lag_of(walked, mark).commits == lag_of(place.json, mark).commits == 3
