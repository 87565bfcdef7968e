"""Committer: the group commit of one PostgreSQL store, and its commits one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pend_storage._group_commit import CallerLedQueue, Request
from pend_storage.errors import (
    PendStorageError,
    StoreUnavailable,
)
from pend_storage.records import Batch, Change, Outcome
from pend_storage.sharing import own_copy
from pend_storage.store import Store
from pend_storage.stores.postgres.commit_batches import MOST_KEYS, CommitBatches
from pend_storage.stores.postgres.execution import Done, Execution
from pend_storage.stores.postgres.lock_holders import lock_holders
from pend_storage.stores.postgres.possible import Possible
from pend_storage.stores.postgres.repeating import HeldUp, LockHeld
from pend_storage.stores.postgres.server import Server
from pend_storage.stores.postgres.statements import CollectionStatements
from pend_storage.stores.postgres.wire import Value
from pend_storage.stores.signal_shield import in_main_thread

__all__ = ["SLOTS", "Committer"]

SLOTS: Final = 4
"""Threads that commit at a time, while others wait to be committed for."""
_HASTE: Final = b"250ms"
"""``lock_timeout`` of a commit in a slot while others wait for one."""
_HASTE_TOGETHER: Final = b"100ms"
"""The same for commits that go together."""
_HASTE_PARTED: Final = b"50ms"
"""The same for a part of them: the one that is held up is searched by halves."""


class _Wait:
    """How the commits of one wave wait for what somebody else holds."""

    def __init__(self, patience: float, *, hasty: bool) -> None:
        self.hasty = hasty
        """Whether each of them has somebody who waits for it by himself."""
        self.haste: Value = _HASTE_TOGETHER
        """``lock_timeout`` of those that go together."""
        self.error: LockHeld | None = None
        """Of one that has waited in vain; those after it are in a hurry."""
        self._until = time.monotonic() + 2 * patience

    @property
    def is_over(self) -> bool:
        """Whether there was enough waiting."""
        return self.error is not None and time.monotonic() > self._until


class Committer:
    """Runs the commits of one store."""

    def __init__(
        self,
        store: Store,
        server: Server,
        known: Mapping[str, CollectionStatements],
        *,
        size: int,
        patience: float,
    ) -> None:
        """Make one.

        Args:
            store: whose commits they are.
            server: where they are made.
            known: the statements of each collection.
            size: how many connections there are.
            patience: seconds for which a lost answer is asked for, and a lock waited for.
        """
        self._store = store
        self._server = server
        self._execution = Execution(store, server, known, patience)
        self._patience = patience
        self._waves = CommitBatches(store.schema)
        self._queue = CallerLedQueue(self._execute, slots=max(1, min(SLOTS, size)))
        self._room = threading.BoundedSemaphore(max(1, (size - SLOTS) // 2))
        """For those who wait outside of the slots."""

    # -- one ----------------------------------------------------------------------

    def commit(self, batch: Batch, epoch: int | None) -> tuple[int, ...]:
        """See :meth:`Store.commit`.

        Where many threads commit, their commits go together. One that is held up by
        somebody's lock leaves its slot to others, and goes on waiting by itself.

        The main thread commits by itself, beside the slots: an exception out of a signal
        handler can come between any two of its steps, so it holds nothing that other
        threads wait for. It only has a connection, which the pool counts by what is alive.
        """
        possible = Possible(batch, self._store)
        is_long = len(batch.operations) + len(batch.checks) > MOST_KEYS
        if is_long or in_main_thread():
            return self._execution.commit(possible, epoch)
        if self._queue.try_enter():
            try:
                haste = _HASTE if self._queue.is_shared else None
                return self._execution.commit(possible, epoch, haste)
            except HeldUp:
                pass
            finally:
                self._queue.leave()
            return self._outside(possible, epoch)
        request = Request((possible, epoch))
        self._queue.run(request)
        try:
            versions: tuple[int, ...] = request.outcome()
        except HeldUp:
            return self._outside(possible, epoch)
        return versions

    def _outside(self, possible: Possible, epoch: int | None) -> tuple[int, ...]:
        """Commit outside of the slots, on some of the connections at most."""
        if not self._room.acquire(timeout=self._patience):
            reason = "too many commits wait for locks that somebody holds"
            raise StoreUnavailable(
                reason + lock_holders(self._server), store=self._server.name
            )
        try:
            return self._execution.commit(possible, epoch)
        finally:
            self._room.release()

    def _execute(self, requests: list[Request]) -> None:
        """Commit what several threads want; epochs are hardly ever different."""
        groups: dict[int | None, list[Request]] = {}
        for request in requests:
            groups.setdefault(request.job[1], []).append(request)
        for epoch, alike in groups.items():
            for wave in self._waves.of([request.job[0].batch for request in alike]):
                self._execute_wave([alike[place] for place in wave], epoch)

    def _execute_wave(self, requests: Sequence[Request], epoch: int | None) -> None:
        members = [request.job[0] for request in requests]
        try:
            wait = _Wait(self._patience, hasty=True)
            outcomes = self._together(members, epoch, wait)
        except BaseException as error:
            # Its own thread alone sees what interrupted it.
            reason = "the commit was interrupted"
            for request, member in zip(requests, members, strict=True):
                unknown = StoreUnavailable(
                    reason,
                    store=self._server.name,
                    outcome_known=False,
                    token=member.batch.token or None,
                )
                unknown.__cause__ = error
                request.fail(unknown)
            raise
        for request, outcome in zip(requests, outcomes, strict=True):
            request.resolve(outcome)

    def find(self, token: str) -> Change | None:
        """See :meth:`Store.find_commit`."""
        return self._execution.find(token)

    # -- many ---------------------------------------------------------------------

    def commit_each(self, batches: Sequence[Batch], epoch: int | None) -> list[Outcome]:
        """See :meth:`Store.commit_each`.

        Independent batches go together, in one call that is one transaction.
        """
        found: dict[int, Outcome] = {}
        possible: dict[int, Possible] = {}
        for place, batch in enumerate(batches):
            try:
                possible[place] = Possible(batch, self._store)
            except PendStorageError as error:
                found[place] = error
        places = list(possible)
        members = list(possible.values())
        for wave in self._waves.of([member.batch for member in members]):
            wait = _Wait(self._patience, hasty=False)
            outcomes = self._together([members[i] for i in wave], epoch, wait)
            found.update(zip((places[i] for i in wave), outcomes, strict=True))
        return [found[place] for place in range(len(batches))]

    def _together(
        self, members: Sequence[Possible], epoch: int | None, wait: _Wait
    ) -> list[Outcome]:
        """What comes of the batches of one wave."""
        if wait.error is not None and wait.is_over:
            return [own_copy(wait.error) for _ in members]
        if len(members) == 1:
            return [self._one_of(members[0], epoch, wait)]
        try:
            batches = [member.batch for member in members]
            targets = [t for batch in batches for t in self._waves.targets(batch)]
            outcomes = self._execution.wave(batches, targets, epoch, wait.haste)
        except Done as done:
            return self._without(set(done.places), members, epoch, wait)
        except PendStorageError as error:
            return [_own(error, member) for member in members]
        if outcomes is None:
            wait.haste = _HASTE_PARTED  # one of them must not fail the others
            half = len(members) // 2
            first = self._together(members[:half], epoch, wait)
            return first + self._together(members[half:], epoch, wait)
        return [
            self._execution.made(m, outcome) if isinstance(outcome, tuple) else outcome
            for m, outcome in zip(members, outcomes, strict=True)
        ]

    def _one_of(self, member: Possible, epoch: int | None, wait: _Wait) -> Outcome:
        """What comes of one of them, which had to be parted from the others."""
        hasty = wait.hasty or wait.error is not None
        try:
            return self._execution.commit(member, epoch, wait.haste if hasty else None)
        except HeldUp as held:
            return held if wait.error is None else own_copy(wait.error)
        except LockHeld as error:
            wait.error = error
            return error
        except PendStorageError as error:
            return error

    def _without(
        self,
        done: set[int],
        members: Sequence[Possible],
        epoch: int | None,
        wait: _Wait,
    ) -> list[Outcome]:
        """Commit those that are not in the log yet; the others give what they gave."""
        rest = [m for place, m in enumerate(members) if place not in done]
        others = iter(self._together(rest, epoch, wait) if rest else ())
        outcomes: list[Outcome] = []
        for place, member in enumerate(members):
            try:
                outcomes.append(
                    self._execution.given(member) if place in done else next(others)
                )
            except PendStorageError as error:
                outcomes.append(error)
        return outcomes


def _own(error: PendStorageError, member: Possible) -> PendStorageError:
    """An error that is about all of a wave, for one of them."""
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
