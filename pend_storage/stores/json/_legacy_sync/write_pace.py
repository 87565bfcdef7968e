"""Write pace: throttles the writes of a legacy file by how long they take."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["LONGEST_REST", "WritePace"]

_REST: Final = 10
"""Pause after a write, as a multiple of the seconds that it took."""
LONGEST_REST: Final = 10.0
"""Longest pause, in seconds."""


class WritePace:
    """Pause after each write of one file, in proportion to its duration."""

    def __init__(self) -> None:
        self._not_before = 0.0
        self._was_written = False
        """True after the first write by this process."""

    def is_resting(self) -> bool:
        """Return True if the pause after the last write is not over."""
        return time.monotonic() < self._not_before

    def written(self, took: float) -> float:
        """Record a write; return the monotonic time at which the next one may begin.

        The first write of a process does not count: it takes longer, because all records are
        compared and sorted.

        Args:
            took: duration in seconds.
        """
        is_first, self._was_written = not self._was_written, True
        pause = 0.0 if is_first else min(_REST * took, LONGEST_REST)
        self._not_before = time.monotonic() + pause
        return self._not_before
