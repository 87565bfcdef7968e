"""Totals of compared reads: the counters of all processes, in the metadata of the pair."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final

import msgspec

from pend_storage._model.records import JSON
from pend_storage.dualwrite._pair_metadata import SharedValues
from pend_storage.errors import PendStorageError

__all__ = ["COMPARED_META", "ComparedTotals", "TotalsRecord", "totals_in"]

COMPARED_META: Final = "compared"
"""Metadata of the pair: the totals of compared reads."""
_VERSION: Final = 1
_EVERY: Final = 2.0
"""Seconds between two additions of one process, at least."""
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTotals:
    """Counters of the compared reads of all processes, since they were first counted.

    Their meaning is that of :class:`~pend_storage.dualwrite.Compared`. A process that is
    killed takes the last seconds of its counts along.
    """

    since: datetime
    at: datetime
    """When a process added to them last."""
    sampled: int = 0
    dropped: int = 0
    compared: int = 0
    skipped: int = 0
    rechecked: int = 0
    confirmed: int = 0


_NAMES: Final = tuple(
    each.name for each in fields(ComparedTotals) if each.name not in {"since", "at"}
)


class TotalsRecord:
    """Record of the totals, to which one process adds its own counts. Used by one thread."""

    def __init__(self, metadata: SharedValues) -> None:
        self._metadata = metadata
        self._added = dict.fromkeys(_NAMES, 0)
        self._due = 0.0

    def begin_at(self, counts: Mapping[str, int]) -> None:
        """Take counts as added: a forked child has those of its parent, which adds them."""
        self._added = {name: counts[name] for name in _NAMES}

    def lacks(self, counts: Mapping[str, int]) -> bool:
        """Return whether some of the counts are not added yet."""
        return any(counts[name] != self._added[name] for name in _NAMES)

    def add(self, counts: Mapping[str, int], *, now: bool = False) -> None:
        """Add what has come to the counts of this process; nothing is raised.

        Args:
            counts: of this process, since it began.
            now: not only where the last addition is some seconds old.
        """
        if not self.lacks(counts) or not (now or time.monotonic() >= self._due):
            return
        self._due = time.monotonic() + _EVERY
        wanted = {name: counts[name] for name in _NAMES}
        news = {name: wanted[name] - self._added[name] for name in _NAMES}
        # The next addition makes up for one that fails.
        with contextlib.suppress(PendStorageError):
            if self._put(news):
                self._added = wanted

    def _put(self, news: Mapping[str, int]) -> bool:
        for _ in range(_ATTEMPTS):
            found, at = self._metadata.get(COMPARED_META), datetime.now(UTC)
            known = totals_in(found)
            if known is None and found is not None:
                return False  # a newer version counts there
            known = known or ComparedTotals(since=at, at=at)
            sums = {name: getattr(known, name) + news[name] for name in _NAMES}
            value = ComparedTotals(since=known.since, at=at, **sums)
            plain: JSON = {"version": _VERSION, **msgspec.to_builtins(value)}
            if self._metadata.compare_and_set(COMPARED_META, found, plain):
                return True
        return False

    def read(self) -> ComparedTotals | None:
        """Return the totals; None where there are none that this version can read."""
        return totals_in(self._metadata.get(COMPARED_META))


def totals_in(value: JSON) -> ComparedTotals | None:
    """Return the totals in a value of the metadata; None where there are none to read."""
    if not isinstance(value, Mapping) or value.get("version") != _VERSION:
        return None
    try:
        return msgspec.convert(value, ComparedTotals)
    except msgspec.ValidationError:
        return None
