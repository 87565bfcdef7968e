"""What keeps the relay from getting on: how often it was tried, when next, who was told.

While the mark stands still, the pauses between two attempts double, up to half a minute;
an attempt by hand, a repair or a new route does not wait for them. After some attempts at
one position the reason is told in an event, and again where it changes. It is also left
in the meta of the secondary, beside the mark that it is about, so that every process can
tell it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Final

import msgspec

from pend_storage._records import JSON
from pend_storage.dualwrite.draining import Obstacle
from pend_storage.dualwrite.marks import Mark
from pend_storage.errors import PendStorageError
from pend_storage.events import Event, Hook
from pend_storage.store import Store

__all__ = ["BLOCKED_META", "Standstill", "reason_of"]

BLOCKED_META: Final = "relay-blocked"
"""Meta of a follower: the mark at which its relay stands still, and why."""
_SAID_AFTER: Final = 3
"""Attempts at one position, after which it is said what stands in the way."""
_SAID_AFTER_SECONDS: Final = 10.0
"""And the seconds, where batches are still being made smaller."""
_LONGEST_PAUSE: Final = 30.0


class _Fact(msgspec.Struct):
    """The value of the meta entry; it counts as long as the mark stands there."""

    after: int
    reason: str


def reason_of(follower: Store, mark: Mark | None) -> str | None:
    """Why a follower does not get on, as some process has found; None: nothing is known.

    Raises:
        StoreUnavailable: it cannot be reached.
    """
    try:
        fact = msgspec.convert(follower.meta(BLOCKED_META), _Fact)
    except msgspec.ValidationError:
        return None
    return fact.reason if mark is not None and mark.after == fact.after else None


class Standstill:
    """What one relay knows of it."""

    def __init__(self, hook: Hook, first_pause: float) -> None:
        """Args: first_pause: seconds between the first two attempts."""
        self._hook = hook
        self._first_pause = first_pause
        self._after: int | None = None
        self._since = 0.0
        self._attempts = 0
        self._said = ""
        self._pause = first_pause
        self._next = 0.0

    def is_due(self, mark: Mark | None) -> bool:
        """Whether to try now, at this mark."""
        moved = mark is None or mark.after != self._after
        return moved or time.monotonic() >= self._next

    def hurry(self) -> None:
        """Something may have changed: try at once, and begin with short pauses."""
        self._next, self._pause = 0.0, self._first_pause

    def note(self, obstacle: Obstacle, follower: Store) -> None:
        """One more attempt at a commit has failed."""
        self._count(obstacle.after)
        # What is told does not change with the size of the batch that was tried.
        if self._is_lasting(obstacle) and self._said != obstacle.reason:
            self._said = obstacle.reason
            self._tell(f"{str(obstacle).rstrip('.')}. {_advice(obstacle)}")
            _leave(follower, _Fact(obstacle.after, str(obstacle)))

    def _is_lasting(self, obstacle: Obstacle) -> bool:
        if obstacle.commits == 1 and self._attempts >= _SAID_AFTER:
            return True
        return time.monotonic() - self._since >= _SAID_AFTER_SECONDS

    def complain(self, error: Exception, mark: Mark | None) -> None:
        """Nothing can be applied at all, for a reason that trying again does not change."""
        self._count(None if mark is None else mark.after)
        if self._said != str(error):
            self._said = str(error)
            self._tell(str(error))

    def _count(self, after: int | None) -> None:
        if after != self._after:
            self._after, self._attempts, self._pause = after, 0, self._first_pause
            self._since = time.monotonic()
        self._attempts += 1
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _tell(self, message: str) -> None:
        self._hook(
            Event(
                "relay-blocked",
                f"the secondary cannot be brought up to date: {message}",
                logging.ERROR,
            )
        )

    def passed(self) -> None:
        """The mark has moved on, or the log was applied to its end."""
        if self._after is None and not self._attempts:
            return
        was_said, after = self._said, self._after
        self._after, self._attempts, self._said = None, 0, ""
        self.hurry()
        if was_said:
            place = "" if after is None else f", on from position {after}"
            self._hook(
                Event(
                    "relay-resumed",
                    f"the secondary is brought up to date again{place}",
                )
            )


def _advice(obstacle: Obstacle) -> str:
    if obstacle.is_refused:
        return "What came later waits behind it; run `pend-storage repair`."
    return (
        "The server answers otherwise: see what makes this slow, or allow it more time "
        "(statement_timeout)."
    )


def _leave(follower: Store, fact: _Fact) -> None:
    """Tell other processes; the event has been told in any case."""
    value: JSON = msgspec.to_builtins(fact)
    with contextlib.suppress(PendStorageError):
        follower.compare_and_set_meta(BLOCKED_META, follower.meta(BLOCKED_META), value)
