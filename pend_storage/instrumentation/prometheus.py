"""Prometheus: instruments, the facts of a pair, and the body of a scrape.

Needs the extra ``metrics``.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, values
from prometheus_client.exposition import choose_encoder

from pend_storage.events import Event
from pend_storage.instrumentation._catalogue import of_source
from pend_storage.instrumentation._families import (
    Family,
    Samples,
    build_labels,
    described,
)
from pend_storage.instrumentation._pair_collector import PairCollector
from pend_storage.instrumentation._shared_metrics import SharedMetrics
from pend_storage.instrumentation._tally import BOUNDS, CONFLICTS, Tally, Totals

__all__ = ["PairCollector", "PrometheusInstruments", "render"]

_METRICS: Final = of_source("calls")


class _Counters(Protocol):
    """Counters of the instruments of one registry and environment."""

    def timed(
        self,
        operation: str,
        collection: str,
        store: str,
        seconds: float,
        error: str | None,
        /,
    ) -> None: ...

    def counted(self, fact: str, amount: int, /) -> None: ...

    def event(self, name: str) -> None: ...


class _Source(Protocol):
    """Source of counters that is registered with a registry."""

    def of(self, environment: str) -> _Counters:
        """Return the counters of an environment; they are made at the first call."""
        ...


_BY_REGISTRY: Final[WeakKeyDictionary[CollectorRegistry, _Source]] = WeakKeyDictionary()
_LOCK: Final = threading.Lock()


class PrometheusInstruments:
    """Instruments that a Prometheus server scrapes.

    Each thread counts in a table of its own, and a collector adds the tables up at a
    scrape. Where ``PROMETHEUS_MULTIPROC_DIR`` is set, they are metrics of the library in
    its shared files instead, because a scrape over several processes sees no collectors.

    The labels are names: of operations, collections, stores, events and errors. There are
    at most 1,500 series; what is beyond has the label ``other``.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, environment: str = ""
    ) -> None:
        """Register with a registry; all instruments of one registry count together.

        Args:
            registry: what is scraped.
            environment: label of every sample; empty: the samples have none.

        Raises:
            ValueError: the registry has metrics of these names from elsewhere.
        """
        with _LOCK:
            source = _BY_REGISTRY.get(registry)
            if source is None:
                source = _BY_REGISTRY[registry] = _registered(registry)
            counters = source.of(environment)
        self.timed = counters.timed
        self.counted = counters.counted
        self._count_event = counters.event

    def event(self, event: Event, /) -> None:
        """Count an event by its name."""
        self._count_event(event.name)


def _registered(registry: CollectorRegistry) -> _Source:
    if values.ValueClass._multiprocess:  # noqa: SLF001 - it was chosen at the import
        return SharedMetrics(registry)
    collector = _TallyCollector()
    registry.register(collector)
    return collector


class _TallyCollector:
    """Collector of the tallies of one registry, one for each environment."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def of(self, environment: str) -> Tally:
        """Return the tally of an environment."""
        return self._tallies.setdefault(environment, Tally())

    def describe(self) -> Iterable[Family]:
        """Return the families without samples, for the registry."""
        return described(_METRICS)

    def collect(self) -> Iterator[Family]:
        """Add the threads up, and return the families with samples."""
        samples = Samples(_METRICS)
        for environment, tally in self._tallies.copy().items():
            samples.common = {"environment": environment} if environment else {}
            totals = tally.totals()
            _add_calls(samples, totals)
            _add_failures(samples, totals)
            _add_facts(samples, totals)
            samples.add("pend_storage_client_info", 1.0, **build_labels())
        return samples.families()


def _add_calls(samples: Samples, totals: Totals) -> None:
    histograms: dict[tuple[str, str], list[float]] = defaultdict(
        lambda: [0.0] * (len(BOUNDS) + 2)
    )
    for call, cell in totals.calls.items():
        *counts, seconds = cell
        labels = call._asdict()
        samples.add("pend_storage_operations_total", sum(counts), **labels)
        samples.add("pend_storage_operation_seconds_total", seconds, **labels)
        sums = histograms[call.operation, call.store]
        for place, value in enumerate(cell):
            sums[place] += value
    for (operation, store), (*counts, seconds) in histograms.items():
        samples.add_histogram(
            "pend_storage_operation_duration_seconds",
            BOUNDS,
            counts,
            seconds,
            operation=operation,
            store=store,
        )


def _add_failures(samples: Samples, totals: Totals) -> None:
    conflicts = 0
    for (operation, collection, store, error), number in totals.failures.items():
        samples.add(
            "pend_storage_operation_errors_total",
            number,
            operation=operation,
            collection=collection,
            store=store,
            error=error,
        )
        conflicts += number if error in CONFLICTS else 0
    samples.add("pend_storage_conflicts_total", conflicts)


def _add_facts(samples: Samples, totals: Totals) -> None:
    merged = totals.facts.get("merged_commits", (0, 0))
    samples.add_summary("pend_storage_merged_commits", *merged)
    _, applied = totals.facts.get("relay_applied", (0, 0))
    samples.add("pend_storage_relay_applied_total", applied)
    for event, number in totals.events.items():
        samples.add("pend_storage_events_total", number, event=event)


def render(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Return the body of a scrape, and its content type.

    Args:
        registry: what is scraped.
        accept: header ``Accept`` of the request; by it the text format or OpenMetrics is
            chosen. Empty: the text format.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
