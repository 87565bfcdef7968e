"""What was deleted leaves the files of a JSON store in time, whatever their size."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace

import pytest

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import ChangesExpired
from pend_storage.phases import Phase
from pend_storage.stores.json import JsonStore, Retention
from pend_storage.stores.json._journal import compaction, journal
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import run_until_crash
from pend_storage.testing.crash import Report
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally
from pend_storage.testing.faults import FaultyStore

HOUR = 3600.0
DAY = 24 * HOUR
PERSON = "Jane-Roe"


class Clock:
    """Clock of the compaction, ahead of the real one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def now(self, zone: tzinfo) -> datetime:
        return datetime.fromtimestamp(self.time(), zone)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(compaction, "time", SimpleNamespace(time=made.time))
    monkeypatch.setattr(journal, "datetime", SimpleNamespace(now=made.now))
    return made


def open_store(directory: Path, seconds: float = 7 * DAY) -> JsonStore:
    retain = Retention(seconds=seconds)
    return JsonStore(SCHEMA, directory, checkpoint_interval=None, retain=retain)


def own_files(directory: Path, pattern: str) -> list[str]:
    return sorted(p.name for p in (directory / ".pend-storage").glob(pattern))


def holders(directory: Path) -> list[str]:
    """Names of the files that hold the secret."""
    files = [p for p in directory.rglob("*") if p.is_file()]
    return sorted(p.name for p in files if PERSON.encode() in p.read_bytes())


def write_and_delete(store: JsonStore) -> None:
    logs = store.collection(Log)
    logs.put(a_log("l", PERSON))
    store.checkpoint()
    store.compact()
    logs.delete("l")


def test_a_deleted_record_is_gone_after_the_retention(
    tmp_path: Path, clock: Clock
) -> None:
    with open_store(tmp_path) as store:
        write_and_delete(store)
        store.checkpoint()
        store.checkpoint()
        assert holders(tmp_path) == [
            "journal-00000001.jsonl",
            "snapshot-00000002.jsonl",
        ]
        for day in range(1, 10):
            clock.ahead = day * DAY
            store.checkpoint()  # nothing is written: an idle store

        assert holders(tmp_path) == []
        assert len(own_files(tmp_path, "journal-*")) == 1
    with open_store(tmp_path) as store, pytest.raises(ChangesExpired):
        list(store.changes())


def test_entries_are_kept_as_long_as_the_retention(
    tmp_path: Path, clock: Clock
) -> None:
    with open_store(tmp_path) as store:
        for day in range(7):
            clock.ahead = day * DAY
            store.collection(Tally).put(a_tally("t", day))
            store.checkpoint()
        values = [r.record.value for c in store.changes() for r in c.records]
        assert values == [*range(7)]


def test_age_alone_writes_four_snapshots_in_a_retention(
    tmp_path: Path, clock: Clock
) -> None:
    written = set[str]()
    with open_store(tmp_path) as store:
        for step in range(28 * 4):
            clock.ahead = step * DAY / 4
            store.collection(Log).put(a_log(f"l{step}"))
            store.checkpoint()
            written.update(own_files(tmp_path, "snapshot-*"))
            # Nor are there many segments: those of a retention and a quarter.
            assert len(own_files(tmp_path, "journal-*")) <= 7
    assert 14 <= len(written) <= 17


def test_an_untouched_store_is_compacted_once(tmp_path: Path, clock: Clock) -> None:
    with open_store(tmp_path, seconds=0.0) as store:
        store.collection(Tally).put(a_tally("t", 1))
        store.checkpoint()
        first = own_files(tmp_path, "snapshot-*")
        for _ in range(5):
            store.checkpoint()

        assert first == own_files(tmp_path, "snapshot-*") == ["snapshot-00000002.jsonl"]


def test_a_young_journal_is_not_compacted(tmp_path: Path, clock: Clock) -> None:
    with open_store(tmp_path) as store:
        store.collection(Tally).put(a_tally("t", 1))
        clock.ahead = 1.5 * DAY
        store.checkpoint()
        assert own_files(tmp_path, "snapshot-*") == ["snapshot-00000001.jsonl"]
        clock.ahead = 2 * DAY
        store.checkpoint()
        assert own_files(tmp_path, "snapshot-*") == ["snapshot-00000002.jsonl"]


def test_a_clock_that_was_set_back_stops_nothing(tmp_path: Path, clock: Clock) -> None:
    with open_store(tmp_path) as store:
        store.collection(Tally).put(a_tally("t", 1))
        clock.ahead = -400 * DAY
        store.checkpoint()
        assert own_files(tmp_path, "snapshot-*") == ["snapshot-00000002.jsonl"]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_store_that_is_opened_after_a_long_time_is_compacted_soon(
    tmp_path: Path, clock: Clock
) -> None:
    with open_store(tmp_path) as store:
        write_and_delete(store)
    clock.ahead = 30 * DAY

    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=0.01):
        eventually(lambda: "snapshot-00000003.jsonl" in own_files(tmp_path, "snap*"))
        eventually(
            lambda: (
                PERSON.encode()
                not in b"".join(
                    p.read_bytes()
                    for p in (tmp_path / ".pend-storage").glob("snapshot-*")
                )
            )
        )


