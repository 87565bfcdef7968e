"""Shared replica: the state of a directory in one process, with what all others committed.

Readers take no lock between processes: they compare the published end of the journal with
what they have read, and read on if it has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from pend_storage.errors import CorruptFile, StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.state import State
from pend_storage.stores._interrupt_deferral import (
    NOT_NOW,
    NotNow,
    with_interrupt_deferred,
)
from pend_storage.stores._signal_shield import shielded
from pend_storage.stores.json._journal.atomic_files import translate
from pend_storage.stores.json._journal.directory_handle import DirectoryHandle
from pend_storage.stores.json._journal.journal import SegmentDropped
from pend_storage.stores.json._journal.process_locks import FlockLock
from pend_storage.stores.json._journal.replica_state import ReplicaState, load
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission

__all__ = ["SharedReplica"]

T = TypeVar("T")


class SharedReplica:
    """Read the state of a directory, up to date with the commits of all processes."""

    def __init__(
        self,
        schema: Schema,
        directory: Path,
        *,
        name: str,
        lock_timeout: float,
        admission: SchemaAdmission | None,
    ) -> None:
        """Load the state.

        Args:
            schema: the collections.
            directory: the store's own directory.
            name: of the store, in errors.
            lock_timeout: seconds to wait for another process at most.
            admission: judges the schema; None: the rows may be of any schema.

        Raises:
            SchemaOutOfDate: the rows are of another schema.
        """
        self.directory = directory
        self.schema = schema
        self.admission = admission
        self._name = name
        self._timeout = lock_timeout
        self.mutex = threading.Lock()
        """Guards the state; held for microseconds, and never by the main thread."""
        self.version = 0
        """Changes with the state; odd while that is under way."""
        self._closed = False
        self._stale = False
        """Only the files know the state: a commit or a reading failed on the way."""
        self._tail_is_torn = False
        self.own = DirectoryHandle(directory)
        self._checked_generation = 0
        self._lock = FlockLock(directory / "lock", self.own)
        try:
            self._live = self._loaded()
            self._admit(self._live)
        except BaseException:
            self._lock.close()
            raise

    def _admit(self, live: ReplicaState) -> None:
        """See that the rows are of this program's schema, now and at each later look."""
        if self.admission is None:
            return
        try:
            self.admission.admit(live.state)
        except BaseException:
            self._stale = True
            raise

    def _loaded(self) -> ReplicaState:
        """Load, and bring to an end what a process that died had begun."""
        live = load(self.own, self.schema, self._name)
        try:
            if live.journal.size_changed():
                with self._lock.held(self._timeout):
                    live.catch_up()
        except SegmentDropped:  # in the meantime, by another process
            live.journal.close()
            return load(self.own, self.schema, self._name)
        except BaseException:
            live.journal.close()
            raise
        return live

    # -- looking ------------------------------------------------------------------------

    def unlocked_state(self) -> State | None:
        """The state with all that is committed by now, without taking a lock.

        None where something is new, or changes at this moment: then :meth:`look`. What
        was found in the state counts if :attr:`version` is still as it was before.
        """
        live = self._live
        try:
            if live.journal.end.changed() or self._stale or self.own.is_elsewhere:
                return None
        except OSError as error:
            if error.errno is None or isinstance(error, TimeoutError):
                raise  # out of the handler of a signal
            return None  # found again, and told, on the longer way
        return None if self.version & 1 else live.state

    def read_state(self, job: Callable[[State], T]) -> T:
        """What a job finds in the state with all that is committed by now.

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
        """Look where nothing is new, and nobody has the state: without waiting."""
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
        """What a job finds in state and journal, up to date."""
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
        self.version += 1
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

    def _reload(self, *, to_the_end: bool = False) -> None:
        """Read the files anew; to the very end only under the commit lock."""
        live = load(self.own, self.schema, self._name)
        if to_the_end:
            try:
                live.catch_up()
            except SegmentDropped:  # nobody drops any while we hold the lock
                raise CorruptFile(
                    "the journal goes on in a segment that is not there",
                    path=str(self.directory),
                ) from None
        self._live.journal.require_continued(live.journal)
        # The one before is closed when the last writer or reader has let go of it.
        self._live = live
        self._stale = False

    @contextmanager
    def live(self) -> Iterator[ReplicaState]:
        """The state and the journal, up to date, for the length of the block.

        Not in the main thread, where the block might be interrupted: :meth:`read_replica`.
        """
        with self.mutex:
            yield self._current()

    def current(self) -> ReplicaState:
        """State and journal as they are; hold the mutex, and what keeps others out."""
        return self._live

    def _caught_up(self, *, is_verified: bool = False) -> ReplicaState:
        """The state with all that is in the journal. Hold the commit lock.

        Where it fails on the way, the next caller reads the files anew: what was read is
        in the state, and may not be on the disk.

        Args:
            is_verified: whether the lock has just seen that the directory is still the one.
        """
        generation = self.own.generation if is_verified else self.own.verify_path()
        if generation != self._checked_generation and not self._live.journal.is_named():
            self._stale = True
        if self._stale:
            self._reload(to_the_end=True)
        self._checked_generation = generation
        self.version += 1
        try:
            try:
                self._tail_is_torn = self._live.catch_up()
            except SegmentDropped:
                self._reload(to_the_end=True)
                self._tail_is_torn = self._live.catch_up()
        except BaseException:
            self._stale = True
            raise
        finally:
            self.version += 1
        self._admit(self._live)
        return self._live

    def abandon(self) -> None:
        """Close the files and nothing else; for a forked child, whose locks mean nothing."""
        self._live.journal.close()
        self._lock.close()
        self.own.close()
