"""Leak detection: growth of a process's resources, from samples over its life."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["FEWEST", "TOLERANCES", "Sample", "Tolerance", "growth"]

FEWEST: Final = 9
"""Number of samples after the warm-up that a verdict needs."""
_WARM_UP: Final = 0.2
"""Share of the time in which pools, threads and caches fill."""
_MOST: Final = 200
"""Number of samples of the slope, which compares every pair."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Resources of a process at one moment."""

    at: float
    """Seconds, on any clock."""
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Tolerance of growth: the larger of both."""

    absolute: float
    share: float = 0.0

    def of(self, level: float) -> float:
        """Return the tolerated excess over that."""
        return max(self.absolute, self.share * level)


TOLERANCES: Final[Mapping[str, Tolerance]] = {
    "resident MiB": Tolerance(16.0, 0.10),
    "open files": Tolerance(12.0),
    "connections": Tolerance(6.0),
    "threads": Tolerance(6.0),
    "tasks": Tolerance(12.0, 0.15),
}
"""A pool breathes by a few; what leaks once a minute is far above that in half an hour."""


def growth(
    samples: Sequence[Sample], tolerances: Mapping[str, Tolerance] = TOLERANCES
) -> dict[str, str]:
    """A resource that has grown, and by how much.

    Two looks at the samples after the warm-up, neither of which a spike can deceive: the
    median of their last third against that of the first, and the median of the slopes
    between all pairs, over the whole time.

    Raises:
        ValueError: there are too few samples, or one lacks a value.
    """
    begin, end = samples[0].at, samples[-1].at
    warm = [s for s in samples if s.at >= begin + _WARM_UP * (end - begin)]
    if len(warm) < FEWEST:
        raise ValueError(f"{len(warm)} samples tell nothing; {FEWEST} would")
    found = {}
    for name, tolerance in tolerances.items():
        try:
            values = [(sample.at, sample.values[name]) for sample in warm]
        except KeyError:
            raise ValueError(f"a sample without {name}") from None
        before, after = _thirds(values)
        risen, limit = _risen(values), tolerance.of(before)
        if after - before > limit or risen > limit:
            found[name] = (
                f"{before:.1f} in the first third, {after:.1f} in the last; a rise of "
                f"{risen:.1f} by its slope; {limit:.1f} would be no growth"
            )
    return found


def _thirds(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    third = len(values) // 3
    first, last = values[:third], values[-third:]
    return (
        statistics.median(value for _, value in first),
        statistics.median(value for _, value in last),
    )


def _risen(values: Sequence[tuple[float, float]]) -> float:
    """By the median slope between two samples (Theil and Sen), over the whole time."""
    some = values[:: max(1, len(values) // _MOST)]
    slopes = [
        (y - x) / (after - before)
        for (before, x), (after, y) in itertools.combinations(some, 2)
        if after > before
    ]
    return statistics.median(slopes) * (some[-1][0] - some[0][0])
