"""Instruments of OpenTelemetry: names, units and attributes, spans, and no values in them."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import pend_storage as ps
from pend_storage.events import Event
from pend_storage.instrumentation import OpenTelemetryInstruments
from pend_storage.instrumentation._seam import OPERATIONS
from pend_storage.pend import SCHEMA, User
from pend_storage.stores.memory import MemoryStore

PAGE: Final = "docs/reference/metrics.md"
DURATION: Final = "db.client.operation.duration"

EXPECTED: Final[dict[str, tuple[str, set[str]]]] = {
    DURATION: (
        "s",
        {"db.system.name", "db.operation.name", "db.collection.name", "error.type"},
    ),
    "pend_storage.switch.duration": ("s", {"pend_storage.primary", "error.type"}),
    "pend_storage.operations": (
        "{operation}",
        {"db.system.name", "db.operation.name", "db.collection.name"},
    ),
    "pend_storage.operation.time": (
        "s",
        {"db.system.name", "db.operation.name", "db.collection.name"},
    ),
    "pend_storage.operation.errors": (
        "{operation}",
        {"db.system.name", "db.operation.name", "db.collection.name", "error.type"},
    ),
    "pend_storage.events": ("{event}", {"pend_storage.event"}),
    "pend_storage.relay.applied": ("{commit}", set()),
    "pend_storage.transactions": ("{transaction}", set()),
    "pend_storage.commits": ("{commit}", set()),
}
"""Unit and attributes of each metric."""


class Backend:
    """A meter and a tracer whose output a test reads."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        self.meters = MeterProvider(metric_readers=[self._reader])
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))

    def instruments(self) -> OpenTelemetryInstruments:
        return OpenTelemetryInstruments(
            meter_provider=self.meters, tracer_provider=self.tracers
        )

    def metrics(self) -> dict[str, Any]:
        """Every metric by name."""
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Any]:
        return list(self.metrics()[name].data.data_points)

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    def close(self) -> None:
        self.meters.shutdown()
        self.tracers.shutdown()


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.close()


def use_everything(instruments: OpenTelemetryInstruments) -> None:
    for store in ("json", "postgres", "memory", "lake"):
        for operation in OPERATIONS:
            collection = "" if operation in {"commit", "switch"} else "users"
            for error in (None, "Conflict"):
                instruments.timed(operation, collection, store, 0.002, error)
    instruments.event(Event("secondary-up", ""))
    instruments.counted("relay_applied", 3)
    instruments.counted("merged_commits", 4)


def test_names_units_and_attributes_are_those_of_the_table(backend: Backend) -> None:
    use_everything(backend.instruments())

    found = {
        metric.name: (
            metric.unit,
            {key for point in metric.data.data_points for key in point.attributes},
        )
        for metric in backend.metrics().values()
    }

    assert found == EXPECTED


def test_the_page_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    _, _, text = page.partition("## Metrics of OpenTelemetry")
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| (?:histogram|counter) \| (\S+) \|", text, re.MULTILINE
    )

    assert dict(rows) == {name: unit for name, (unit, _) in EXPECTED.items()}


def test_calls_over_the_network_are_a_histogram_with_a_span_each(
    backend: Backend,
) -> None:
    instruments = backend.instruments()
    before = time.time_ns()

    instruments.timed("get", "users", "postgres", 0.25, None)
    instruments.timed("commit", "", "postgres", 0.5, "Conflict")

    first, second = backend.points(DURATION)
    assert dict(first.attributes) == {
        "db.system.name": "postgresql",
        "db.operation.name": "get",
        "db.collection.name": "users",
    }
    assert (first.count, first.sum) == (1, 0.25)
    assert second.attributes["error.type"] == "Conflict"
    got, committed = backend.spans()
    assert (got.name, got.kind) == ("get users", SpanKind.CLIENT)
    assert got.attributes is not None
    assert got.attributes["db.query.summary"] == "get users"
    assert got.status.status_code is StatusCode.UNSET
    assert committed.name == "commit"
    assert committed.status.status_code is StatusCode.ERROR
    assert got.start_time is not None
    assert got.end_time is not None
    assert got.end_time - got.start_time == 250_000_000
    assert before <= got.end_time <= time.time_ns()


