"""Log timeline: sequence number and time of every change-log entry, in 16 bytes each.

Only the latest entries are in memory as a whole. If a reader is further behind, the log is
read once into a timeline, to which commits are added as long as readers ask for its lag.
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
"""Entries added without a request, after which the timeline is dropped."""
_WORTH_TRIMMING: Final = 4_096


class LogTimeline:
    """Count and date the entries after a sequence number. Not thread-safe: the owner locks."""

    def __init__(self, effects: Iterable[LogRecord], base: int = 0) -> None:
        """Create it from the retained log.

        Args:
            effects: the entries, in order.
            base: sequence number up to which entries are dropped.
        """
        self._base = base
        self._sequences = array("q")
        self._times = array("q")
        self._unasked = 0
        for effect in effects:
            self.add(effect)
        self._unasked = 0

    @property
    def base(self) -> int:
        """The sequence number from which on it is complete."""
        return self._base

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def is_wanted(self) -> bool:
        """True if a reader has asked for the lag recently."""
        return self._unasked < _MOST_UNASKED

    @property
    def last(self) -> int:
        """The sequence number up to which it is complete."""
        return self._sequences[-1] if self._sequences else self._base

    def add(self, effect: LogRecord) -> None:
        """Append an entry, in the order of the log."""
        at = effect.at
        self._sequences.append(effect.sequence)
        self._times.append(_NO_TIME if at is None else (at - _EPOCH) // _TICK)
        self._unasked += 1

    def count(self, after: int) -> tuple[int, datetime | None]:
        """Return the number of entries after a sequence number, and the time of the first."""
        self._unasked = 0
        place = bisect_right(self._sequences, after)
        left = len(self._sequences) - place
        if not left or self._times[place] == _NO_TIME:
            return left, None
        return left, _EPOCH + self._times[place] * _TICK

    def forget(self, upto: int) -> None:
        """Remove entries up to a sequence number, in bulk: deleting shifts the arrays."""
        gone = bisect_right(self._sequences, upto)
        if gone >= _WORTH_TRIMMING or gone == len(self._sequences):
            del self._sequences[:gone], self._times[:gone]
