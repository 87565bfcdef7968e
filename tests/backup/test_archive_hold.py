"""Hold of the change log for the archive: nothing goes that it has not, for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pend_storage._archive_hold import ARCHIVE_META, ArchiveHold
from pend_storage.dualwrite import CODES
from pend_storage.dualwrite._log_position import kept_changes
from pend_storage.dualwrite._log_pruning import prune_old
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore, Retention
from pend_storage.stores.json._journal import compaction
from pend_storage.stores.json._journal.segments import numbered, read_start
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from tests.dualwrite.processes import Place, Process

DAY = 24 * 3600.0


def archived(store: Store, sequence: int, *, ago: timedelta = timedelta()) -> None:
    at = (datetime.now(UTC) - ago).isoformat()
    value: dict[str, Any] = {
        "identity": "x",
        "epoch": 1,
        "sequence": sequence,
        "at": at,
    }
    store.compare_and_set_meta(ARCHIVE_META, store.meta(ARCHIVE_META), value)


def write(store: Store, *numbers: int) -> list[int]:
    return [store.collection(Log).put(a_log(f"l{n}", "x")) for n in numbers]


def kept(store: Store) -> list[int]:
    return [change.sequence for change in kept_changes(store)]


def compact(store: JsonStore) -> None:
    store.checkpoint()  # what a file was written from is not needed any more
    store.compact()


def begin(store: JsonStore) -> int:
    """Number after which the files have the log."""
    engine = store._opened()
    return read_start(engine.directory, numbered(engine.directory, "journal")[0]).base


def pruned(store: Store, *, hold: float = 3.0) -> list[Event]:
    events: list[Event] = []
    prune_old(
        store,
        None,
        retention=timedelta(0),
        archive_hold=timedelta(days=hold),
        hook=events.append,
    )
    return events


def test_entries_that_are_not_archived_stay() -> None:
    store = MemoryStore(SCHEMA)
    numbers = write(store, *range(9))
    archived(store, numbers[4])
    assert pruned(store) == []
    assert [n for n in kept(store) if n > numbers[4]] == numbers[5:]
    assert numbers[2] not in kept(store)
    archived(store, numbers[8])
    assert pruned(store) == []
    assert kept(store) == numbers[8:]


def test_without_an_archive_nothing_is_held() -> None:
    store = MemoryStore(SCHEMA)
    numbers = write(store, *range(9))
    assert pruned(store) == []
    assert kept(store) == numbers[8:]


def test_an_archive_that_stands_still_is_not_waited_for_for_ever() -> None:
    store = MemoryStore(SCHEMA)
    numbers = write(store, *range(9))
    archived(store, numbers[4], ago=timedelta(days=4))
    assert pruned(store, hold=5.0) == []
    assert kept(store)[-4:] == numbers[5:]
    [event] = pruned(store, hold=3.0)
    assert event.name == "archive-hold-exceeded"
    assert event.fields == {"archived": numbers[4], "pruned": numbers[7]}
    assert kept(store) == numbers[8:]


def test_a_meta_entry_that_is_no_position_holds_nothing() -> None:
    values: list[Any] = [
        None,
        [],
        {},
        {"sequence": "9", "at": "2026-01-01"},
        {"sequence": 9, "at": "soon"},
    ]
    assert [ArchiveHold.of(value) for value in values] == [None] * 5


@pytest.mark.parametrize("phase", [Phase.JSON_ONLY, Phase.PARALLEL])
def test_the_relay_of_a_pair_holds_the_log(phase: Phase) -> None:
    place = Place()
    process = Process(place, retention=timedelta(0), archive_hold=timedelta(days=3))
    process.store.switch(phase, accept=CODES)
    for number in range(9):
        process.put(f"l{number}", "x")
    process.store.catch_up()
    numbers = kept(place.json)
    archived(place.json, numbers[3])
    process.store.prune_logs()
    assert kept(place.json)[-5:] == numbers[-5:]
    assert numbers[1] not in kept(place.json)
    archived(place.json, numbers[3], ago=timedelta(days=4))
    process.store.prune_logs()
    assert numbers[5] not in kept(place.json)
    assert [e.name for e in process.events].count("archive-hold-exceeded") == 1
    process.store.close()


class TestPostgres:
    def test_the_log_of_a_database_is_held(
        self, new_migrated_database: Callable[[Schema], str]
    ) -> None:
        with PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as store:
            numbers = write(store, *range(9))
            archived(store, numbers[4])
            assert pruned(store) == []
            assert [n for n in kept(store) if n > numbers[4]] == numbers[5:]
            archived(store, numbers[4], ago=timedelta(days=4))
            assert [e.name for e in pruned(store)] == ["archive-hold-exceeded"]
            assert kept(store) == numbers[8:]


class TestJson:
    @pytest.fixture
    def events(self) -> list[Event]:
        return []

    @pytest.fixture
    def store(
        self, tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
    ) -> JsonStore:
        ahead = SimpleNamespace(time=lambda: time.time() + 2 * DAY)
        monkeypatch.setattr(compaction, "time", ahead)
        return JsonStore(
            SCHEMA,
            tmp_path,
            checkpoint_interval=None,
            retain=Retention(seconds=DAY, archive_hold=3 * DAY),
            hook=events.append,
        )

    def test_segments_that_are_not_archived_stay(
        self, store: JsonStore, events: list[Event]
    ) -> None:
        with store:
            numbers = write(store, 1, 2, 3)
            archived(store, numbers[0])
            compact(store)
            write(store, 4)
            compact(store)
            assert begin(store) < numbers[0]
            archived(store, store.head())
            compact(store)
            assert begin(store) >= numbers[2]
        assert [e.name for e in events if "hold" in e.name] == []

    def test_they_go_when_the_archive_stands_still(
        self, store: JsonStore, events: list[Event]
    ) -> None:
        with store:
            numbers = write(store, 1, 2, 3)
            archived(store, numbers[0], ago=timedelta(days=5))
            compact(store)
            write(store, 4)
            compact(store)
            assert begin(store) >= numbers[2]
        assert "archive-hold-exceeded" in {e.name for e in events}

    def test_a_purge_does_not_wait_for_the_archive(self, store: JsonStore) -> None:
        with store:
            numbers = write(store, 1, 2)
            archived(store, numbers[0])
            store.collection(Log).delete("l2")
            assert store.purge("logs", ["l2"])
