"""Secondary readers: threads that read from a secondary, so that a caller can stop waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Final

from pend_storage._model.records import Row
from pend_storage.dualwrite._background import start_thread
from pend_storage.store import Store

__all__ = ["SecondaryReaders"]

_THREADS: Final = 4
_WAITING: Final = 16
"""Reads that may wait for a thread; further ones are given up at once."""


class _Read:
    """One read, from its caller to a thread and back."""

    def __init__(self, store: Store, collection: str, keys: Sequence[str]) -> None:
        self._store = store
        self._collection = collection
        self._keys = keys
        self.rows: dict[str, Row] | None = None
        self.is_given_up = False
        self.done = threading.Event()

    def run(self) -> None:
        """Read, unless the caller has given up; an error leaves no rows."""
        try:
            if not self.is_given_up:
                self.rows = self._store.read(self._collection, self._keys)
        except Exception:  # noqa: BLE001 - the primary's answer stands, whatever it is
            self.rows = None
        finally:
            self.done.set()


class SecondaryReaders:
    """A few daemon threads, which begin with the first reads. Safe to share."""

    def __init__(self) -> None:
        self._reads: queue.SimpleQueue[_Read | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._is_stopped = False

    def read(
        self, store: Store, collection: str, keys: Sequence[str], timeout: float
    ) -> dict[str, Row] | None:
        """Read from a store; None where it raises, or is not done within the timeout.

        Args:
            store: the secondary.
            collection: that is read.
            keys: of the records.
            timeout: in seconds.
        """
        if self._is_stopped or self._reads.qsize() >= _WAITING or not self._started():
            return None
        read = _Read(store, collection, keys)
        self._reads.put(read)
        if not read.done.wait(timeout):
            read.is_given_up = True
            return None
        return read.rows

    def _started(self) -> bool:
        """Start another thread while there are few; return whether there is one."""
        if len(self._threads) < _THREADS:
            with self._starting:
                if len(self._threads) < _THREADS:
                    thread = start_thread(self._work, "pend-canary")
                    if thread is not None:
                        self._threads.append(thread)
        return bool(self._threads)

    def _work(self) -> None:
        while (read := self._reads.get()) is not None:
            read.run()

    def stop(self, timeout: float) -> None:
        """End the threads; one that hangs is left behind after the timeout."""
        self._is_stopped = True
        for _ in self._threads:
            self._reads.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout / _THREADS)
