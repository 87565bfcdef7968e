"""Replica: the state of a directory in one process, read and never written.

Readers take no lock between processes: they compare the published end of the journal with
the one they have read up to, and read on if it has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from pend_storage._files.failures import translate
from pend_storage.errors import StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.state import State
from pend_storage.stores._interrupt_deferral import (
    NOT_NOW,
    NotNow,
    with_interrupt_deferred,
)
from pend_storage.stores._signal_shield import shielded
from pend_storage.stores.json._journal.directory_handle import DirectoryHandle
from pend_storage.stores.json._journal.journal import SegmentDropped
from pend_storage.stores.json._journal.replica_state import ReplicaState, load
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission

__all__ = ["Replica"]

T = TypeVar("T")


class Replica:
    """Read the state of a directory, up to date with the commits of all processes."""

    def __init__(
        self,
        schema: Schema,
        directory: Path,
        *,
        name: str,
        admission: SchemaAdmission | None,
        own: DirectoryHandle | None = None,
    ) -> None:
        """Load the state.

        Args:
            schema: the collections.
            directory: the store's own directory.
            name: of the store, in errors.
            admission: admits the schema; None: the rows may be of any schema.
            own: handle of the directory; None: a new one.

        Raises:
            CorruptFile: a file is damaged.
            SchemaOutOfDate: the rows are of another schema.
        """
        self.directory = directory
        self.schema = schema
        self.admission = admission
        self._name = name
        self.mutex = threading.Lock()
        """Guards the state; held for microseconds. The main thread never waits for it: a
        signal handler may interrupt it there, and call the store itself."""
        self.version = 0
        """Sequence lock: odd while the state changes, another even number afterwards."""
        self._closed = False
        self._stale = False
        """The state in memory is not that of the files: a commit or a refresh failed midway."""
        self.own = own or DirectoryHandle(directory)
        self._live = self._loaded()
        self._admit(self._live)

    def _admit(self, live: ReplicaState) -> None:
        """Require that the rows are of this program's schema; checked at each refresh."""
        if self.admission is None:
            return
        try:
            self.admission.admit(live.state)
        except BaseException:
            self._stale = True
            raise

    def _loaded(self) -> ReplicaState:
        """Load the files for reading only."""
        return load(self.own, self.schema, self._name, write=False)

    # -- reading ------------------------------------------------------------------------

    def unlocked_state(self) -> State | None:
        """Return the state without taking a lock, if it is up to date.

        None if another process has published, or the state is changing: call
        :meth:`read_state` then. What was read of the state is valid if :attr:`version` is
        still as it was before.
        """
        live = self._live
        try:
            if live.journal.end.changed() or self._stale or self.own.is_elsewhere:
                return None
        except OSError as error:
            if error.errno is None or isinstance(error, TimeoutError):
                raise  # out of the handler of a signal
            return None  # read_state meets the error again, and raises it
        return None if self.version & 1 else live.state

    def read_state(self, job: Callable[[State], T]) -> T:
        """Run a job on the state, with every commit that is acknowledged by now.

        Args:
            job: reads the state, under the mutex; must be short.

        Raises:
            StoreUnavailable: the store is closed.
        """
        found = with_interrupt_deferred(partial(self._try_read_state, job))
        return (
            shielded(partial(self._read_state_locked, job))
            if found is NOT_NOW
            else found
        )

    def _try_read_state(self, job: Callable[[State], T]) -> T | Literal[NotNow.NOT_NOW]:
        """Read if nothing is new and the mutex is free: without waiting."""
        if not self.mutex.acquire(blocking=False):
            return NOT_NOW
        try:
            state = self.unlocked_state()
            return NOT_NOW if state is None else job(state)
        finally:
            self.mutex.release()

    def _read_state_locked(self, job: Callable[[State], T]) -> T:
        with self.mutex:
            return job(self.unlocked_state() or self._current().state)

    def read_replica(self, job: Callable[[ReplicaState], T]) -> T:
        """Run a job on state and journal, with every commit that is acknowledged by now."""
        return shielded(partial(self._read_replica_locked, job))

    def _read_replica_locked(self, job: Callable[[ReplicaState], T]) -> T:
        with self.live() as live:
            return job(live)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed", store=self._name)

    def _current(self) -> ReplicaState:
        self._require_open()
        if self.own.is_elsewhere:
            self.own.verify_path()
        if self._stale:
            self._reload()
        self.version += (
            1  # odd: readers without a lock discard what they find from here on
        )
        try:
            self._live.refresh()
        except SegmentDropped:
            self._reload()
        except OSError as error:
            raise translate(error, self.directory) from error
        except BaseException:
            self._stale = True
            raise
        finally:
            self.version += 1
        self._admit(self._live)
        return self._live

    def _reload(self) -> None:
        """Load the files again."""
        live = self._loaded()
        # Not closed here: a reader without a lock may still use the former one. Its
        # descriptors are closed with the last reference.
        self._live = live
        self._stale = False

    @contextmanager
    def live(self) -> Iterator[ReplicaState]:
        """Hold the mutex, with state and journal up to date.

        Not in the main thread, where a signal handler may interrupt the block: call
        :meth:`read_replica` there.
        """
        with self.mutex:
            yield self._current()

    def current(self) -> ReplicaState:
        """Return state and journal without a refresh; hold the mutex or the commit lock."""
        return self._live

    def close(self) -> None:
        """Close all descriptors; later calls raise ``StoreUnavailable``."""
        with self.mutex:
            if not self._closed:
                self._closed = self._stale = True
                self.abandon()

    def abandon(self) -> None:
        """Close all descriptors, without waiting: in a forked child."""
        self._live.journal.close()
        self.own.close()
