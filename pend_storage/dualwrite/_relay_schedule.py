"""Schedule of the relay: wakes it, and backs off from obstacles.

While the mark stands still, the pauses between two attempts double, up to half a minute;
an attempt by hand, a repair or a new route does not wait for them. After some attempts at
one position the reason is emitted as an event, and again where it changes. It is also left
in the meta of the secondary, beside the mark that it is about, so that every process can
report it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage.dualwrite._log_drain import Obstacle
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.errors import PendStorageError
from pend_storage.events import Event, Hook
from pend_storage.store import Store

__all__ = ["BLOCKED_META", "RelaySchedule", "blocked_reason"]

BLOCKED_META: Final = "relay-blocked"
"""Meta of a follower: the mark at which its relay is blocked, and the reason."""
_EMITTED_AFTER: Final = 3
"""Attempts at one position, after which the reason is emitted."""
_EMITTED_AFTER_SECONDS: Final = 10.0
"""And the seconds, where batches are still being made smaller."""
_LONGEST_PAUSE: Final = 30.0


class _Blocked(msgspec.Struct):
    """Value of :data:`BLOCKED_META`; it counts as long as the mark stands there."""

    after: int
    reason: str


def blocked_reason(follower: Store, mark: ReplicationPosition | None) -> str | None:
    """Return why replication to a follower is blocked, as recorded by a relay.

    None where no reason is recorded for this mark.

    Args:
        follower: the secondary.
        mark: up to which it has followed.

    Raises:
        StoreUnavailable: it cannot be reached.
    """
    try:
        blocked = msgspec.convert(follower.meta(BLOCKED_META), _Blocked)
    except msgspec.ValidationError:
        return None
    is_current = mark is not None and mark.sequence == blocked.after
    return blocked.reason if is_current else None


class RelaySchedule:
    """Schedule of the relay: wakes it, and spaces its attempts at an obstacle.

    It knows neither the relay nor the router, so whatever leaves work to the relay can
    notify it without knowing the relay. Safe to share between threads.
    """

    def __init__(self, hook: Hook, first_pause: float) -> None:
        """Make a schedule.

        Args:
            hook: gets ``relay-blocked``, and ``relay-resumed`` once the mark moves again.
            first_pause: seconds between the first two attempts.
        """
        self._hook = hook
        self.first_pause = first_pause
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child, whose relay has tried nothing yet."""
        self._wake = threading.Event()
        self._after: int | None = None
        self._since = 0.0
        self._attempts = 0
        self._emitted = ""
        self._pause = self.first_pause
        self._next = 0.0

    # -- waking -------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake the relay at once, without the pause that an obstacle has caused."""
        self._reset()
        self._wake.set()

    def notify(self) -> None:
        """Wake the relay, because a write did not reach the secondary.

        An obstacle is not tried sooner by that: its pause goes on.
        """
        self._wake.set()

    def wait(self, seconds: float) -> bool:
        """Wait until the relay is woken; False where the time passed before."""
        woken = self._wake.wait(seconds)
        self._wake.clear()
        return woken

    def _reset(self) -> None:
        self._next, self._pause = 0.0, self.first_pause

    # -- attempts -----------------------------------------------------------------------

    def is_due(self, mark: ReplicationPosition | None) -> bool:
        """Return whether the relay may try at this mark now."""
        moved = mark is None or mark.sequence != self._after
        return moved or time.monotonic() >= self._next

    def record_obstacle(self, obstacle: Obstacle, follower: Store) -> None:
        """Count one more failed attempt at a commit."""
        self._count(obstacle.after)
        # The reason does not change with the size of the batch that was tried.
        if self._is_lasting(obstacle) and self._emitted != obstacle.reason:
            self._emitted = obstacle.reason
            self._emit(f"{str(obstacle).rstrip('.')}. {_advice(obstacle)}")
            _record_blocked(follower, _Blocked(obstacle.after, str(obstacle)))

    def _is_lasting(self, obstacle: Obstacle) -> bool:
        if obstacle.commits == 1 and self._attempts >= _EMITTED_AFTER:
            return True
        return time.monotonic() - self._since >= _EMITTED_AFTER_SECONDS

    def record_failure(
        self, error: Exception, mark: ReplicationPosition | None
    ) -> None:
        """Count an attempt that applied nothing, for a reason that a retry cannot change."""
        self._count(None if mark is None else mark.sequence)
        if self._emitted != str(error):
            self._emitted = str(error)
            self._emit(str(error))

    def _count(self, after: int | None) -> None:
        # Back-off counts attempts at one position: progress of the mark starts it anew.
        if after != self._after:
            self._after, self._attempts, self._pause = after, 0, self.first_pause
            self._since = time.monotonic()
        self._attempts += 1
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _emit(self, message: str) -> None:
        self._hook(
            Event(
                "relay-blocked",
                f"replication to the secondary is blocked: {message}",
                logging.ERROR,
                {"after": self._after},
            )
        )

    def record_progress(self) -> None:
        """Begin anew: the mark has moved on, or the log was applied to its end."""
        if self._after is None and not self._attempts:
            return
        was_emitted, after = self._emitted, self._after
        self._after, self._attempts, self._emitted = None, 0, ""
        self._reset()
        if was_emitted:
            place = "" if after is None else f", on from position {after}"
            self._hook(
                Event(
                    "relay-resumed",
                    f"replication to the secondary has resumed{place}",
                    fields={"after": after},
                )
            )


def _advice(obstacle: Obstacle) -> str:
    if obstacle.is_refused:
        return "What came later waits behind it; run `pend-storage repair`."
    return (
        "The server answers otherwise: see what makes this slow, or allow it more time "
        "(statement_timeout)."
    )


def _record_blocked(follower: Store, blocked: _Blocked) -> None:
    """Leave the reason for other processes; the event was emitted in any case."""
    value: JSON = msgspec.to_builtins(blocked)
    with contextlib.suppress(PendStorageError):
        follower.compare_and_set_meta(BLOCKED_META, follower.meta(BLOCKED_META), value)
