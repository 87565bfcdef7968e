"""Metrics in shared files, for servers of several processes that are scraped as one.

``prometheus_client`` keeps the values of each process in a file below
``PROMETHEUS_MULTIPROC_DIR``. They outlive the process, so a scrape counts the calls of a
worker that was killed, too.
"""

from __future__ import annotations

import threading
from typing import Final, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from pend_storage._fork import on_fork
from pend_storage.instrumentation._catalogue import of_source
from pend_storage.instrumentation._families import build_labels
from pend_storage.instrumentation._tally import (
    BOUNDS,
    CONFLICTS,
    MOST_CALLS,
    MOST_EVENTS,
    MOST_FAILURES,
    OTHER,
)

__all__ = ["SharedMetrics"]

T = TypeVar("T")

_METRICS: Final = of_source("calls")


class SharedMetrics:
    """Metrics of calls, failures and facts in the shared files, of all environments."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make the metrics, and register them.

        Args:
            registry: of this process; a scrape over all processes has one of its own.
        """
        self.durations = Histogram(
            *_named("operation_duration_seconds"), registry=registry, buckets=BOUNDS
        )
        self.calls = Counter(*_named("operations_total"), registry=registry)
        self.seconds = Counter(*_named("operation_seconds_total"), registry=registry)
        self.errors = Counter(*_named("operation_errors_total"), registry=registry)
        self.conflicts = Counter(*_named("conflicts_total"), registry=registry)
        self.merged = Summary(*_named("merged_commits"), registry=registry)
        self.applied = Counter(*_named("relay_applied_total"), registry=registry)
        self.events = Counter(*_named("events_total"), registry=registry)
        self._info = Gauge(
            *_named("client_info"), registry=registry, multiprocess_mode="livemax"
        )
        self._by_environment: dict[str, _Shared] = {}

    def of(self, environment: str) -> _Shared:
        """Return the counters of an environment."""
        found = self._by_environment.get(environment)
        if found is None:
            self._info.labels(environment=environment, **build_labels()).set(1)
            found = self._by_environment[environment] = _Shared(self, environment)
        return found


_Found: TypeAlias = tuple[Histogram, Counter, Counter]


class _Shared:
    """Counters of one environment in the shared files. Safe to share."""

    def __init__(self, metrics: SharedMetrics, environment: str) -> None:
        self._metrics = metrics
        self._environment = environment
        self._conflicts = metrics.conflicts.labels(environment)
        self._merged = metrics.merged.labels(environment)
        self._applied = metrics.applied.labels(environment)
        self._after_fork()
        on_fork(self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._by_call: dict[tuple[str, str, str], _Found] = {}
        self._known_calls: set[tuple[str, str, str]] = set()
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
        durations, calls, spent = self._by_call.get(call) or self._found(call)
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
        name = self._admitted(self._known_events, name, OTHER, MOST_EVENTS)
        self._metrics.events.labels(self._environment, name).inc()

    def _found(self, call: tuple[str, str, str]) -> _Found:
        operation, _, store = call
        other = (operation, OTHER, store)
        labels = self._admitted(self._known_calls, call, other, MOST_CALLS)
        own = self._environment
        found = (
            self._metrics.durations.labels(own, operation, store),
            self._metrics.calls.labels(own, *labels),
            self._metrics.seconds.labels(own, *labels),
        )
        if labels == call:
            self._by_call[call] = found
        return found

    def _failed(self, call: tuple[str, str, str], error: str) -> None:
        operation, _, store = call
        other = (operation, OTHER, store, OTHER)
        labels = self._admitted(
            self._known_failures, (*call, error), other, MOST_FAILURES
        )
        self._metrics.errors.labels(self._environment, *labels).inc()
        if error in CONFLICTS:
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
    return metric.name, metric.meaning, ("environment", *metric.labels)