def test_one_of_two_processes_compacts_and_the_other_goes_on(
    tmp_path: Path, clock: Clock
) -> None:
    with open_store(tmp_path, 0.0) as here, open_store(tmp_path, 0.0) as there:
        write_and_delete(here)
        there.collection(Tally).put(a_tally("t", 1))
        for _ in range(2):
            there.checkpoint()
        here.collection(Tally).put(a_tally("t", 2))

        assert holders(tmp_path) == []
        assert there.collection(Tally).get("t") == a_tally("t", 2)
        assert here.collection(Log).get("l") is None


@pytest.fixture
def pair(tmp_path: Path) -> DualWriteStore:
    made = DualWriteStore(
        json=open_store(tmp_path, 0.0),
        postgres=FaultyStore(MemoryStore(SCHEMA)),
        secondary_timeout=0.05,
        relay_interval=None,
    )
    made.switch(Phase.PARALLEL, accept=CODES)
    return made


def test_the_log_is_held_until_the_secondary_has_applied_it(
    pair: DualWriteStore, tmp_path: Path
) -> None:
    json, secondary = pair.stores
    assert isinstance(json, JsonStore)
    assert isinstance(secondary, FaultyStore)
    pair.collection(Tally).put(a_tally("t", 1))
    pair.catch_up()
    secondary.fail("apply", "meta", "read", times=None)
    pair.collection(Log).put(a_log("l", PERSON))
    pair.collection(Log).delete("l")
    for _ in range(3):
        json.checkpoint()
    # The process could read them from memory; another one only from the files.
    assert "journal-00000001.jsonl" in holders(tmp_path)
    secondary.heal()

    assert pair.catch_up() >= 2
    assert secondary.read("logs", ["l"], deleted=True)["l"].record is None
    assert pair.lag().commits == 0
    for n in range(2):
        pair.collection(Tally).put(a_tally("t", n))
        pair.catch_up()
        json.checkpoint()
        json.checkpoint()
    assert holders(tmp_path) == []
    pair.close()


def test_a_detached_store_holds_nothing(pair: DualWriteStore, tmp_path: Path) -> None:
    json, _ = pair.stores
    assert isinstance(json, JsonStore)
    pair.switch(Phase.JSON_ONLY, accept=CODES)
    pair.collection(Log).put(a_log("l", PERSON))
    pair.collection(Log).delete("l")
    json.checkpoint()
    json.checkpoint()
    assert holders(tmp_path) == []
    pair.close()


def test_a_purge_leaves_the_key_in_no_file(tmp_path: Path) -> None:
    """Not in the history of earlier texts either, by which stale copies are known."""
    with open_store(tmp_path) as store:
        tallies = store.collection(Tally)
        for n in range(3):
            tallies.put_many([a_tally(PERSON, n), a_tally("stays", n)])
            store.checkpoint()
        tallies.delete(PERSON)
        store.checkpoint()
        assert any(name.endswith(".view") for name in holders(tmp_path))

        assert store.purge("tallies", [PERSON])

        assert holders(tmp_path) == []
        tallies.put(a_tally("stays", 9))
        store.checkpoint()
    with open_store(tmp_path) as store:
        assert store.collection(Tally).get(PERSON) is None
        assert store.collection(Tally).get("stays") == a_tally("stays", 9)
        assert len([*store.changes(store.head() - 1)]) == 1


def test_another_process_forgets_a_purged_record_too(tmp_path: Path) -> None:
    with open_store(tmp_path) as here, open_store(tmp_path) as there:
        here.collection(Tally).put(a_tally(PERSON, 1))
        here.collection(Tally).delete(PERSON)
        assert len([*there.changes()]) == 2

        assert here.purge("tallies", [PERSON])

        assert there.read("tallies", [PERSON], deleted=True) == {}
        with pytest.raises(ChangesExpired):
            [*there.changes()]
        there.collection(Tally).put(a_tally("t", 1))
        there.checkpoint()
        there.compact()
    assert holders(tmp_path) == []


def age_and_delete(report: Report, directory: Path) -> None:
    """Delete a record, and compact by age again and again."""
    with open_store(directory, 0.0) as store:
        for n in range(6):
            store.collection(Log).put(a_log("l", PERSON))
            store.collection(Tally).put(a_tally("t", n))
            store.checkpoint()
            store.collection(Log).delete("l")
            store.checkpoint()
            report(n)


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize(
    "point",
    [
        "json.segment-made",
        "json.segment-ended",
        "json.snapshot-written",
        "json.old-dropped",
    ],
)
def test_after_a_death_the_next_process_finishes_the_compaction(
    point: str, skip: int, tmp_path: Path
) -> None:
    outcome = run_until_crash(age_and_delete, tmp_path, point=point, skip=skip)
    acknowledged = outcome.reports[-1] if outcome.reports else -1

    with open_store(tmp_path, 0.0) as store:
        found = store.collection(Tally).get("t")
        assert found is None or found.value >= acknowledged
        store.collection(Log).delete("l")
        store.collection(Tally).put(a_tally("t", 100))
        store.checkpoint()
        store.checkpoint()
    assert holders(tmp_path) == []
