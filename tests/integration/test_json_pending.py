"""Pending count of a JSON store's log after a position: the same as by walking."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pend_storage.errors import ChangesExpired
from pend_storage.records import Pending
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore, Retention
from pend_storage.stores.json import _change_log as change_log
from pend_storage.stores.json._journal import (
    history_reader,
    log_timeline,
    replica_state,
)
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_store(directory: Path) -> Iterator[Callable[..., JsonStore]]:
    opened: list[JsonStore] = []

    def open_it(**settings: Any) -> JsonStore:
        settings = {"checkpoint_interval": None} | settings
        opened.append(JsonStore(SCHEMA, directory, **settings))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture(autouse=True)
def _short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_state, "_HISTORY_BYTES", 2_000)
    monkeypatch.setattr(log_timeline, "_WORTH_TRIMMING", 4)


def walked(store: JsonStore, after: int) -> Pending | int:
    try:
        return Store.pending(store, after)
    except ChangesExpired as expired:
        return expired.oldest


def counted(store: JsonStore, after: int) -> Pending | int:
    try:
        return store.pending(after)
    except ChangesExpired as expired:
        return expired.oldest


def test_any_place_tells_what_walking_tells(
    open_store: Callable[..., JsonStore],
) -> None:
    """Over compaction and pruning, in two processes, one of which only looks."""
    dice = random.Random(8)
    here = open_store(retain=Retention(size=6_000))
    there = open_store(retain=Retention(size=6_000))
    expired = 0
    for _ in range(150):
        what = dice.randrange(10)
        if what < 7:
            for n in range(dice.randrange(1, 4)):
                writer = dice.choice((here, there))
                writer.collection(Tally).put(a_tally(f"t{n}", dice.randrange(1_000)))
        elif what < 8:
            here.collection(Log).put(a_log("big", "x" * dice.randrange(3_000)))
        elif what < 9:
            here.checkpoint()
            here.compact()
        else:
            there.compact()
        for store in (here, there):
            for after in (0, 1, *(dice.randrange(store.head() + 2) for _ in range(4))):
                found = counted(store, after)
                assert found == walked(store, after)
                expired += isinstance(found, int)
    assert expired > 100
    fresh = open_store()
    assert [counted(fresh, n) for n in range(fresh.head() + 2)] == [
        walked(fresh, n) for n in range(fresh.head() + 2)
    ]


def test_the_log_is_read_once_however_far_it_goes_back(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    for n in range(300):
        store.collection(Tally).put(a_tally("t", n))
    assert store.pending(0).commits == 300
    read = _count_reads(monkeypatch)

    for n in range(20):
        store.collection(Tally).put(a_tally("t", n))
        assert store.pending(0).commits == 301 + n
        assert store.pending(100).commits == 201 + n

    assert read == []


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    module = history_reader.effects_after.__module__
    effects_after = history_reader.effects_after

    def noted(*args: Any) -> Any:
        read.append(module)
        return effects_after(*args)

    monkeypatch.setattr("pend_storage.stores.json._change_log.effects_after", noted)
    return read


def test_commits_under_way_while_the_log_is_read_are_counted(
    open_store: Callable[..., JsonStore],
) -> None:
    store, other = open_store(), open_store()
    for n in range(200):
        store.collection(Tally).put(a_tally("t", n))
    stop = threading.Event()

    def write() -> None:
        for _ in range(20_000):  # the general count ends at 100,000
            if stop.is_set():
                return
            other.collection(Tally).put(a_tally("u"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            store._opened()._live.timeline = None
            before = store.pending(0).commits
            assert before <= Store.pending(store, 0).commits
    finally:
        stop.set()
        writer.join(30)
    assert store.pending(0) == Store.pending(store, 0)


def test_what_nobody_asks_for_any_more_is_let_go(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_timeline, "_MOST_UNASKED", 50)
    store = open_store()
    for n in range(100):
        store.collection(Tally).put(a_tally("t", n))
    store.pending(0)
    assert store._opened()._live.timeline is not None

    for n in range(60):
        store.collection(Tally).put(a_tally("t", n))

    assert store._opened()._live.timeline is None
    assert store.pending(0).commits == 160


def test_what_is_pruned_takes_no_memory(open_store: Callable[..., JsonStore]) -> None:
    store = open_store(retain=Retention(size=12_000))
    for n in range(400):
        store.collection(Tally).put(a_tally("t", n))
        if n % 50 == 49:
            store.checkpoint()
            store.compact()
            assert isinstance(counted(store, store.head() - 30), Pending)

    with pytest.raises(ChangesExpired) as caught:
        store.pending(0)

    kept = store._opened()._live.timeline
    assert kept is not None
    assert len(kept) <= store.pending(caught.value.oldest).commits + 4 < 200


def test_thirty_thousand_commits_are_counted_without_reading_the_log_again(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_state, "_HISTORY_BYTES", 1 << 20)
    store = open_store()
    for start in range(0, 30_000, 1_000):
        store.commit_each(
            [
                SCHEMA.batch([SCHEMA.put(Tally, a_tally(f"t{n}"))])
                for n in range(start, start + 1_000)
            ]
        )
    store.pending(0)  # the first one reads it, once
    monkeypatch.setattr(change_log, "effects_after", None)
    monkeypatch.setattr(JsonStore, "changes", None)

    assert store.pending(0).commits == 30_000
