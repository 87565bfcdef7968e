"""The pace at which a legacy file is written: large ones are written less often."""

from __future__ import annotations

import time
from typing import Final

__all__ = ["LONGEST_REST", "WritePace"]

_REST: Final = 10
"""A file that takes a second to write is written every so many seconds at most."""
LONGEST_REST: Final = 10.0
"""Seconds, however long it takes to write it."""


class WritePace:
    """Pause after each write of one file, in proportion to what it took."""

    def __init__(self) -> None:
        self._not_before = 0.0
        self._was_written = False
        """By this process."""

    def is_resting(self) -> bool:
        """Whether the file was written a moment ago."""
        return time.monotonic() < self._not_before

    def written(self, took: float) -> float:
        """Note a write that took so many seconds; returns when the next one may begin.

        The first time it takes longer: all records are compared and put in order.
        """
        is_first, self._was_written = not self._was_written, True
        pause = 0.0 if is_first else min(_REST * took, LONGEST_REST)
        self._not_before = time.monotonic() + pause
        return self._not_before