@pytest.mark.parametrize("store", ["json", "memory"])
def test_calls_in_the_process_itself_are_counted_and_have_no_span(
    backend: Backend, store: str
) -> None:
    instruments = backend.instruments()

    for error in (None, None, "InvalidQuery"):
        instruments.timed("get", "users", store, 0.25, error)

    (calls,) = backend.points("pend_storage.operations")
    (seconds,) = backend.points("pend_storage.operation.time")
    (errors,) = backend.points("pend_storage.operation.errors")
    assert (calls.value, seconds.value, errors.value) == (3, 0.75, 1)
    assert dict(calls.attributes)["db.system.name"] == store
    assert DURATION not in backend.metrics()
    assert backend.spans() == ()


def test_a_switch_has_a_span(backend: Backend) -> None:
    backend.instruments().timed("switch", "", "postgres", 1.5, None)

    (span,) = backend.spans()
    assert (span.name, span.kind) == ("switch", SpanKind.INTERNAL)
    assert span.attributes == {"pend_storage.primary": "postgres"}
    (point,) = backend.points("pend_storage.switch.duration")
    assert point.sum == 1.5


def test_a_span_is_below_that_of_its_caller(backend: Backend) -> None:
    instruments = backend.instruments()
    tracer = backend.tracers.get_tracer("a server")

    with tracer.start_as_current_span("request") as outer:
        instruments.timed("get", "users", "postgres", 0.001, None)

    inner = backend.spans()[0]
    assert inner.parent is not None
    assert inner.parent.span_id == outer.get_span_context().span_id


def test_instruments_that_are_made_twice_count_together(backend: Backend) -> None:
    for _ in range(3):
        backend.instruments().timed("get", "users", "json", 0.5, None)

    (calls,) = backend.points("pend_storage.operations")
    assert calls.value == 3


def test_a_store_without_providers_works(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(SCHEMA, instruments=OpenTelemetryInstruments())

    assert store.collection(User).get("x") is None


PHONES: Final = st.from_regex(r"\+?[1-9][0-9]{9,14}", fullmatch=True)


def call_everything(users: ps.Collection[User], phone: str, wallet: str) -> None:
    """Call verbs with personal values, also such that fail."""
    user = User(id=phone, phone_hash=phone, blockchain_address=wallet)
    for call in (
        lambda: users.get(phone),
        lambda: users.get_by("phone_hash", phone),
        lambda: users.find(ps.field("phone_hash") == phone),
        lambda: users.put(user),
        lambda: users.put(user, if_version=0),
        lambda: users.get_by(phone, phone),
        lambda: users.delete(phone),
    ):
        with contextlib.suppress(ps.PendStorageError):
            call()


@given(phone=PHONES, wallet=st.from_regex(r"0x[0-9a-f]{40}", fullmatch=True))
def test_no_value_of_a_record_is_in_an_attribute(phone: str, wallet: str) -> None:
    backend = Backend()
    try:
        instruments = backend.instruments()
        for name in ("memory", "postgres"):
            store = MemoryStore(SCHEMA, instruments=instruments)
            assert store._timing is not None
            store._timing.store = name
            call_everything(store.collection(User), phone, wallet)
            store.tell(Event("file-problem", f"the member {phone} {wallet}"))

        metrics = json.dumps(
            [
                dict(point.attributes)
                for metric in backend.metrics().values()
                for point in metric.data.data_points
            ]
        )
        spans = "".join(span.to_json() for span in backend.spans())

        assert phone not in metrics
        assert wallet not in metrics
        attributes = [dict(span.attributes or {}) for span in backend.spans()]
        assert phone not in json.dumps(attributes)
        assert wallet not in spans
        assert "get users" in spans
    finally:
        backend.close()
