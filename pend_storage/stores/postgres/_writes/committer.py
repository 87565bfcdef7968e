"""Committer: runs commits alone or in groups, and returns each outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pend_storage._group_commit import CallerLedQueue, Request
from pend_storage._model.records import Batch, Change, Outcome
from pend_storage.errors import (
    PendStorageError,
    StoreUnavailable,
    own_copy,
)
from pend_storage.instrumentation._timing import Count
from pend_storage.store import Store
from pend_storage.stores._signal_shield import in_main_thread
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._client.lock_waits import describe_lock_holders
from pend_storage.stores.postgres._connection.wire_format import Value
from pend_storage.stores.postgres._queries.statements import CollectionStatements
from pend_storage.stores.postgres._writes.commit_batches import MOST_KEYS, CommitBatches
from pend_storage.stores.postgres._writes.commit_execution import (
    AlreadyCommitted,
    CommitExecutor,
)
from pend_storage.stores.postgres._writes.commit_retry import (
    LockWaitTimeout,
    SharedLockTimeout,
)
from pend_storage.stores.postgres._writes.storable_batch import StorableBatch

__all__ = ["SLOTS", "Committer"]

SLOTS: Final = 4
"""Threads that commit at a time, while others wait to be committed for."""
_SLOT_LOCK_TIMEOUT: Final = b"250ms"
"""``lock_timeout`` of a commit in a slot while other commits wait."""
_GROUP_LOCK_TIMEOUT: Final = b"100ms"
"""``lock_timeout`` of commits in one call."""
_SPLIT_LOCK_TIMEOUT: Final = b"50ms"
"""``lock_timeout`` of a part of them: the blocked commit is found by bisection."""


class _LockWait:
    """Lock wait budget of the commits of one group."""

    def __init__(self, retry_timeout: float, *, has_waiters: bool) -> None:
        self.has_waiters = has_waiters
        """Whether each of them has a caller of its own that waits."""
        self.lock_timeout: Value = _GROUP_LOCK_TIMEOUT
        """``lock_timeout`` of a call of several commits."""
        self.error: LockWaitTimeout | None = None
        """Error of a commit that has waited in vain; those after it wait only briefly.
        """
        self._until = time.monotonic() + 2 * retry_timeout

    @property
    def is_over(self) -> bool:
        """True if the budget is used up."""
        return self.error is not None and time.monotonic() > self._until


class Committer:
    """Runs the commits of one store. Thread-safe."""

    def __init__(
        self,
        store: Store,
        client: DatabaseClient,
        known: Mapping[str, CollectionStatements],
        *,
        size: int,
        retry_timeout: float,
        count: Count | None,
    ) -> None:
        """Configure the committer.

        Args:
            store: whose commits they are.
            client: executes the calls.
            known: the statements of each collection.
            size: number of connections.
            retry_timeout: seconds for which a lost answer is asked for, and a lock
                waited for.
            count: counts the commits of each transaction.
        """
        self._store = store
        self._client = client
        self._execution = CommitExecutor(store, client, known, retry_timeout, count)
        self._retry_timeout = retry_timeout
        self._commit_batches = CommitBatches(store.schema)
        self._queue = CallerLedQueue(self._execute, slots=max(1, min(SLOTS, size)))
        self._room = threading.BoundedSemaphore(max(1, (size - SLOTS) // 2))
        """Limits the commits that wait for a lock outside of the slots."""

    # -- one ----------------------------------------------------------------------

    def commit(self, batch: Batch, epoch: int | None) -> tuple[int, ...]:
        """Commit a batch; see :meth:`Store.commit`.

        Commits of many threads are grouped. One that waits for another session's lock
        leaves its slot to others, and goes on waiting by itself.

        The main thread commits by itself, beside the slots: an exception out of a
        signal handler can come between any two of its steps, so it holds nothing that
        other threads wait for. It only has a connection, which the pool counts by what
        is alive.
        """
        storable = StorableBatch(batch, self._store)
        is_long = len(batch.operations) + len(batch.checks) > MOST_KEYS
        if is_long or in_main_thread():
            return self._execution.commit(storable, epoch)
        if self._queue.try_acquire_slot():
            try:
                lock_timeout = _SLOT_LOCK_TIMEOUT if self._queue.is_shared else None
                return self._execution.commit(storable, epoch, lock_timeout)
            except SharedLockTimeout:
                pass  # another session holds a lock: wait for it without the slot
            finally:
                self._queue.release_slot()
            return self._commit_outside(storable, epoch)
        request = Request((storable, epoch))
        self._queue.run(request)
        try:
            versions: tuple[int, ...] = request.outcome()
        except SharedLockTimeout:
            return self._commit_outside(storable, epoch)
        return versions

    def _commit_outside(
        self, storable: StorableBatch, epoch: int | None
    ) -> tuple[int, ...]:
        """Commit outside of the slots, on some of the connections at most."""
        # Bounded, so that commits which wait for one lock leave connections to reads.
        if not self._room.acquire(timeout=self._retry_timeout):
            reason = "too many commits wait for locks that other sessions hold"
            raise StoreUnavailable(
                reason + describe_lock_holders(self._client), store=self._client.name
            )
        try:
            return self._execution.commit(storable, epoch)
        finally:
            self._room.release()

    def _execute(self, requests: list[Request]) -> None:
        """Commit the requests of several threads; epochs hardly ever differ."""
        groups: dict[int | None, list[Request]] = {}
        for request in requests:
            groups.setdefault(request.job[1], []).append(request)
        for epoch, alike in groups.items():
            for commit_group in self._commit_batches.groups_of(
                [request.job[0].batch for request in alike]
            ):
                self._execute_group([alike[place] for place in commit_group], epoch)

    def _execute_group(self, requests: Sequence[Request], epoch: int | None) -> None:
        members = [request.job[0] for request in requests]
        try:
            wait = _LockWait(self._retry_timeout, has_waiters=True)
            outcomes = self._commit_group(members, epoch, wait)
        except BaseException as error:
            # Only the interrupted thread gets the interrupt; the others get this error.
            reason = "the commit was interrupted"
            for request, member in zip(requests, members, strict=True):
                unknown = StoreUnavailable(
                    reason,
                    store=self._client.name,
                    outcome_known=False,
                    token=member.batch.token or None,
                )
                unknown.__cause__ = error
                request.fail(unknown)
            raise
        for request, outcome in zip(requests, outcomes, strict=True):
            request.resolve(outcome)

    def find(self, token: str) -> Change | None:
        """Find the commit of a token; see :meth:`Store.find_commit`."""
        return self._execution.find(token)

    # -- many ---------------------------------------------------------------------

    def commit_each(self, batches: Sequence[Batch], epoch: int | None) -> list[Outcome]:
        """Commit each batch; see :meth:`Store.commit_each`.

        Independent batches share one call, which is one transaction.
        """
        found: dict[int, Outcome] = {}
        storable: dict[int, StorableBatch] = {}
        for place, batch in enumerate(batches):
            try:
                storable[place] = StorableBatch(batch, self._store)
            except PendStorageError as error:
                found[place] = error
        places = list(storable)
        members = list(storable.values())
        for commit_group in self._commit_batches.groups_of(
            [member.batch for member in members]
        ):
            wait = _LockWait(self._retry_timeout, has_waiters=False)
            outcomes = self._commit_group(
                [members[i] for i in commit_group], epoch, wait
            )
            found.update(zip((places[i] for i in commit_group), outcomes, strict=True))
        return [found[place] for place in range(len(batches))]

    def _commit_group(
        self, members: Sequence[StorableBatch], epoch: int | None, wait: _LockWait
    ) -> list[Outcome]:
        """Outcomes of the batches of one group."""
        # One lock that is held for long may block many members: the first one waits for it
        # in full, and once the budget of the group is used up, the rest fail at once.
        if wait.error is not None and wait.is_over:
            return [own_copy(wait.error) for _ in members]
        if len(members) == 1:
            return [self._commit_alone(members[0], epoch, wait)]
        try:
            batches = [member.batch for member in members]
            targets = [
                t for batch in batches for t in self._commit_batches.targets(batch)
            ]
            outcomes = self._execution.commit_group(
                batches, targets, epoch, wait.lock_timeout
            )
        except AlreadyCommitted as done:
            return self._commit_rest(set(done.places), members, epoch, wait)
        except PendStorageError as error:
            return [_error_for(error, member) for member in members]
        if outcomes is None:
            # One batch is at fault and must not fail the others: bisection finds it.
            wait.lock_timeout = _SPLIT_LOCK_TIMEOUT
            half = len(members) // 2
            first = self._commit_group(members[:half], epoch, wait)
            return first + self._commit_group(members[half:], epoch, wait)
        return [
            self._execution.confirmed_versions(m, outcome)
            if isinstance(outcome, tuple)
            else outcome
            for m, outcome in zip(members, outcomes, strict=True)
        ]

    def _commit_alone(
        self, member: StorableBatch, epoch: int | None, wait: _LockWait
    ) -> Outcome:
        """Outcome of a batch that was split from its group."""
        has_waiters = wait.has_waiters or wait.error is not None
        try:
            return self._execution.commit(
                member, epoch, wait.lock_timeout if has_waiters else None
            )
        except SharedLockTimeout as held:
            return held if wait.error is None else own_copy(wait.error)
        except LockWaitTimeout as error:
            wait.error = error
            return error
        except PendStorageError as error:
            return error

    def _commit_rest(
        self,
        done: set[int],
        members: Sequence[StorableBatch],
        epoch: int | None,
        wait: _LockWait,
    ) -> list[Outcome]:
        """Commit the batches that are not in the log; the others return its versions."""
        rest = [m for place, m in enumerate(members) if place not in done]
        others = iter(self._commit_group(rest, epoch, wait) if rest else ())
        outcomes: list[Outcome] = []
        for place, member in enumerate(members):
            try:
                outcomes.append(
                    self._execution.logged_versions(member)
                    if place in done
                    else next(others)
                )
            except PendStorageError as error:
                outcomes.append(error)
        return outcomes


def _error_for(error: PendStorageError, member: StorableBatch) -> PendStorageError:
    """Copy of an error of the whole group, for one of its batches."""
    if isinstance(error, StoreUnavailable) and not error.outcome_known:
        own = StoreUnavailable(
            error.reason,
            store=error.store,
            outcome_known=False,
            token=member.batch.token or None,
        )
        own.__cause__ = error
        return own
    return own_copy(error)
