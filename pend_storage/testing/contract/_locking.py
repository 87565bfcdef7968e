"""Contract of named locks: one holder at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pend_storage.errors import LockTimeout
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, requires
from pend_storage.testing.crash import Child

__all__ = ["LockContract"]


class LockContract(Harness):
    """Contract of :meth:`Store.lock <pend_storage.store.Store.lock>`."""

    @requires("has_locks")
    def test_a_lock_has_one_holder(self, store: Store) -> None:
        with store.lock("a", 1.0) as is_held:
            assert is_held()
            assert not _is_free(store, "a")
            assert _is_free(store, "b")
        assert _is_free(store, "a")

    @requires("has_locks")
    def test_a_lock_is_not_taken_twice_by_one_caller(self, store: Store) -> None:
        with (
            store.lock("a", 1.0),
            pytest.raises(LockTimeout),
            store.lock("a", 0.05),
        ):
            pass

    @requires("has_locks")
    def test_a_lock_ends_with_an_exception(self, store: Store) -> None:
        with pytest.raises(KeyError), store.lock("a", 1.0):
            raise KeyError

        assert _is_free(store, "a")

    @requires("has_locks")
    def test_who_waits_for_a_lock_gets_it(self, store: Store) -> None:
        order: list[str] = []

        def wait() -> None:
            with store.lock("a", 30.0):
                order.append("waited")

        thread = threading.Thread(target=wait)
        with store.lock("a", 1.0):
            thread.start()
            time.sleep(0.1)
            order.append("held")
        thread.join()

        assert order == ["held", "waited"]

    @requires("has_locks")
    def test_a_lock_stops_no_reads_and_no_writes(self, store: Store) -> None:
        with store.lock("a", 1.0):
            store.compare_and_set_meta("m", None, 1)
            assert store.meta("m") == 1

    @requires("has_locks", "multi_process")
    def test_a_lock_ends_with_its_process(self, store: Store) -> None:
        opener, args = self.opener(store)
        with Child(_hold, opener, args, "a") as child:
            child.wait_for_reports(1)
            assert not _is_free(store, "a")
            child.kill()
            with store.lock("a", 30.0):
                pass


def _is_free(store: Store, name: str) -> bool:
    """Return True if another thread can take the lock at once."""
    found: list[bool] = []

    def attempt() -> None:
        try:
            with store.lock(name, 0):
                found.append(True)
        except LockTimeout:
            found.append(False)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return found[0]


def _hold(
    report: Callable[[Any], None],
    opener: Callable[..., Store],
    args: tuple[Any, ...],
    name: str,
) -> None:
    with opener(*args) as store, store.lock(name, 10.0):
        report("held")
        time.sleep(60)
