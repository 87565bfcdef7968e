"""One directory, many processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pend_storage._transaction import Transaction
from pend_storage.errors import (
    LockTimeout,
    StoreUnavailable,
)
from pend_storage.stores.json import JsonStore, Retention
from pend_storage.stores.json._journal.process_locks import FlockLock
from pend_storage.testing import Child, Report
from pend_storage.testing.domain import SCHEMA, Tally, a_tally

PROCESSES = 8
INCREMENTS = 40
MANY_INCREMENTS = 1_000


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


def together(work: Callable[[int], None], threads: int) -> None:
    """Run something in many threads at once; errors are raised here."""
    barrier, errors = threading.Barrier(threads), []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    workers = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


def increment(report: Report, directory: Path, times: int) -> None:
    def step(tx: Transaction) -> None:
        tallies = tx.collection(Tally)
        found = tallies.get("shared")
        tallies.put(a_tally("shared", (found.value if found else 0) + 1))

    with JsonStore(SCHEMA, directory, checkpoint_interval=0.05) as store:
        for _ in range(times):
            store.run(step, attempts=1_000)
        report("done")


def increments_add_up(directory: Path, times: int) -> None:
    children = [Child(increment, directory, times) for _ in range(PROCESSES)]
    for child in children:
        child.start()
    for child in children:
        child.finish()

    with JsonStore(SCHEMA, directory) as store:
        assert store.collection(Tally).get("shared") == a_tally(
            "shared", PROCESSES * times
        )
        assert sum(1 for _ in store.changes()) == PROCESSES * times
    shown = json.loads((directory / "tallies.json").read_text())
    assert shown["shared"]["value"] == PROCESSES * times


@pytest.mark.slow
def test_transactional_increments_of_eight_processes_add_up(directory: Path) -> None:
    increments_add_up(directory, INCREMENTS)


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_eight_thousand_increments_add_up(directory: Path) -> None:
    increments_add_up(directory, MANY_INCREMENTS)


def test_two_stores_see_each_others_commits_at_once(
    open_store: Callable[..., JsonStore],
) -> None:
    here, there = open_store(), open_store()

    for n in range(50):
        here.collection(Tally).put(a_tally("t", n))
        assert there.collection(Tally).get("t") == a_tally("t", n)
        there.collection(Tally).put(a_tally("t", -n))
        assert here.collection(Tally).get("t") == a_tally("t", -n)


def test_meta_and_deletions_are_seen_at_once(
    open_store: Callable[..., JsonStore],
) -> None:
    here, there = open_store(), open_store()
    here.collection(Tally).put(a_tally("t"))

    there.collection(Tally).delete("t")
    there.compare_and_set_meta("mark", None, {"a": [1, 2]})

    assert here.collection(Tally).get("t") is None
    assert here.meta("mark") == {"a": [1, 2]}
    assert not here.compare_and_set_meta("mark", None, 1)


def test_a_sleeper_follows_through_rotations(
    open_store: Callable[..., JsonStore],
) -> None:
    here, sleeper = open_store(), open_store()

    for n in range(5):
        here.collection(Tally).put(a_tally(f"t{n}", n))
        here.compact()

    assert sleeper.collection(Tally).count() == 5
    sleeper.collection(Tally).put(a_tally("mine"))
    assert here.collection(Tally).count() == 6


def test_a_sleeper_whose_segments_are_gone_loads_the_snapshot(
    open_store: Callable[..., JsonStore],
) -> None:
    reader, writer = open_store(), open_store()
    here = open_store(retain=Retention(seconds=0))

    for n in range(4):
        here.collection(Tally).put(a_tally(f"t{n}", n))
        here.checkpoint()
        here.compact()

    assert reader.collection(Tally).count() == 4
    writer.collection(Tally).put(a_tally("mine"))
    assert here.collection(Tally).count() == 5


def test_two_processes_may_write_snapshots_at_once(
    open_store: Callable[..., JsonStore],
) -> None:
    stores = [open_store(lock_timeout=30) for _ in range(3)]

    def work(number: int) -> None:
        for n in range(8):
            stores[number].collection(Tally).put(a_tally(f"{number}-{n}"))
            stores[number].compact()

    together(work, 3)

    assert [s.collection(Tally).count() for s in stores] == [24, 24, 24]
    assert open_store().collection(Tally).count() == 24


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_shares_nothing_with_its_parent(
    open_store: Callable[..., JsonStore],
) -> None:
    store = open_store(checkpoint_interval=0.05)
    store.collection(Tally).put(a_tally("t", 1))

    mutex = store._opened().mutex
    mutex.acquire()  # as another thread may hold it at that moment
    pid = os.fork()
    if pid == 0:
        os._exit(work_as_child(store))
    mutex.release()

    assert exit_code(pid) == 0
    assert store.collection(Tally).get("child") == a_tally("child", 1)
    store.collection(Tally).put(a_tally("parent", 1))
    assert store.collection(Tally).count() == 3


def work_as_child(store: JsonStore) -> int:
    try:
        store.collection(Tally).put(a_tally("child", 1))
        count = store.collection(Tally).count()
        store.close()
    except BaseException:  # noqa: BLE001 - told by the exit code
        return 1
    return 0 if count == 2 else 2


def exit_code(pid: int) -> int:
    """Wait for a child, up to a time; one that hangs is killed."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hung")


def test_a_store_whose_lock_is_taken_says_so_and_works_again_later(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store(lock_timeout=0.05)
    store.collection(Tally).put(a_tally("t", 1))
    other = FlockLock(directory / ".pend-storage" / "lock")

    with other.held(5):
        with pytest.raises(LockTimeout):
            store.collection(Tally).put(a_tally("t", 2))
        assert store.collection(Tally).get("t") == a_tally("t", 1)

    store.collection(Tally).put(a_tally("t", 3))
    other.close()


def test_a_closed_store_refuses_everything(
    open_store: Callable[..., JsonStore],
) -> None:
    store = open_store()
    store.close()
    store.close()

    for call in (
        lambda: store.collection(Tally).get("t"),
        lambda: store.collection(Tally).put(a_tally()),
        lambda: store.collection(Tally).count(),
        lambda: store.meta("m"),
        lambda: list(store.changes()),
        store.checkpoint,
        store.compact,
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()


def test_a_store_whose_own_directory_was_deleted_takes_no_commits(
    directory: Path, open_store: Callable[..., JsonStore]
) -> None:
    store = open_store()
    shutil.rmtree(directory / ".pend-storage")

    with pytest.raises(StoreUnavailable, match="deleted"):
        store.collection(Tally).put(a_tally("t", 1))
