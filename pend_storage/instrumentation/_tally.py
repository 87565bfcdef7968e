"""Tally: counts and durations of calls, kept by each thread for itself. Pure.

A thread adds to a table of its own, without a lock; a reader adds the tables up. What a
thread has counted outlives it.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, TypeVar

from pend_storage._fork import on_fork

T = TypeVar("T")

__all__ = [
    "BOUNDS",
    "CONFLICTS",
    "MOST_CALLS",
    "MOST_EVENTS",
    "MOST_FAILURES",
    "OTHER",
    "Call",
    "Tally",
    "Totals",
]

BOUNDS: Final = (
    0.00001,
    0.000025,
    0.0001,
    0.0005,
    0.001,
    0.005,
    0.025,
    0.1,
    0.5,
    2.5,
)
"""Upper bounds of the buckets, in seconds: from a read in memory to a timeout."""
OTHER: Final = "other"
"""Label of what is beyond the limits of a tally."""

MOST_CALLS: Final = 310
"""Combinations of operation, collection and store that are counted apart."""
MOST_FAILURES: Final = 75
"""Combinations of a call and the class of its error that are counted apart."""
MOST_EVENTS: Final = 100
"""Names of events that are counted apart."""
CONFLICTS: Final = frozenset({"Conflict", "MergeConflict"})
"""Classes of errors that are conflicts."""
_MOST_THREADS: Final = 64
"""Tables of threads, until those of ended threads are added up."""


class Call(NamedTuple):
    """Kind of call that is counted apart."""

    operation: str
    collection: str
    store: str


Cell: TypeAlias = list[float]
"""Calls in each bucket, in the order of :data:`BOUNDS`, then those above; then seconds."""

_EMPTY: Final[Cell] = [0] * (len(BOUNDS) + 1) + [0.0]


@dataclass(slots=True)
class _Table:
    """Table of one thread."""

    calls: dict[tuple[str, str, str], Cell] = field(default_factory=dict)
    failures: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    facts: dict[str, tuple[int, int]] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of all threads at one moment."""

    calls: dict[Call, Cell]
    failures: dict[tuple[str, str, str, str], int]
    """By operation, collection, store and class of the error."""
    facts: dict[str, tuple[int, int]]
    """By fact: how often it was counted, and the sum of the amounts."""
    events: dict[str, int]
    """By name."""


class Tally:
    """Tally of calls, failures and facts. Safe to share; a forked child begins at zero."""

    def __init__(self) -> None:
        self._after_fork()
        on_fork(self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._threads: list[tuple[weakref.ref[threading.Thread], _Table]] = []
        self._ended = _Table()
        self._labels: set[tuple[str, str, str]] = set()
        self._failures: set[tuple[str, str, str, str]] = set()
        self._events: set[str] = set()

    # -- in the thread of a call ----------------------------------------------------------

    def timed(
        self,
        operation: str,
        collection: str,
        store: str,
        seconds: float,
        error: str | None,
        /,
    ) -> None:
        """Count one call, as :meth:`Instruments.timed`."""
        try:
            cell = self._local.calls[operation, collection, store]
        except (AttributeError, KeyError):
            cell = self._cell(operation, collection, store)
        cell[bisect_left(BOUNDS, seconds)] += 1
        cell[-1] += seconds
        if error is not None:
            self._failed(operation, collection, store, error)

    def counted(self, fact: str, amount: int, /) -> None:
        """Count a fact, as :meth:`Instruments.counted`."""
        facts = self._table().facts
        times, total = facts.get(fact, (0, 0))
        facts[fact] = times + 1, total + amount

    def event(self, name: str) -> None:
        """Count an event."""
        events = self._table().events
        if name not in events:
            name = self._admitted(self._events, name, OTHER, MOST_EVENTS)
        events[name] = events.get(name, 0) + 1

    def _table(self) -> _Table:
        try:
            table: _Table = self._local.table
        except AttributeError:
            table = self._local.table = _Table()
            self._local.calls = table.calls
            thread = weakref.ref(threading.current_thread())
            with self._lock:
                if len(self._threads) >= _MOST_THREADS:
                    self._fold()
                self._threads.append((thread, table))
        return table

    def _cell(self, operation: str, collection: str, store: str) -> Cell:
        calls = self._table().calls
        asked = (operation, collection, store)
        name = asked
        if asked not in calls:
            other = (operation, OTHER, store)
            name = self._admitted(self._labels, asked, other, MOST_CALLS)
        return calls.setdefault(name, _EMPTY.copy())

    def _failed(self, operation: str, collection: str, store: str, error: str) -> None:
        failures = self._table().failures
        name = (operation, collection, store, error)
        if name not in failures:
            other = (operation, OTHER, store, OTHER)
            name = self._admitted(self._failures, name, other, MOST_FAILURES)
        failures[name] = failures.get(name, 0) + 1

    def _admitted(self, known: set[T], name: T, other: T, most: int) -> T:
        """Return the name to count under, so that no caller can make endless series."""
        with self._lock:
            if name in known or len(known) < most:
                known.add(name)
                return name
        return other

    # -- a reader -------------------------------------------------------------------------

    def totals(self) -> Totals:
        """Add the tables of all threads up."""
        with self._lock:
            self._fold()
            tables = [self._ended, *(table for _, table in self._threads)]
            found = _Table()
            for table in tables:
                _add(found, table)
        calls = {Call(*name): cell for name, cell in found.calls.items()}
        return Totals(calls, found.failures, found.facts, found.events)

    def _fold(self) -> None:
        """Add the tables of ended threads to one. Hold the lock."""
        running = []
        for thread, table in self._threads:
            found = thread()
            if found is not None and found.is_alive():
                running.append((thread, table))
            else:
                _add(self._ended, table)
        self._threads = running


def _add(to: _Table, table: _Table) -> None:
    # The thread may be adding names meanwhile: a copy of a dict is one step.
    for name, cell in table.calls.copy().items():
        sums = to.calls.setdefault(name, _EMPTY.copy())
        for place, value in enumerate(cell.copy()):
            sums[place] += value
    for failure, number in table.failures.copy().items():
        to.failures[failure] = to.failures.get(failure, 0) + number
    for fact, (times, total) in table.facts.copy().items():
        before = to.facts.get(fact, (0, 0))
        to.facts[fact] = before[0] + times, before[1] + total
    for event, number in table.events.copy().items():
        to.events[event] = to.events.get(event, 0) + number
