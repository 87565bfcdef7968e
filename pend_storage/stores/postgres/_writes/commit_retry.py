"""Commit retry: when a commit is repeated, how often, and for how long.

A commit whose answer was lost may have been executed. It carries a token, so the same
call is repeated and finds out under the locks of its keys: it returns the versions of
the first attempt, or commits now. Only where the server cannot be reached for as long
as a statement may take, the error says that the outcome is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pend_storage import _jitter as jitter
from pend_storage._model.records import Batch
from pend_storage.errors import PendStorageError, StoreUnavailable
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._client.lock_waits import describe_lock_holders
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)

__all__ = [
    "LOCK_TIMEOUT",
    "CommitRetry",
    "LockWaitTimeout",
    "SharedLockTimeout",
    "retry_exclusive",
]

T = TypeVar("T")

LOCK_TIMEOUT: Final = "55P03"
_CANCELLED: Final = "57014"
_ATTEMPTS: Final = 8
_SHORTEST_PAUSE: Final = 0.001  # seconds, as are all pauses
_LONGEST_PAUSE: Final = 0.1
_LONGEST_PAUSE_UNKNOWN: Final = 0.5
_SHORTEST_PAUSE_ALONE: Final = 0.05
_LONGEST_PAUSE_ALONE: Final = 2.0
"""Seconds; ten times as long as one exclusive request may hold up others."""


class SharedLockTimeout(PendStorageError):
    """A lock is held for longer than other commits of the group should wait."""


class LockWaitTimeout(StoreUnavailable):
    """A lock is held for longer than the call may wait."""


class CommitRetry:
    """Retry policy of one call."""

    def __init__(
        self,
        client: DatabaseClient,
        batches: Sequence[Batch],
        *,
        seconds: float,
        has_waiters: bool,
        is_exclusive: bool = False,
    ) -> None:
        """Start before the first attempt.

        Args:
            client: executes the call.
            batches: what it commits.
            seconds: for which an unknown outcome and a held lock are retried.
            has_waiters: whether other commits wait for this call.
            is_exclusive: whether it takes the store lock exclusively.
        """
        self._client = client
        self._batches = batches
        self._seconds = seconds
        self._is_hasty = has_waiters
        self.is_exclusive = is_exclusive
        """Whether the call takes the store lock exclusively."""
        self._attempt = 0
        self._since = time.monotonic()
        self.is_unknown = False
        """True once an answer was lost, so that the call may have been executed."""

    def lost(self, lost: ConnectionLost) -> None:
        """Pause before the call is repeated after a lost connection.

        Raises:
            StoreUnavailable: the retries are used up.
        """
        if lost.sent and not self.is_unknown:
            # From here on only the token can tell whether the commit was made. The call is
            # repeated for the whole time again: giving up leaves the outcome unknown.
            self.is_unknown = True
            self._attempt = 0
            self._since = time.monotonic()
            if not all(batch.token for batch in self._batches):
                raise self._unknown(lost.reason) from lost
        if self.is_unknown:
            self._ask_again(lost.reason, lost)
        elif self._attempt + 1 == _ATTEMPTS:
            raise self._client.lost_error(lost) from lost
        else:
            self._pause(_SHORTEST_PAUSE, _LONGEST_PAUSE)

    def unavailable(self, error: PendStorageError) -> None:
        """Pause after an error that came before the call was sent.

        Raises:
            PendStorageError: the error itself, unless the outcome is unknown.
        """
        if not self.is_unknown:
            raise error
        self._ask_again(getattr(error, "reason", str(error)), error)

    def refused(self, refusal: ServerRefusal, collection: str = "") -> None:
        """Pause after a refusal that is not about the records.

        Args:
            refusal: of the server.
            collection: the collection written, if it is only one.

        Raises:
            SharedLockTimeout: a lock is held for longer than others should wait.
            LockWaitTimeout: a lock is held for longer than the call may wait.
            PendStorageError: a retry would not help.
        """
        if self.is_unknown and not refusal.is_splittable:
            self._ask_again(str(refusal), refusal)
        elif refusal.code == LOCK_TIMEOUT and self._is_hasty and not self.is_exclusive:
            raise SharedLockTimeout(str(refusal)) from refusal
        elif refusal.code == LOCK_TIMEOUT and self.is_exclusive and not self._is_over:
            self._pause(_SHORTEST_PAUSE_ALONE, _LONGEST_PAUSE_ALONE)
        elif refusal.code in {LOCK_TIMEOUT, _CANCELLED}:
            raise lock_wait_error(self._client, refusal) from refusal
        elif not refusal.is_transient:
            raise refusal.public(self._client.name, collection) from refusal
        else:
            self.again(refusal)

    def again(self, cause: ServerRefusal | None = None) -> None:
        """Pause before the call is repeated; nothing was written.

        Args:
            cause: the refusal, if there was one.

        Raises:
            StoreUnavailable: the attempts are used up.
        """
        if self._attempt + 1 == _ATTEMPTS:
            reason = f"the commit conflicted with others {_ATTEMPTS} times"
            if cause is not None and cause.is_violation:
                reason = (
                    f"the constraint {cause.constraint!r} refused the commit "
                    f"{_ATTEMPTS} times, though no record as this program declares it "
                    "breaks a rule: a newer program has made the database stricter. "
                    "Update this one"
                )
            raise StoreUnavailable(reason, store=self._client.name) from cause
        self._pause(_SHORTEST_PAUSE, _LONGEST_PAUSE)

    @property
    def _is_over(self) -> bool:
        return time.monotonic() - self._since > self._seconds

    def _ask_again(self, reason: str, cause: BaseException) -> None:
        if self._is_over:
            raise self._unknown(reason) from cause
        self._pause(_SHORTEST_PAUSE, _LONGEST_PAUSE_UNKNOWN)

    def _unknown(self, reason: str) -> StoreUnavailable:
        token = self._batches[0].token if len(self._batches) == 1 else None
        return StoreUnavailable(
            reason, store=self._client.name, outcome_known=False, token=token or None
        )

    def _pause(self, shortest: float, longest: float) -> None:
        _sleep(self._attempt, shortest, longest)
        self._attempt += 1


def _sleep(attempt: int, shortest: float, longest: float) -> None:
    # Jitter of a half: commits that met once must not meet again at the next attempt.
    limit = min(longest, shortest * 2 ** min(attempt, 20))
    time.sleep(jitter.between(limit / 2, limit))


def lock_wait_error(client: DatabaseClient, refusal: ServerRefusal) -> LockWaitTimeout:
    """Error of a lock wait that took too long; names the sessions that hold it."""
    error = refusal.public(client.name)
    reason = error.reason if isinstance(error, StoreUnavailable) else str(refusal)
    return LockWaitTimeout(reason + describe_lock_holders(client), store=client.name)


def retry_exclusive(client: DatabaseClient, seconds: float, work: Callable[[], T]) -> T:
    """Retry a unit of work that takes the store lock exclusively.

    It must request that lock with a short ``lock_timeout``: all other requests queue
    behind it.

    Args:
        client: names the store and the lock holders in the error.
        seconds: for which it is retried.
        work: in one transaction.

    Raises:
        StoreUnavailable: another session has held a lock all that time.
    """
    since, attempt = time.monotonic(), 0
    while True:
        try:
            return work()
        except ServerRefusal as refusal:
            if refusal.code != LOCK_TIMEOUT:
                raise
            if time.monotonic() - since > seconds:
                raise lock_wait_error(client, refusal) from refusal
        _sleep(attempt, _SHORTEST_PAUSE_ALONE, _LONGEST_PAUSE_ALONE)
        attempt += 1
