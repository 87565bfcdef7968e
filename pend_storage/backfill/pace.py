"""How large the chunks of a backfill are, how quickly they follow, and why not quicker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from pend_storage.events import Event, Hook, Pace, Progress

__all__ = ["Hold", "Pacer"]

Hold: TypeAlias = Callable[[], str | None]
"""Asked between two chunks: why to wait a little, in a word; None to go on."""

_SECONDS_PER_CHUNK: Final = 0.25
"""Long enough that the cost of a call does not count; short enough for progress and for
others who wait for the same rows."""
_SMALLEST: Final = 100
_LARGEST: Final = 5_000
_FIRST: Final = 500
_HELD: Final = 10.0
"""Seconds that one chunk is held back at most: a backfill always ends."""
_LOOK_AGAIN: Final = 0.05
_REST: Final = 1.0
"""Seconds of rest after a chunk at most, for a target that is slow."""

_WORDS: Final = {
    "rate": "more is not wanted",
    "lag": "the secondary does not keep up with what is being written",
    "slow-target": "the target takes long for a small chunk, and others need it too",
}


class Pacer:
    """Learns from each chunk; waits between them where there is a reason."""

    def __init__(self, rate: float | None, hold: Hold | None, hook: Hook) -> None:
        """Args: rate: records per second at most; hold: see there; hook: gets events."""
        self.size = _FIRST
        self._rate = rate
        self._hold = hold
        self._hook = hook
        self._started = time.monotonic()
        self._done = 0
        self._throttled: dict[str, float] = {}

    @property
    def throttled(self) -> Mapping[str, float]:
        """Seconds waited, by reason."""
        return MappingProxyType(dict(self._throttled))

    def note(self, rows: int, seconds: float) -> None:
        """Learn from a chunk; wait if there is a reason to."""
        fitting = int(rows * _SECONDS_PER_CHUNK / max(seconds, 0.001))
        is_smallest = self.size == _SMALLEST
        if rows >= self.size:  # the last chunk of a collection says nothing
            self.size = max(_SMALLEST, min(_LARGEST, 2 * self.size, fitting))
        self._done += rows
        if is_smallest and seconds > _SECONDS_PER_CHUNK:
            self._wait("slow-target", min(seconds, _REST))
        if self._rate is not None:
            ahead = self._done / self._rate - (time.monotonic() - self._started)
            self._wait("rate", ahead)
        self._hold_back()

    def _hold_back(self) -> None:
        if self._hold is None:
            return
        deadline = time.monotonic() + _HELD
        while time.monotonic() < deadline and (reason := self._hold()) is not None:
            self._wait(reason, _LOOK_AGAIN)

    def _wait(self, reason: str, seconds: float) -> None:
        if seconds <= 0:
            return
        if reason not in self._throttled:
            why = _WORDS.get(reason, reason)
            message = f"a backfill goes more slowly than it could ({reason}): {why}"
            self._hook(Event("backfill-throttled", message, logging.INFO))
        started = time.monotonic()
        time.sleep(seconds)
        waited = time.monotonic() - started
        self._throttled[reason] = self._throttled.get(reason, 0.0) + waited

    def tell(self, progress: Progress, done: int, total: int) -> None:
        """Tell about progress, and about the pace if that is wanted."""
        wants_pace: Callable[[Pace], None] | None = getattr(progress, "pace", None)
        if wants_pace is not None:
            rate = done / max(time.monotonic() - self._started, 0.001)
            left = max(0, total - done) / rate if rate else None
            wants_pace(Pace(rate=rate, seconds_left=left, throttled=self.throttled))
        progress(min(done, total), total)
