"""Commit requests of many threads and processes, one frame at a time.

Threads of one process share a frame and its sync (group commit): a request that comes while
one is under way waits, and the next leader commits all that wait. Between processes the
commit lock decides, and each writer first reads what the others wrote.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal, Protocol, TypeVar

from pend_storage._group_commit import CallerLedQueue, Request
from pend_storage._layouts.layout import Layout
from pend_storage.errors import (
    LockTimeout,
    PendStorageError,
)
from pend_storage.events import Event, Hook
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores._interrupt_deferral import (
    NOT_NOW,
    NotNow,
    with_interrupt_deferred,
)
from pend_storage.stores._signal_shield import in_main_thread, shielded
from pend_storage.stores.json._journal.atomic_files import translate
from pend_storage.stores.json._journal.commit_failures import CommitFailures
from pend_storage.stores.json._journal.log_records import encode_effects
from pend_storage.stores.json._journal.replica_state import (
    Checkpoint,
    ReplicaState,
)
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission
from pend_storage.stores.json._journal.shared_replica import SharedReplica

__all__ = ["Engine", "Submit"]

T = TypeVar("T")

_QUICK: Final = 0.01
"""Seconds that a sync may take to be waited for where Ctrl-C cannot interrupt."""


class Submit(Protocol):
    """Plans something and carries it out: :meth:`Engine.submit`."""

    def __call__(self, job: Callable[[Plan], T], /) -> T:
        """Give what the job gives; nothing is written where it raises."""


class Engine(SharedReplica):
    """Commit to the journal of a directory, for many threads and many processes."""

    def __init__(
        self,
        schema: Schema,
        directory: Path,
        *,
        name: str,
        lock_timeout: float,
        hook: Hook,
        admission: SchemaAdmission | None = None,
        layouts: Sequence[Layout] = (),
    ) -> None:
        """Load the state.

        Args:
            schema: the collections.
            directory: the store's own directory.
            name: how errors call the store.
            lock_timeout: seconds to wait for another process at most.
            hook: receives events of torn frames.
            admission: judges the schema; None: the rows may be of any schema.
            layouts: of the legacy files.

        Raises:
            SchemaOutOfDate: the rows are of another schema.
        """
        self.layouts = tuple(layouts)
        self._hook = hook
        self._queue = CallerLedQueue(self._execute)
        self._failures = CommitFailures(name, directory)
        self._writing = threading.Lock()
        """Held by whoever writes to the journal, as long as that takes."""
        self._is_quick = False
        """Whether the last sync was: not known before the first one."""
        self._torn: list[Path] = []
        super().__init__(
            schema,
            directory,
            name=name,
            lock_timeout=lock_timeout,
            admission=admission,
        )

    # -- changing -----------------------------------------------------------------------

    def submit(self, job: Callable[[Plan], T]) -> T:
        """Plan something, write it to the journal, and make it visible.

        Args:
            job: plans it; what it raises is raised here, and nothing is written.

        Raises:
            LockTimeout: another process holds the commit lock for too long.
            StoreUnavailable: the disk refuses.
        """
        outcome: T | PendStorageError | Literal[NotNow.NOT_NOW] = NOT_NOW
        if not in_main_thread():
            outcome = self._submit_at_once(job)
        elif self._is_quick:
            outcome = with_interrupt_deferred(partial(self._submit_at_once, job))
        if outcome is NOT_NOW:
            (outcome,) = self.submit_each([job])
        elif self._torn:
            self._tell_torn()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _submit_at_once(
        self, job: Callable[[Plan], T]
    ) -> T | PendStorageError | Literal[NotNow.NOT_NOW]:
        """Submit where nobody else is writing: without a wait for others."""
        if self._stale or not self._queue.try_acquire_slot():
            return NOT_NOW
        try:
            if not self._writing.acquire(blocking=False):
                return NOT_NOW
            try:
                return self._write_at_once(job)
            finally:
                self._writing.release()
        finally:
            self._queue.release_slot()

    def _write_at_once(
        self, job: Callable[[Plan], T]
    ) -> T | PendStorageError | Literal[NotNow.NOT_NOW]:
        request = Request(job)
        try:
            if self._closed:
                self._require_open()
            try:
                self._lock.acquire(0)
            except LockTimeout:
                return NOT_NOW
            try:
                self._commit_or_doubt([request], looked=True)
            finally:
                self._lock.release()
        except BaseException as error:  # noqa: BLE001 - it is judged, and raised again
            self._failures.fail([request], error)
        outcome: T | PendStorageError = (
            request.result if request.error is None else self._outcome(request)
        )
        return outcome

    def submit_each(
        self, jobs: Sequence[Callable[[Plan], T]]
    ) -> list[T | PendStorageError]:
        """Do the same for several jobs, each for itself, in their order.

        Returns:
            For each what it gave, or the error.
        """
        requests = [Request(job) for job in jobs]
        try:
            shielded(partial(self._queue.run, *requests))
        except BaseException:
            for request in requests:
                request.withdrawn = True
            raise
        if self._torn:
            self._tell_torn()
        return [self._outcome(request) for request in requests]

    @staticmethod
    def _outcome(request: Request) -> Any:
        """What a job gave, or the error; raises what is no error of a store."""
        error = request.error
        if error is not None and not isinstance(error, PendStorageError):
            raise error
        return request.result if error is None else error

    def _execute(self, requests: list[Request]) -> None:
        with self._failures.assigned_to(requests), self._writing:
            self._require_open()
            with self._lock.held(self._timeout):
                self._commit_or_doubt(requests, looked=True)

    @contextmanager
    def alone(self) -> Iterator[Submit]:
        """Keep everybody else from committing; gives what submits in the meantime.

        Reads go on. All other writers wait for the block, so it must be short, and must
        not call :meth:`submit` or code that is not this library's.

        Raises:
            LockTimeout: another process holds the commit lock for too long.
        """
        with self._writing:
            self._require_open()
            with self._lock.held(self._timeout):
                with self.mutex:
                    self._caught_up()
                yield self._submit_alone

    def _submit_alone(self, job: Callable[[Plan], T]) -> T:
        request = Request(job)
        with self._failures.assigned_to([request]):
            self._commit_or_doubt([request])
        outcome: T = request.outcome()
        return outcome

    def _commit_or_doubt(
        self, requests: list[Request], *, looked: bool = False
    ) -> None:
        """Commit; where it fails in a way that was not foreseen, only the files know."""
        try:
            self._commit(requests, looked=looked)
        except PendStorageError:
            raise
        except BaseException:
            self._stale = True
            raise

    def _commit(self, requests: list[Request], *, looked: bool) -> None:
        """Plan what the requests want, write it as one frame, make it visible."""
        with self.mutex:
            live = self._caught_up(looked=looked)
            plan = Plan(live.state, live.find)
            planned: list[Request] = []
            for request in requests:
                if plan.closed:
                    break
                if not request.withdrawn:
                    request.run(plan)
                planned.append(request)
        if plan.effects:
            if self._tail_is_torn:
                self._set_aside_torn(live)
            frame = encode_effects(plan.effects)
            began = monotonic()
            live.journal.append(frame)
            self._is_quick = monotonic() - began < _QUICK
            with self.mutex:
                self.version += 1
                try:
                    live.install(plan.effects)
                    self._publish(live)
                finally:
                    self.version += 1
        for request in planned:
            request.done = True

    def _set_aside_torn(self, live: ReplicaState) -> None:
        if self._tail_is_torn:
            self._torn.append(live.journal.set_aside_tail())
            self._tail_is_torn = False

    def _publish(self, live: ReplicaState) -> None:
        """Tell other processes; what cannot be told is on the disk nevertheless."""
        try:
            live.journal.publish()
        except OSError as error:
            raise translate(error, self.directory, outcome_known=False) from error

    def _tell_torn(self) -> None:
        while self._torn:
            aside = self._torn.pop()
            self._hook(
                Event(
                    "torn-tail-dropped",
                    "a commit that a crash had interrupted, and that nobody was told had "
                    f"succeeded, was dropped; what there was of it is in {aside}",
                    logging.WARNING,
                )
            )

    # -- the rest -----------------------------------------------------------------------

    def cut(self) -> Checkpoint:
        """Begin a new segment of the journal, and copy the state as it is there."""
        with self._writing:
            self._require_open()
            return self._cut()

    def _cut(self) -> Checkpoint:
        with self._lock.held(self._timeout):
            with self.mutex:
                live = self._caught_up()
            try:
                if self._tail_is_torn:
                    self._set_aside_torn(live)
                following = None
                if not live.journal.is_fresh:  # as after a snapshot that failed
                    following = live.journal.end_segment(live.state.sequence)
                with self.mutex:
                    if following is not None:
                        live.journal.go_on(following)
                    return live.cut()
            except PendStorageError:
                raise
            except BaseException:
                self._stale = True
                raise

    def close(self) -> None:
        """Let go of the files; later calls are refused."""
        with self._writing, self.mutex:
            if not self._closed:
                self._closed = self._stale = True
                self.abandon()
