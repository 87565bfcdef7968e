"""Short slices in shuffled order, and ratios paired inside each round.

On a shared machine absolute rates move by a factor of two within minutes. What two
contenders did within the same few seconds can still be compared, so a ratio is taken
inside each round, and the median of those ratios is the result.
"""

from __future__ import annotations

import gc
import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

__all__ = [
    "Operation",
    "Sample",
    "Slice",
    "Spread",
    "Work",
    "alternate",
    "paired",
    "rate_of",
    "rate_once",
    "rate_together",
    "spread_of",
]

Operation: TypeAlias = Callable[[int], object]
"""One call to be timed; gets the number of the call, from 0 on."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Details of a slice beside its rate."""

    rate: float
    details: Mapping[str, float] = field(default_factory=dict)
    """Such as ``p95 ms``; less is better."""


T = TypeVar("T")
Slice: TypeAlias = Callable[[], float | Sample]
"""Runs for a short while and gives a rate, for which more is better."""
Work: TypeAlias = Callable[[], int]
"""Does the measured work, and returns its number of records."""

_SEED: Final = 7
_CLOCK_READS: Final = 20
"""Reads of the clock in a slice, about: few, so that they cost nothing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Spread of repeated measurements."""

    median: float
    q1: float
    q3: float
    best: float
    """The highest rate, or the least of what should be little: nearest to what a quiet
    machine would give."""


def spread_of(
    values: Sequence[float], best: Callable[[Sequence[float]], float] = max
) -> Spread:
    """Median, quartiles (interpolated) and best of at least one value.

    Raises:
        ValueError: there is none.
    """
    if not values:
        raise ValueError("nothing was measured")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, q1, q3, best(values))


def paired(
    subject: Sequence[float],
    base: Sequence[float],
    best: Callable[[Sequence[float]], float] = max,
) -> Spread:
    """The subject's rate as a multiple of the base's, round by round.

    ``best`` is the best rate of the one over the best rate of the other.
    """
    inside = spread_of([a / b for a, b in zip(subject, base, strict=True)])
    return Spread(inside.median, inside.q1, inside.q3, best(subject) / best(base))


def alternate(
    slices: Mapping[str, Callable[[], T]],
    rounds: int,
    *,
    warm_up: bool = True,
    told: Callable[[int], None] = lambda _: None,
) -> dict[str, list[T]]:
    """Run every slice once a round, in another order each time.

    A round before the first is thrown away, if there is a warm-up. The garbage collector stays on, as it is in
    a server, but runs before each slice, so that no slice pays for another's garbage.
    """
    for run in slices.values() if warm_up else ():
        run()
    found: dict[str, list[T]] = {name: [] for name in slices}
    order = list(slices)
    shuffler = random.Random(_SEED)  # noqa: S311 - an order, not a secret
    for number in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            gc.collect()
            found[name].append(slices[name]())
        told(number + 1)
    return found


def rate_of(operation: Operation, seconds: float) -> Callable[[], float]:
    """A slice that calls an operation again and again for about that long."""
    done = 0

    def run() -> float:
        nonlocal done
        first, chunk = done, 1
        started = now = time.perf_counter()
        while now - started < seconds:
            for number in range(done, done + chunk):
                operation(number)
            done += chunk
            before, now = now, time.perf_counter()
            if now - before < seconds / _CLOCK_READS:
                chunk *= 2
        return (done - first) / (now - started)

    return run


def rate_together(
    operation: Operation, seconds: float, threads: int
) -> Callable[[], float]:
    """A slice in which so many threads call an operation, all at the same time.

    No two calls get the same number.
    """
    done = 0

    def run() -> float:
        nonlocal done
        ready = threading.Barrier(threads + 1)
        finish = threading.Event()

        def call(first: int) -> int:
            ready.wait()
            number = first
            while not finish.is_set():
                operation(number)
                number += threads
            return (number - first) // threads

        with ThreadPoolExecutor(threads) as pool:
            calls = [pool.submit(call, done + place) for place in range(threads)]
            ready.wait()
            started = time.perf_counter()
            finish.wait(seconds)
            finish.set()
            counts = [each.result() for each in calls]
            elapsed = time.perf_counter() - started
        done += threads * (max(counts) + 1)
        return sum(counts) / elapsed

    return run


def rate_once(
    prepared: Callable[[], AbstractContextManager[Work]],
) -> Callable[[], float]:
    """A slice that does a whole piece of work; preparing and tidying up is not timed."""

    def run() -> float:
        with prepared() as work:
            started = time.perf_counter()
            records = work()
            seconds = time.perf_counter() - started
        return records / seconds

    return run
