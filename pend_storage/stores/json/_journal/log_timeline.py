"""Timeline: sequence and time of every change-log entry, to count from any position at once.

Only the latest entries are kept whole in memory. Where a reader is further behind, the log
is read once, and from then on each commit adds 16 bytes here, as long as readers ask.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from pend_storage.stores._inmemory.state import LogRecord

__all__ = ["LogTimeline"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_NO_TIME: Final = -(1 << 63)
_MOST_UNASKED: Final = 200_000
"""Entries added without a question, after which it is not worth its memory."""
_WORTH_TRIMMING: Final = 4_096


class LogTimeline:
    """Count and date the entries after a sequence number. Not thread-safe: its owner locks."""

    def __init__(self, effects: Iterable[LogRecord], base: int = 0) -> None:
        """Args: base: no entry has a sequence up to this."""
        self._base = base
        self._sequences = array("q")
        self._times = array("q")
        self._unasked = 0
        for effect in effects:
            self.add(effect)
        self._unasked = 0

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def is_wanted(self) -> bool:
        """Whether a reader has asked not too long ago."""
        return self._unasked < _MOST_UNASKED

    @property
    def last(self) -> int:
        """The sequence up to which it is complete."""
        return self._sequences[-1] if self._sequences else self._base

    def add(self, effect: LogRecord) -> None:
        """One more entry, in the order of the log."""
        at = effect.at
        self._sequences.append(effect.sequence)
        self._times.append(_NO_TIME if at is None else (at - _EPOCH) // _TICK)
        self._unasked += 1

    def count(self, after: int) -> tuple[int, datetime | None]:
        """Entries after a sequence, and the time of the first of them."""
        self._unasked = 0
        place = bisect_right(self._sequences, after)
        left = len(self._sequences) - place
        if not left or self._times[place] == _NO_TIME:
            return left, None
        return left, _EPOCH + self._times[place] * _TICK

    def forget(self, upto: int) -> None:
        """Entries up to a sequence are not kept any more; done when it is worth it."""
        gone = bisect_right(self._sequences, upto)
        if gone >= _WORTH_TRIMMING or gone == len(self._sequences):
            del self._sequences[:gone], self._times[:gone]
