"""Throttle: a long job waits while the secondary lags, unless waiting is useless."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pend_storage.dualwrite._throttle import LAG, LagThrottle
from pend_storage.phases import Phase

from .processes import Place, Process


@pytest.fixture
def behind(place: Place) -> Iterator[Process]:
    """In the phase parallel; what is written waits for a relay, and none runs."""
    process = Process(place, secondary_timeout=0.0)
    process.store.switch(Phase.PARALLEL)
    process.store._breaker.failed("is tested")
    yield process
    process.store.close()


def throttle(
    process: Process, *, max_lag: float = 0.0, stuck: float = 60.0
) -> LagThrottle:
    return LagThrottle(process.store._router.route, max_lag=max_lag, stuck=stuck)


def test_without_lag_there_is_no_reason_to_wait(behind: Process) -> None:
    assert throttle(behind)() is None


def test_what_waits_too_long_is_a_reason(behind: Process) -> None:
    behind.put("a", "1")

    assert throttle(behind)() == LAG
    assert throttle(behind, max_lag=60.0)() is None
    behind.store.catch_up()
    assert throttle(behind)() is None


def test_where_nothing_moves_waiting_brings_nothing(behind: Process) -> None:
    behind.put("a", "1")

    assert throttle(behind, stuck=0.0)() is None


def test_a_log_that_was_pruned_is_no_reason(behind: Process, place: Place) -> None:
    behind.put("a", "1")
    behind.put("a", "2")
    place.json.prune(place.json.head())

    assert throttle(behind)() is None


def test_a_backfill_is_held_back_by_lag_and_one_that_is_waited_for_is_not(
    behind: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def held(_self: LagThrottle) -> str | None:
        asked.append(True)
        return LAG if len(asked) == 1 else None

    monkeypatch.setattr(LagThrottle, "__call__", held)
    behind.put("a", "1")

    report = behind.store.backfill()
    calls = len(asked)
    urgent = behind.store._maintenance.backfill(
        progress=None, rate=None, is_urgent=True
    )

    assert set(report.throttled) == {LAG}
    assert [e.name for e in behind.events].count("backfill-throttled") == 1
    assert urgent.throttled == {}
    assert len(asked) == calls
