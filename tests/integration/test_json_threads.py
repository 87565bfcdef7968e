"""Many threads of one process: they share a sync, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pend_storage._files import durability
from pend_storage.errors import (
    Conflict,
    UniqueViolation,
)
from pend_storage.stores._inmemory.state import LogRecord, State
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._journal import journal
from pend_storage.testing.domain import SCHEMA, Tally, a_ship, a_tally


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


def wait_until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


class Syncs:
    """Counts what is synced, and can hold the first of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        real = durability.sync

        def sync(fd: int) -> None:
            self.count += 1
            self.begun.set()
            assert self.go_on.wait(30)
            real(fd)

        monkeypatch.setattr(journal, "sync", sync)


def test_threads_share_one_sync(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    syncs = Syncs(monkeypatch)
    syncs.go_on.clear()
    first = threading.Thread(target=store.collection(Tally).put, args=(a_tally("t"),))
    first.start()
    assert syncs.begun.wait(30)
    group = store._opened()._queue
    versions: list[int] = []

    def put(number: int) -> None:
        versions.append(store.collection(Tally).put(a_tally(f"t{number}")))

    others = [threading.Thread(target=put, args=(n,)) for n in range(30)]
    for thread in others:
        thread.start()
    wait_until(lambda: len(group._waiting) == 30)
    syncs.go_on.set()
    for thread in (first, *others):
        thread.join()

    assert syncs.count == 2
    assert len(set(versions)) == 30
    assert store.collection(Tally).count() == 31


def test_what_is_refused_fails_no_neighbour(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.collection("ships").put(a_ship("s", call_sign="TAKEN"))
    syncs = Syncs(monkeypatch)
    syncs.go_on.clear()
    first = threading.Thread(target=store.collection(Tally).put, args=(a_tally("t"),))
    first.start()
    assert syncs.begun.wait(30)
    outcomes: dict[int, Any] = {}

    def work(number: int) -> None:
        try:
            match number % 3:
                case 0:
                    outcomes[number] = store.collection(Tally).put(a_tally(f"{number}"))
                case 1:
                    ship = a_ship(f"s{number}", call_sign="TAKEN")
                    outcomes[number] = store.collection("ships").put(ship)
                case _:
                    tally = a_tally("t")
                    outcomes[number] = store.collection(Tally).put(tally, if_version=99)
        except (Conflict, UniqueViolation) as error:
            outcomes[number] = error

    others = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in others:
        thread.start()
    wait_until(lambda: len(store._opened()._queue._waiting) == 12)
    syncs.go_on.set()
    for thread in (first, *others):
        thread.join()

    assert syncs.count == 2
    for number, outcome in outcomes.items():
        expected = (int, UniqueViolation, Conflict)[number % 3]
        assert isinstance(outcome, expected), number


def test_readers_do_not_wait_for_a_commit_under_way(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.collection(Tally).put(a_tally("t", 1))
    syncs = Syncs(monkeypatch)
    syncs.go_on.clear()
    writer = threading.Thread(
        target=store.collection(Tally).put, args=(a_tally("t", 2),)
    )
    writer.start()
    assert syncs.begun.wait(30)

    seen = store.collection(Tally).get("t")
    syncs.go_on.set()
    writer.join()

    assert seen == a_tally("t", 1)
    assert store.collection(Tally).get("t") == a_tally("t", 2)


def test_what_another_process_has_not_synced_is_not_seen(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = open_store(), open_store()
    here.collection(Tally).put(a_tally("t", 1))
    syncs = Syncs(monkeypatch)
    syncs.go_on.clear()
    writer = threading.Thread(
        target=here.collection(Tally).put, args=(a_tally("t", 2),)
    )
    writer.start()
    assert syncs.begun.wait(30)

    seen = there.collection(Tally).get("t")
    syncs.go_on.set()
    writer.join()

    assert seen == a_tally("t", 1)
    assert there.collection(Tally).get("t") == a_tally("t", 2)


def test_an_interrupted_commit_leaves_nobody_waiting(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    real = durability.sync
    raised: list[object] = []

    def sync(fd: int) -> None:
        real(fd)
        if not raised:
            raised.append(fd)
            raise KeyboardInterrupt

    monkeypatch.setattr(journal, "sync", sync)
    with pytest.raises(KeyboardInterrupt):
        store.collection(Tally).put(a_tally("t", 1))

    # It was on the disk before the interrupt: what is true is what the files say.
    store.collection(Tally).put(a_tally("u", 1))
    assert store.collection(Tally).count() == 2


def test_an_interrupt_in_the_middle_of_making_it_visible_loses_nothing(
    open_store: Callable[..., JsonStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    real = State.install
    raised: list[LogRecord] = []

    def install(state: State, effect: LogRecord) -> None:
        if not raised:
            raised.append(effect)
            raise KeyboardInterrupt
        real(state, effect)

    monkeypatch.setattr(State, "install", install)
    with pytest.raises(KeyboardInterrupt):
        store.collection(Tally).put(a_tally("t", 1))

    with pytest.raises(Conflict):
        store.collection(Tally).put(a_tally("t", 2), if_version=0)
    assert store.collection(Tally).get("t") == a_tally("t", 1)


def test_a_busy_process_does_not_starve_the_others(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    greedy, modest = open_store(), open_store()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            greedy.collection(Tally).put(a_tally("greedy"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(30):
        modest.collection(Tally).put(a_tally("modest", n))
    stop.set()
    for thread in threads:
        thread.join()

    assert modest.collection(Tally).get("modest") == a_tally("modest", 29)
