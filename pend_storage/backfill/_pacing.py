"""Pace of a backfill: the size of its chunks, and when it is throttled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from pend_storage.events import Event, Hook, Pace, Progress

__all__ = ["Hold", "Pacer"]

Hold: TypeAlias = Callable[[], str | None]
"""Called between two chunks; returns the reason to wait as one word, None to go on."""

_SECONDS_PER_CHUNK: Final = 0.25
"""Aim for one chunk: long enough to make the cost of a call negligible, short enough for
progress and for other writers of the same rows."""
_SMALLEST: Final = 100
_LARGEST: Final = 5_000
_FIRST: Final = 500
_LONGEST_HOLD: Final = 10.0
"""Seconds for which one chunk is throttled at most, so that every backfill ends."""
_HOLD_POLL: Final = 0.05
"""Seconds between two calls of ``hold``."""
_LONGEST_NAP: Final = 0.2
"""Seconds between two looks at requests to the backfill while it waits."""
_LONGEST_PAUSE: Final = 1.0
"""Seconds of pause after a chunk of a slow target, at most."""

_REASONS: Final = {
    "rate": "the rate limit is reached",
    "lag": "the secondary does not keep up with what is being written",
    "slow-target": "the target takes long for a small chunk, and others need it too",
}


class Pacer:
    """Adapts the chunk size to the target's speed, and throttles between chunks."""

    def __init__(self, rate: float | None, hold: Hold | None, hook: Hook) -> None:
        """Start the clock.

        Args:
            rate: limit in records per second; None for no limit.
            hold: called between chunks; None never throttles.
            hook: receives ``backfill-throttled`` once for each reason.
        """
        self.size = _FIRST
        self._rate = rate
        self._hold = hold
        self._hook = hook
        self._started = time.monotonic()
        self._done = 0
        self._throttled: dict[str, float] = {}
        self.steer: Callable[[], None] | None = None
        """Called while it waits; it may wait itself, and may raise to end the backfill."""
        self.waits: Callable[[str | None], None] | None = None
        """Gets the reason of a wait when it begins, and None when it ends."""

    @property
    def throttled(self) -> Mapping[str, float]:
        """Seconds of throttling by reason."""
        return MappingProxyType(dict(self._throttled))

    def record_chunk(self, rows: int, seconds: float) -> None:
        """Adapt to a chunk of ``rows`` that took ``seconds``; throttle where needed."""
        fitting = int(rows * _SECONDS_PER_CHUNK / max(seconds, 0.001))
        is_smallest = self.size == _SMALLEST
        if rows >= self.size:  # a short last chunk shows nothing about speed
            self.size = max(_SMALLEST, min(_LARGEST, 2 * self.size, fitting))
        self._done += rows
        if is_smallest and seconds > _SECONDS_PER_CHUNK:
            self._wait("slow-target", min(seconds, _LONGEST_PAUSE))
        if self._rate is not None:
            ahead = self._done / self._rate - (time.monotonic() - self._started)
            self._wait("rate", ahead)
        self._hold_back()

    def _hold_back(self) -> None:
        if self._hold is None:
            return
        deadline = time.monotonic() + _LONGEST_HOLD
        while time.monotonic() < deadline and (reason := self._hold()) is not None:
            self._wait(reason, _HOLD_POLL)

    def _wait(self, reason: str, seconds: float) -> None:
        if seconds <= 0:
            return
        if reason not in self._throttled:
            why = _REASONS.get(reason, reason)
            message = f"backfill throttled ({reason}): {why}"
            fields = {"reason": reason, "done": self._done}
            self._hook(Event("backfill-throttled", message, logging.INFO, fields))
        if self.waits is not None:
            self.waits(reason)
        started = time.monotonic()
        # In short naps: a rate of a few records a second makes waits of minutes, and a
        # request for the end of the backfill must not wait for theirs.
        while (left := seconds - (time.monotonic() - started)) > 0:
            if self.steer is not None:
                self.steer()
            time.sleep(min(left, _LONGEST_NAP))
        waited = time.monotonic() - started
        self._throttled[reason] = self._throttled.get(reason, 0.0) + waited
        if self.waits is not None:
            self.waits(None)

    def report(self, progress: Progress, done: int, total: int) -> None:
        """Report progress, and the pace to a ``PacedProgress``."""
        report_pace: Callable[[Pace], None] | None = getattr(progress, "pace", None)
        if report_pace is not None:
            rate = done / max(time.monotonic() - self._started, 0.001)
            left = max(0, total - done) / rate if rate else None
            report_pace(Pace(rate=rate, seconds_left=left, throttled=self.throttled))
        progress(min(done, total), total)
