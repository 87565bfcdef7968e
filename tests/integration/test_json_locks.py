"""The locks between processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pend_storage.errors import (
    LockTimeout,
)
from pend_storage.stores.json._journal.process_locks import (
    FileLock,
    FlockLock,
    ProcessLock,
)
from pend_storage.testing import Child, Report


@pytest.fixture(params=[FlockLock, FileLock])
def lock_type(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_lock_is_held_by_one_and_times_out_for_the_other(
    lock_type: Callable[[Path], ProcessLock], tmp_path: Path
) -> None:
    first, second = lock_type(tmp_path / "lock"), lock_type(tmp_path / "lock")

    with first.held(1):
        with pytest.raises(LockTimeout) as caught:
            second.acquire(0.05)
        with second.tried() as mine:
            assert not mine
    with second.held(30), first.tried() as mine:
        assert not mine

    assert caught.value.path == str(tmp_path / "lock")
    first.close()
    second.close()


def test_a_waiter_gets_the_lock_when_it_comes_free(
    lock_type: Callable[[Path], ProcessLock], tmp_path: Path
) -> None:
    first, second = lock_type(tmp_path / "lock"), lock_type(tmp_path / "lock")
    first.acquire(1)
    got = threading.Event()

    def wait() -> None:
        with second.held(30):
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.wait(0.05)
    first.release()

    assert got.wait(30)
    waiter.join()
    first.close()
    second.close()


def test_a_lock_file_that_was_deleted_is_made_anew_by_all(tmp_path: Path) -> None:
    first, second = FlockLock(tmp_path / "lock"), FlockLock(tmp_path / "lock")
    (tmp_path / "lock").unlink()
    (tmp_path / "lock.turn").unlink()

    with first.held(5), second.tried() as mine:
        assert not mine
    with second.held(5), first.tried() as mine:
        assert not mine

    first.close()
    second.close()


def test_who_gave_up_does_not_keep_the_lock(tmp_path: Path) -> None:
    first, second = FlockLock(tmp_path / "lock"), FlockLock(tmp_path / "lock")
    first.acquire(1)
    with pytest.raises(LockTimeout):
        second.acquire(0.05)
    first.release()

    with FlockLock(tmp_path / "lock").held(30):
        pass
    first.close()
    second.close()


def hold(report: Report, path: Path) -> None:
    lock = FlockLock(path)
    lock.acquire(5)
    report("held")
    threading.Event().wait()


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    with Child(hold, tmp_path / "lock") as child:
        child.wait_for_reports()
        lock = FlockLock(tmp_path / "lock")
        with lock.tried() as mine:
            assert not mine
        child.kill()

        lock.acquire(5)

    lock.close()
