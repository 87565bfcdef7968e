"""When a commit is made again: after what, how often, for how long.

A commit whose answer was lost may have been done. It carries a token, so the same call is
made again and finds out under the locks of its keys: it gives the versions of then, or does
it now. Only where the server cannot be asked for as long as a statement may take, its
caller is told that the outcome is not known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pend_storage import jitter
from pend_storage._records import Batch
from pend_storage.errors import PendStorageError, StoreUnavailable
from pend_storage.stores.postgres.errors import ConnectionLost, ServerRefusal
from pend_storage.stores.postgres.lock_holders import lock_holders
from pend_storage.stores.postgres.server import Server

__all__ = ["LOCK_TIMEOUT", "HeldUp", "LockHeld", "Repeats", "unhurried"]

T = TypeVar("T")

LOCK_TIMEOUT: Final = "55P03"
_CANCELLED: Final = "57014"
_ATTEMPTS: Final = 8
_SHORTEST_PAUSE: Final = 0.001  # seconds, and so on
_LONGEST_PAUSE: Final = 0.1
_LONGEST_PAUSE_UNKNOWN: Final = 0.5
_SHORTEST_PAUSE_ALONE: Final = 0.05
_LONGEST_PAUSE_ALONE: Final = 2.0
"""Ten times as long as the store's lock may be waited for alone."""


class HeldUp(PendStorageError):
    """Somebody holds what a commit needs for longer than its group should wait."""


class LockHeld(StoreUnavailable):
    """Somebody holds what a call needs for longer than it may wait."""


class Repeats:
    """The attempts of one call."""

    def __init__(
        self,
        server: Server,
        batches: Sequence[Batch],
        *,
        seconds: float,
        is_hasty: bool,
        is_alone: bool = False,
    ) -> None:
        """Begin with the first attempt.

        Args:
            server: where the call is made.
            batches: what it commits.
            seconds: for how long an unknown outcome is asked for, and a lock waited for.
            is_hasty: whether others wait for the end of this call.
            is_alone: whether it needs the store's lock alone.
        """
        self._server = server
        self._batches = batches
        self._seconds = seconds
        self._is_hasty = is_hasty
        self._is_alone = is_alone
        self._attempt = 0
        self._since = time.monotonic()
        self.is_unknown = False
        """Whether an answer was lost, so that the call may have been done."""

    def lost(self, lost: ConnectionLost) -> None:
        """Return where the call is to be made again.

        Raises:
            StoreUnavailable: there is no sense in that any more.
        """
        if lost.sent and not self.is_unknown:
            self.is_unknown = True
            self._attempt = 0
            self._since = time.monotonic()
            if not all(batch.token for batch in self._batches):
                raise self._unknown(lost.reason) from lost
        if self.is_unknown:
            self._ask_again(lost.reason, lost)
        elif self._attempt + 1 == _ATTEMPTS:
            raise self._server.lost(lost) from lost
        else:
            self._pause(_SHORTEST_PAUSE, _LONGEST_PAUSE)

    def unavailable(self, error: PendStorageError) -> None:
        """The same for an error of the connection before the call was made."""
        if not self.is_unknown:
            raise error
        self._ask_again(getattr(error, "reason", str(error)), error)

    def refused(self, refusal: ServerRefusal, collection: str = "") -> None:
        """The same for an error of the server that is not about the records.

        Raises:
            HeldUp: a lock is held for longer than others should wait for this call.
        """
        if self.is_unknown and not refusal.is_divisible:
            self._ask_again(str(refusal), refusal)
        elif refusal.code == LOCK_TIMEOUT and self._is_hasty and not self._is_alone:
            raise HeldUp(str(refusal)) from refusal
        elif refusal.code == LOCK_TIMEOUT and self._is_alone and not self._is_over:
            self._pause(_SHORTEST_PAUSE_ALONE, _LONGEST_PAUSE_ALONE)
        elif refusal.code in {LOCK_TIMEOUT, _CANCELLED}:
            raise held_up(self._server, refusal) from refusal
        elif not refusal.is_transient:
            raise refusal.public(self._server.name, collection) from refusal
        else:
            self.again(refusal)

    def again(self, cause: ServerRefusal | None = None) -> None:
        """Return where it may be made again at once, after a short pause.

        Args:
            cause: what the server said.
        """
        if self._attempt + 1 == _ATTEMPTS:
            reason = f"the commit was in the way of others {_ATTEMPTS} times"
            if cause is not None and cause.is_violation:
                reason = (
                    f"the constraint {cause.constraint!r} refused the commit "
                    f"{_ATTEMPTS} times, though no record as this program declares it "
                    "breaks a rule: a newer program has made the database stricter. "
                    "Update this one"
                )
            raise StoreUnavailable(reason, store=self._server.name) from cause
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
            reason, store=self._server.name, outcome_known=False, token=token or None
        )

    def _pause(self, shortest: float, longest: float) -> None:
        _sleep(self._attempt, shortest, longest)
        self._attempt += 1


def _sleep(attempt: int, shortest: float, longest: float) -> None:
    limit = min(longest, shortest * 2 ** min(attempt, 20))
    time.sleep(jitter.between(limit / 2, limit))


def held_up(server: Server, refusal: ServerRefusal) -> LockHeld:
    """The error for a wait that took too long: it says who holds what was waited for."""
    error = refusal.public(server.name)
    reason = error.reason if isinstance(error, StoreUnavailable) else str(refusal)
    return LockHeld(reason + lock_holders(server), store=server.name)


def unhurried(server: Server, seconds: float, work: Callable[[], T]) -> T:
    """Do a piece of work that needs the store's lock alone, however often it takes.

    It must wait for that lock with a short ``lock_timeout`` only: everybody else queues
    behind it.

    Raises:
        StoreUnavailable: somebody has held what it needs all that time.
    """
    since, attempt = time.monotonic(), 0
    while True:
        try:
            return work()
        except ServerRefusal as refusal:
            if refusal.code != LOCK_TIMEOUT:
                raise
            if time.monotonic() - since > seconds:
                raise held_up(server, refusal) from refusal
        _sleep(attempt, _SHORTEST_PAUSE_ALONE, _LONGEST_PAUSE_ALONE)
        attempt += 1
