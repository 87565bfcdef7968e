"""Metrics in shared files, for servers of several processes that are scraped as one.

``prometheus_client`` keeps the values of each process in a file below
``PROMETHEUS_MULTIPROC_DIR``. They outlive the process, so a scrape counts the calls of a
worker that was killed, too.
"""

from __future__ import annotations

import threading
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from pend_storage._fork import on_fork
from pend_storage.instrumentation._catalogue import of_source
from pend_storage.instrumentation._families import build_labels
from pend_storage.instrumentation._tally import BOUNDS, OTHER

__all__ = ["SharedMetrics"]

T = TypeVar("T")

_METRICS: Final = of_source("calls")
_CONFLICTS: Final = frozenset({"Conflict", "MergeConflict"})
_MOST_CALLS: Final = 350
_MOST_FAILURES: Final = 100
_MOST_EVENTS: Final = 150


class SharedMetrics:
    """Metrics of calls, failures and facts in the shared files. Safe to share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make the metrics, and register them.

        Args:
            registry: of this process; a scrape over all processes has one of its own.
        """
        self._durations = Histogram(
            *_named("operation_duration_seconds"), registry=registry, buckets=BOUNDS
        )
        self._calls = Counter(*_named("operations_total"), registry=registry)
        self._seconds = Counter(*_named("operation_seconds_total"), registry=registry)
        self._errors = Counter(*_named("operation_errors_total"), registry=registry)
        self._conflicts = Counter(*_named("conflicts_total"), registry=registry)
        self._merged = Summary(*_named("merged_commits"), registry=registry)
        self._applied = Counter(*_named("relay_applied_total"), registry=registry)
        self._events = Counter(*_named("events_total"), registry=registry)
        info = Gauge(
            *_named("client_info"), registry=registry, multiprocess_mode="livemax"
        )
        info.labels(**build_labels()).set(1)
        self._after_fork()
        on_fork(self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._by_call: dict[
            tuple[str, str, str], tuple[Histogram, Counter, Counter]
        ] = {}
        self._known_failures: set[tuple[str, str, str, str]] = set()
        self._known_events: set[str] = set()

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
        call = (operation, collection, store)
        found = self._by_call.get(call) or self._metrics_of(call)
        durations, calls, spent = found
        durations.observe(seconds)
        calls.inc()
        spent.inc(seconds)
        if error is not None:
            self._failed(call, error)

    def counted(self, fact: str, amount: int, /) -> None:
        """Count a fact, as :meth:`Instruments.counted`."""
        if fact == "merged_commits":
            self._merged.observe(amount)
        elif fact == "relay_applied":
            self._applied.inc(amount)

    def event(self, name: str) -> None:
        """Count an event."""
        name = self._admitted(self._known_events, name, OTHER, _MOST_EVENTS)
        self._events.labels(name).inc()

    def _metrics_of(
        self, call: tuple[str, str, str]
    ) -> tuple[Histogram, Counter, Counter]:
        operation, collection, store = call
        if len(self._by_call) >= _MOST_CALLS:
            collection = OTHER
        labels = (operation, collection, store)
        found = (
            self._durations.labels(operation, store),
            self._calls.labels(*labels),
            self._seconds.labels(*labels),
        )
        if collection is not OTHER:
            self._by_call[call] = found
        return found

    def _failed(self, call: tuple[str, str, str], error: str) -> None:
        operation, _, store = call
        labels = self._admitted(
            self._known_failures,
            (*call, error),
            (operation, OTHER, store, OTHER),
            _MOST_FAILURES,
        )
        self._errors.labels(*labels).inc()
        if error in _CONFLICTS:
            self._conflicts.inc()

    def _admitted(self, known: set[T], name: T, other: T, most: int) -> T:
        """Return the name to count under, so that no caller can make endless series."""
        with self._lock:
            if name in known or len(known) < most:
                known.add(name)
                return name
        return other


def _named(name: str) -> tuple[str, str, tuple[str, ...]]:
    metric = _METRICS[f"pend_storage_{name}"]
    return metric.name, metric.meaning, metric.labels
