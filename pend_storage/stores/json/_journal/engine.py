"""Storage engine: group commit to the journal, for many threads and processes.

Threads of one process share a frame and its sync: requests that arrive during a commit wait,
and the next leader commits all of them. Between processes the commit lock decides, and each
writer first reads what the others wrote.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal, Protocol, TypeVar

from typing_extensions import override

from pend_storage._files.failures import translate
from pend_storage._group_commit import CallerLedQueue, Request
from pend_storage._layouts.layout import Layout
from pend_storage.errors import (
    LockTimeout,
    PendStorageError,
)
from pend_storage.events import Event, Hook
from pend_storage.instrumentation._timing import Count
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores._interrupt_deferral import (
    NOT_NOW,
    NotNow,
    with_interrupt_deferred,
)
from pend_storage.stores._signal_shield import in_main_thread, shielded
from pend_storage.stores.json._journal.bulk_replacement import replace_contents
from pend_storage.stores.json._journal.commit_failures import CommitFailures
from pend_storage.stores.json._journal.log_records import encode_effects
from pend_storage.stores.json._journal.replica_state import (
    Checkpoint,
    ReplicaState,
)
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission
from pend_storage.stores.json._journal.shared_replica import SharedReplica
from pend_storage.stores.json._journal.snapshot import Contents

__all__ = ["Engine", "Submit"]

T = TypeVar("T")

_QUICK: Final = 0.01
"""Seconds up to which a sync is waited for with Ctrl-C deferred."""


class Submit(Protocol):
    """Signature of :meth:`Engine.submit`."""

    def __call__(self, job: Callable[[Plan], T], /) -> T:
        """Commit what the job plans, and return its result; nothing is written if it raises."""


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
        count: Count | None = None,
    ) -> None:
        """Load the state.

        Args:
            schema: the collections.
            directory: the store's own directory.
            name: of the store, in errors.
            lock_timeout: seconds to wait for another process at most.
            hook: receives ``torn-tail-dropped``.
            admission: admits the schema; None: the rows may be of any schema.
            layouts: of the legacy files.
            count: counts the commits that were written together.

        Raises:
            SchemaOutOfDate: the rows are of another schema.
        """
        self.layouts = tuple(layouts)
        self._hook = hook
        self._count = count
        self._queue = CallerLedQueue(self._execute)
        self._failures = CommitFailures(name, directory)
        self._writing = threading.Lock()
        """Held by the thread that writes to the journal, sync included."""
        self._is_quick = False
        """The last sync took less than :data:`_QUICK`; False before the first one."""
        self._torn_files: list[Path] = []
        super().__init__(
            schema,
            directory,
            name=name,
            lock_timeout=lock_timeout,
            admission=admission,
        )

    # -- committing -----------------------------------------------------------------------

    def submit(self, job: Callable[[Plan], T]) -> T:
        """Commit what a job plans: write a frame, sync, apply, publish.

        Args:
            job: plans rows and meta. What it raises is raised here, and nothing is written.

        Returns:
            The result of the job.

        Raises:
            LockTimeout: another process holds the commit lock for too long.
            StoreUnavailable: the disk refuses.
        """
        outcome: T | PendStorageError | Literal[NotNow.NOT_NOW] = NOT_NOW
        # A signal handler runs in the main thread, between any two lines. So that thread
        # commits itself only if interrupts can be deferred for the short time of a sync;
        # otherwise a helper thread leads.
        if not in_main_thread():
            outcome = self._try_submit(job)
        elif self._is_quick:
            outcome = with_interrupt_deferred(partial(self._try_submit, job))
        if outcome is NOT_NOW:
            (outcome,) = self.submit_each([job])
        elif self._torn_files:
            self._emit_torn_tail()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _try_submit(
        self, job: Callable[[Plan], T]
    ) -> T | PendStorageError | Literal[NotNow.NOT_NOW]:
        """Commit if no other thread or process is writing: without waiting."""
        if self._stale or not self._queue.try_acquire_slot():
            return NOT_NOW
        try:
            if not self._writing.acquire(blocking=False):
                return NOT_NOW
            try:
                return self._try_commit(job)
            finally:
                self._writing.release()
        finally:
            self._queue.release_slot()

    def _try_commit(
        self, job: Callable[[Plan], T]
    ) -> T | PendStorageError | Literal[NotNow.NOT_NOW]:
        request = Request(job)
        try:
            if self._closed:
                self._require_open()
            try:
                self._lock.acquire(0)
            except LockTimeout:  # another process commits: wait in the queue instead
                return NOT_NOW
            try:
                self._commit_or_mark_stale([request], is_verified=True)
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
        """Commit several jobs in their order, each independent of the others.

        Returns:
            For each job its result, or its error.
        """
        requests = [Request(job) for job in jobs]
        try:
            shielded(partial(self._queue.run, *requests))
        except BaseException:
            # Interrupted: a leader that has not planned these yet must skip them.
            for request in requests:
                request.withdrawn = True
            raise
        if self._torn_files:
            self._emit_torn_tail()
        return [self._outcome(request) for request in requests]

    @staticmethod
    def _outcome(request: Request) -> Any:
        """Return the result of a job, or its error; raise what is no error of a store."""
        error = request.error
        if error is not None and not isinstance(error, PendStorageError):
            raise error
        return request.result if error is None else error

    def _execute(self, requests: list[Request]) -> None:
        with self._failures.assigned_to(requests), self._writing:
            self._require_open()
            with self._lock.held(self._timeout):
                self._commit_or_mark_stale(requests, is_verified=True)

    @contextmanager
    def exclusive(self) -> Iterator[Submit]:
        """Hold the commit lock: yield a function that commits in the meantime.

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
                yield self._submit_exclusively

    def _submit_exclusively(self, job: Callable[[Plan], T]) -> T:
        request = Request(job)
        with self._failures.assigned_to([request]):
            self._commit_or_mark_stale([request])
        outcome: T = request.outcome()
        return outcome

    def _commit_or_mark_stale(
        self, requests: list[Request], *, is_verified: bool = False
    ) -> None:
        """Commit; after an unforeseen failure, mark the state in memory as stale."""
        try:
            self._commit(requests, is_verified=is_verified)
        except PendStorageError:
            raise
        except BaseException:
            self._stale = True
            raise

    def _commit(self, requests: list[Request], *, is_verified: bool) -> None:
        """Plan the requests, write one frame, apply it, publish it."""
        with self.mutex:
            live = self._caught_up(is_verified=is_verified)
            plan = Plan(live.state, live.find)
            planned: list[Request] = []
            for request in requests:
                if (
                    plan.closed
                ):  # roles change with it: the rest needs a plan of its own
                    break
                if not request.withdrawn:
                    request.run(plan)
                planned.append(request)
        if plan.effects:
            if self._tail_is_torn:
                self._retain_torn_tail(live)
            frame = encode_effects(plan.effects)
            began = monotonic()
            # The mutex is free meanwhile: readers do not wait for the disk.
            live.journal.append(frame)
            self._is_quick = monotonic() - began < _QUICK
            if self._count is not None:
                self._count("merged_commits", len(plan.effects))
            with self.mutex:
                self.version += 1
                try:
                    live.install(plan.effects)
                    self._publish(live)
                finally:
                    self.version += 1
        for request in planned:
            request.done = True

    def _retain_torn_tail(self, live: ReplicaState) -> None:
        if self._tail_is_torn:
            self._torn_files.append(live.journal.cut_torn_tail())
            self._tail_is_torn = False

    def _publish(self, live: ReplicaState) -> None:
        """Publish the end; if that fails, the frame is on the disk all the same."""
        try:
            live.journal.publish()
        except OSError as error:
            raise translate(error, self.directory, outcome_known=False) from error

    def _emit_torn_tail(self) -> None:
        while self._torn_files:
            aside = self._torn_files.pop()
            self._hook(
                Event(
                    "torn-tail-dropped",
                    "a commit that a crash had interrupted before it was acknowledged "
                    f"was dropped; what there was of it is in {aside}",
                    logging.WARNING,
                    {"file": str(aside)},
                )
            )

    # -- checkpoints and closing --------------------------------------------------------------

    def begin_checkpoint(self) -> Checkpoint:
        """Begin a new segment of the journal, and copy the state at its start."""
        with self._writing:
            self._require_open()
            return self._begin_checkpoint()

    def _begin_checkpoint(self) -> Checkpoint:
        with self._lock.held(self._timeout):
            with self.mutex:
                live = self._caught_up()
            try:
                if self._tail_is_torn:
                    self._retain_torn_tail(live)
                following = None
                # A snapshot that failed left a fresh segment: use that one.
                if not live.journal.is_fresh:
                    following = live.journal.end_segment(live.state.sequence)
                with self.mutex:
                    if following is not None:
                        live.journal.continue_in(following)
                    return live.checkpoint()
            except PendStorageError:
                raise
            except BaseException:
                self._stale = True
                raise

    def cut(self) -> tuple[Checkpoint, datetime]:
        """Copy the state with every commit that was made, and the time of the copy.

        No later commit has an earlier time: times are taken under the same lock.
        """
        with self.mutex:  # before the lock: a collection is decoded at its first use
            for table in self._current().state.tables.values():
                _ = table.rows
        with self._writing:
            self._require_open()
            with self._lock.held(self._timeout), self.mutex:
                return self._caught_up().checkpoint(), datetime.now(UTC)

    def replace_contents(self, make: Callable[[ReplicaState], Contents | None]) -> bool:
        """Replace all rows, by a new snapshot.

        Args:
            make: returns the new rows, or None to replace nothing; what it raises is
                raised here, and nothing is written.

        Returns:
            Whether rows were replaced.

        Raises:
            StoreUnavailable: the disk refuses.
        """
        with self._writing:
            self._require_open()
            with self._lock.held(self._timeout):
                with self.mutex:
                    live = self._caught_up()
                    contents = make(live)
                if contents is None:
                    return False
                if self._tail_is_torn:
                    self._retain_torn_tail(live)
                try:
                    replace_contents(self.own, live, contents)
                finally:
                    self._stale = True  # whatever was written: load it again
                with self.mutex:
                    self._reload(to_the_end=True)
                return True

    @override
    def close(self) -> None:
        """Close all descriptors; later calls raise ``StoreUnavailable``."""
        with self._writing, self.mutex:
            if not self._closed:
                self._closed = self._stale = True
                self.abandon()
