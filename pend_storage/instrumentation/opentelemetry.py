"""OpenTelemetry: durations as metrics, and spans of calls over the network.

Needs the extra ``otel``. Only the API is used: the SDK and its exporters are the user's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider

from pend_storage.events import Event
from pend_storage.instrumentation._tally import Tally, Totals

__all__ = ["OpenTelemetryInstruments"]

_SCOPE: Final = "pend_storage"
_LOCAL: Final = frozenset({"json", "memory"})
"""Stores in this process: a call may take microseconds, less than a span or a histogram."""
_SYSTEMS: Final = {"postgres": "postgresql"}
"""Names of the semantic conventions; another store has its own name."""
_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Upper bounds that the semantic conventions advise, in seconds."""
_NANOSECONDS: Final = 1_000_000_000

_TALLIES: Final[WeakKeyDictionary[MeterProvider, Tally]] = WeakKeyDictionary()
_LOCK: Final = threading.Lock()


class OpenTelemetryInstruments:
    """Instruments of the OpenTelemetry API.

    Calls over the network have a span, and the histogram ``db.client.operation.duration``,
    with the stable attributes of databases. Calls of stores in this process are counted:
    ``pend_storage.operations`` and ``pend_storage.operation.time``. A switch of phases has a
    span, and the histogram ``pend_storage.switch.duration``. No attribute has a value, a key
    or the text of a statement.
    """

    def __init__(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        """Make the instruments; all instruments of one meter provider count together.

        Args:
            meter_provider: of the metrics; None: the global one.
            tracer_provider: of the spans; None: the global one.
        """
        provider = meter_provider or metrics.get_meter_provider()
        meter = provider.get_meter(_SCOPE)
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._durations = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )
        self._switches = meter.create_histogram(
            "pend_storage.switch.duration",
            unit="s",
            description="Duration of switches of phases.",
        )
        with _LOCK:
            tally = _TALLIES.get(provider)
            if tally is None:
                tally = _TALLIES[provider] = Tally()
                _observe(meter, tally)
        self._tally = tally
        self.counted = tally.counted

    def timed(
        self,
        operation: str,
        collection: str,
        store: str,
        seconds: float,
        error: str | None,
        /,
    ) -> None:
        """Record one call, as :meth:`Instruments.timed`."""
        if operation == "switch":
            self._switched(store, seconds, error)
        elif store in _LOCAL:
            self._tally.timed(operation, collection, store, seconds, error)
        else:
            self._called(operation, collection, store, seconds, error)

    def event(self, event: Event, /) -> None:
        """Count an event by its name."""
        self._tally.event(event.name)

    def _called(
        self,
        operation: str,
        collection: str,
        store: str,
        seconds: float,
        error: str | None,
    ) -> None:
        attributes = _attributes(operation, collection, store, error)
        self._durations.record(seconds, attributes)
        summary = f"{operation} {collection}".rstrip()
        self._span(
            summary,
            SpanKind.CLIENT,
            {**attributes, "db.query.summary": summary},
            seconds,
            error,
        )

    def _switched(self, store: str, seconds: float, error: str | None) -> None:
        attributes = {"pend_storage.primary": store}
        if error is not None:
            attributes["error.type"] = error
        self._switches.record(seconds, attributes)
        self._span("switch", SpanKind.INTERNAL, attributes, seconds, error)

    def _span(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, str],
        seconds: float,
        error: str | None,
    ) -> None:
        """Make the span of a call that has ended; its parent is the caller's span."""
        # The duration is of the monotonic clock; a span needs a time of the day as well.
        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=kind,
            attributes=attributes,
            start_time=end - int(seconds * _NANOSECONDS),
        )
        if error is not None:
            span.set_status(StatusCode.ERROR)
        span.end(end_time=end)


def _attributes(
    operation: str, collection: str, store: str, error: str | None
) -> dict[str, str]:
    found = {
        "db.system.name": _SYSTEMS.get(store, store),
        "db.operation.name": operation,
    }
    if collection:
        found["db.collection.name"] = collection
    if error is not None:
        found["error.type"] = error
    return found


Observe = Callable[[Totals], Iterator[Observation]]


def _observe(meter: Meter, tally: Tally) -> None:
    """Make the counters that are read from a tally."""

    def read_by(observe: Observe) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: list(observe(tally.totals()))

    for name, unit, description, observe in _COUNTERS:
        meter.create_observable_counter(
            name, callbacks=[read_by(observe)], unit=unit, description=description
        )


def _calls(totals: Totals) -> Iterator[Observation]:
    for call, cell in totals.calls.items():
        yield Observation(sum(cell[:-1]), _attributes(*call, None))


def _seconds(totals: Totals) -> Iterator[Observation]:
    for call, cell in totals.calls.items():
        yield Observation(cell[-1], _attributes(*call, None))


def _failures(totals: Totals) -> Iterator[Observation]:
    for failure, number in totals.failures.items():
        yield Observation(number, _attributes(*failure))


def _events(totals: Totals) -> Iterator[Observation]:
    for event, number in totals.events.items():
        yield Observation(number, {"pend_storage.event": event})


def _applied(totals: Totals) -> Iterator[Observation]:
    yield Observation(totals.facts.get("relay_applied", (0, 0))[1])


def _transactions(totals: Totals) -> Iterator[Observation]:
    yield Observation(totals.facts.get("merged_commits", (0, 0))[0])


def _commits(totals: Totals) -> Iterator[Observation]:
    yield Observation(totals.facts.get("merged_commits", (0, 0))[1])


_COUNTERS: Final[tuple[tuple[str, str, str, Observe], ...]] = (
    (
        "pend_storage.operations",
        "{operation}",
        "Calls of stores in this process.",
        _calls,
    ),
    (
        "pend_storage.operation.time",
        "s",
        "Time spent in calls of stores in this process.",
        _seconds,
    ),
    (
        "pend_storage.operation.errors",
        "{operation}",
        "Calls of stores in this process that raised an exception.",
        _failures,
    ),
    (
        "pend_storage.events",
        "{event}",
        "Events, by name.",
        _events,
    ),
    (
        "pend_storage.relay.applied",
        "{commit}",
        "Commits that the relay of this process applied to the secondary.",
        _applied,
    ),
    (
        "pend_storage.transactions",
        "{transaction}",
        "Transactions of the stores, each of one commit or of several together.",
        _transactions,
    ),
    (
        "pend_storage.commits",
        "{commit}",
        "Commits in these transactions.",
        _commits,
    ),
)
