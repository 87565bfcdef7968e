"""Blockers of a phase."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pend_storage.dualwrite import CODES, Readiness
from pend_storage.dualwrite._backup_fact import record_backup
from pend_storage.errors import (
    ConfigError,
    SwitchRefused,
)
from pend_storage.phases import Phase
from pend_storage.records import QuarantinedRecord
from pend_storage.testing.domain import Log, a_log

from .processes import Place, Process

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def codes(readiness: Readiness) -> list[str]:
    return [blocker.code for blocker in readiness.blockers]


def test_a_forward_switch_is_refused_with_every_reason(place: Place) -> None:
    place.json.collection(Log).put(a_log("a", "1"))
    waiting = QuarantinedRecord(
        id="q1",
        file="f.json",
        place="x",
        raw=b"{}",
        code="strange",
        reason="it is strange",
        seen_at=datetime.now(UTC),
    )
    place.json.collection(QuarantinedRecord).put(waiting)
    place.json.prune(place.json.head())
    process = Process(place, checks={"schema": lambda: "run `db migrate`"})
    with pytest.raises(SwitchRefused, match="db migrate"):
        process.store.switch(PAR)
    process.store.switch(PAR, accept=("schema",))

    ready = process.store.readiness(PG)

    assert not ready.ok
    assert ready.steps == (PG,)
    assert codes(ready) == ["schema", "backfill", "validation", "quarantine", "backup"]
    with pytest.raises(SwitchRefused) as caught:
        process.store.switch(PG, accept=("schema", "backup"))
    assert [c for c, _ in caught.value.blockers] == [
        "backfill",
        "validation",
        "quarantine",
    ]
    assert process.store.phase is PAR
    process.store.close()


def test_each_reason_goes_away_by_what_it_asks_for(place: Place) -> None:
    place.json.collection(Log).put(a_log("a", "1"))
    place.json.prune(place.json.head())
    process = Process(place)
    process.store.switch(PAR)

    process.store.backfill()
    assert codes(process.store.readiness(PG)) == ["validation", "backup"]
    assert process.store.validate().ok
    assert codes(process.store.readiness(PG)) == ["backup"]
    record_backup(process.store._metadata, datetime.now(UTC))

    assert process.store.readiness(PG).ok
    report = process.store.switch(PG)
    assert report.accepted == ()
    assert codes(process.store.readiness(P)) == ["validation"]
    process.store.close()


def test_a_lagging_secondary_is_a_reason(one: Process) -> None:
    to(one, PAR)
    one.postgres.is_cut = True
    for n in range(1_001):
        one.put("a", f"{n}")
    one.postgres.is_cut = False

    (lag,) = [b for b in one.store.readiness(PG).blockers if b.code == "lag"]

    assert "1001 commits" in lag.sentence
    one.store.catch_up()
    assert "lag" not in codes(one.store.readiness(PG))


def test_the_way_back_is_open(one: Process) -> None:
    to(one, P)

    for phase in (PG, PAR, J):
        assert one.store.readiness(phase).ok
    assert one.store.readiness(J).steps == (PG, PAR, J)
    one.store.switch(J)


def test_unknown_codes_and_phases_are_refused(one: Process) -> None:
    with pytest.raises(ConfigError, match="no blocker"):
        one.store.switch(PAR, accept=("everything",))
    with pytest.raises(ConfigError, match="no blocker"):
        Process(one.place, checks={"weather": lambda: None})
    with pytest.raises(ValueError, match="sideways"):
        one.store.switch("sideways")


def test_jobs_that_were_not_given_are_named(place: Place) -> None:
    process = Process(place, backfill=None, validate=None)
    to(process, PAR)

    with pytest.raises(ConfigError, match="without a backfill"):
        process.store.backfill()
    with pytest.raises(ConfigError, match="without a validation"):
        process.store.validate()
    process.store.close()
