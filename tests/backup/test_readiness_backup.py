"""Blocker ``backup``: which backup counts for a switch, and what the sentence says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pend_storage._model.snapshots import RESTORED_META, LogPoint
from pend_storage._restored import RestoreNote
from pend_storage.dualwrite import CODES, DualWriteStore, force_promotion
from pend_storage.dualwrite._backup_fact import (
    BACKUP_META,
    BackupFact,
    backup_problem,
    record_backup,
)
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

J, PAR, PG, P = Phase
HOUR = timedelta(hours=1)


class Both:
    """Pair of two stores in memory that outlive it."""

    def __init__(self) -> None:
        self.json: Store = MemoryStore(SCHEMA)
        self.postgres: Store = MemoryStore(SCHEMA)
        self.pair = self.opened()

    def opened(self) -> DualWriteStore:
        return DualWriteStore(
            json=self.json, postgres=self.postgres, relay_interval=None
        )

    def point(self, store: Store, ahead: int = 0) -> LogPoint:
        return LogPoint(
            identity=store.identity(),
            epoch=store.role().epoch,
            sequence=store.head() + ahead,
        )

    def note(self, point: LogPoint, age: timedelta = HOUR, name: str = "b1") -> None:
        at = datetime.now(UTC) - age
        self.pair.note_backup(name, point, at=at, verified_at=datetime.now(UTC))

    def sentence(self) -> str | None:
        blockers = self.pair.readiness(PG).blockers
        return next((b.sentence for b in blockers if b.code == "backup"), None)


@pytest.fixture
def both() -> Iterator[Both]:
    made = Both()
    made.pair.switch(PAR)
    made.pair.collection(Log).put(a_log("a", "1"))
    yield made
    made.pair.close()


def test_without_a_backup_it_says_how_to_make_one(both: Both) -> None:
    assert "pend-storage backup create" in (both.sentence() or "")


def test_a_backup_of_the_primary_counts_until_it_is_too_old(both: Both) -> None:
    both.note(both.point(both.json), 25 * HOUR)
    assert both.sentence() is None

    both.note(both.point(both.json), 27 * HOUR)
    sentence = both.sentence() or ""
    assert "too old" in sentence
    assert "'b1'" in sentence


def test_a_failure_clears_once_a_later_backup_is_good(both: Both) -> None:
    both.note(both.point(both.json), 27 * HOUR)
    assert both.sentence() is not None
    both.pair.collection(Log).put(a_log("b", "2"))

    both.note(both.point(both.json), name="b2")

    assert both.sentence() is None


def test_a_backup_of_another_store_does_not_count(both: Both) -> None:
    both.note(LogPoint(identity="elsewhere", epoch=1, sequence=1))

    assert "of another store" in (both.sentence() or "")


def test_a_backup_from_beyond_the_end_of_the_log_does_not_count(both: Both) -> None:
    both.note(both.point(both.json, ahead=5))

    assert "put back" in (both.sentence() or "")


def test_a_backup_of_a_later_epoch_does_not_count(both: Both) -> None:
    point = both.point(both.json)

    both.note(LogPoint(identity=point.identity, epoch=99, sequence=point.sequence))

    assert "at epoch 99" in (both.sentence() or "")


def test_a_backup_from_before_a_switch_counts_after_it(both: Both) -> None:
    both.note(both.point(both.json))

    both.pair.switch(PG, accept=CODES)

    view = both.pair.roles()
    problem = backup_problem(both.pair._pair, both.pair._metadata, view)
    assert view.primary == "postgres"
    assert problem is None


def test_what_a_forced_promotion_has_lost_does_not_count(both: Both) -> None:
    # The last commit was backed up, and never reached the other store.
    lone = both.json.collection(Log)
    lone.put(a_log("c", "3"))
    point = both.point(both.json)
    force_promotion(both.json, both.postgres, "postgres")
    both.pair = both.opened()

    both.note(point)

    view = both.pair.roles()
    problem = backup_problem(both.pair._pair, both.pair._metadata, view)
    assert problem is not None
    assert "holds commits up to" in problem or "of another store" in problem


@pytest.mark.parametrize(("more", "counts"), [(0, True), (1, False)])
def test_a_promoted_restore_continues_the_store_that_was_backed_up(
    both: Both, more: int, *, counts: bool
) -> None:
    note = RestoreNote(
        source="before",
        epoch=1,
        sequence=40,
        above=90,
        at=datetime.now(UTC).isoformat(),
        backup="b0",
        target="latest",
        state="promoted",
        promoted=1,
    )
    both.json.compare_and_set_meta(RESTORED_META, None, note.to_meta())

    both.note(LogPoint(identity="before", epoch=1, sequence=40 + more))

    assert (both.sentence() is None) is counts


def test_an_earlier_backup_replaces_no_later_one(both: Both) -> None:
    early = both.point(both.json)
    both.pair.collection(Log).put(a_log("b", "2"))
    both.note(both.point(both.json), name="late")

    both.note(early, name="early")

    fact = both.pair.meta(BACKUP_META)
    assert isinstance(fact, dict)
    assert fact["id"] == "late"


def test_facts_of_older_versions_count_by_their_time(both: Both) -> None:
    record_backup(both.pair._metadata, datetime.now(UTC))
    old: dict[str, Any] = {
        "verified_at": datetime.now(UTC).isoformat(),
        "incarnations": {},
    }
    assert both.pair.compare_and_set_meta(BACKUP_META, both.pair.meta(BACKUP_META), old)
    assert both.sentence() is None

    aged: dict[str, Any] = {"verified_at": (datetime.now(UTC) - 48 * HOUR).isoformat()}
    assert both.pair.compare_and_set_meta(BACKUP_META, old, aged)

    assert "too old" in (both.sentence() or "")


@pytest.mark.parametrize("value", [{"verified_at": "yesterday"}, {"x": 1}, 7])
def test_a_fact_that_cannot_be_read_blocks(both: Both, value: Any) -> None:
    both.pair.compare_and_set_meta(BACKUP_META, None, value)

    assert "cannot be read" in (both.sentence() or "")


def test_a_time_without_a_zone_is_utc() -> None:
    fact = BackupFact(verified_at="2026-01-01T00:00:00")

    assert fact.time == datetime(2026, 1, 1, tzinfo=UTC)
