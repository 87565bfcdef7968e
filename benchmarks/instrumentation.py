"""Cost of instruments: a read with and without them, in turn, and a scrape.

    python -m benchmarks.instrumentation

Prints ratios of one run: the machine may be slow, both sides are. Nothing is asserted.
``PEND_TEST_DSN`` names a PostgreSQL server; without it an embedded one is started.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

import pend_storage as ps
from pend_storage.instrumentation import (
    Instruments,
    OpenTelemetryInstruments,
    PrometheusInstruments,
    render,
)
from pend_storage.instrumentation._seam import OPERATIONS
from pend_storage.pend import SCHEMA, User
from pend_storage.store import Store
from pend_storage.testing.databases import Databases
from pend_storage.testing.servers import temporary_postgres

USERS = [
    User(
        id=f"00000000-0000-4000-8000-{number:012}",
        phone_hash=f"0x{number:064x}",
        blockchain_address=f"0x{number:040x}",
    )
    for number in range(5_000)
]
"""Read in random order, so that a read finds its record no quicker than in a server."""
ROUNDS = 401
"""Of a comparison: short ones, in turn, so that both sides meet the same disturbances."""
SCRAPES = 41

Make = Callable[[Instruments | None], Store]


def per_call(work: Callable[[], object], calls: int) -> float:
    """Microseconds of one call."""
    started = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - started) / calls * 1e6


def compare(name: str, make: Make, instruments: Instruments, calls: int) -> None:
    """Read by key without and with instruments, in turn, and print the median ratio."""
    with make(None) as off, make(instruments) as on:
        reads = []
        for store in (off, on):
            users = store.collection(User)
            users.put_many(USERS)
            keys = itertools.cycle(random.sample([user.id for user in USERS], 4_999))
            reads.append(lambda users=users, keys=keys: users.get(next(keys)))
            per_call(reads[-1], len(USERS))
        pairs = [
            (per_call(reads[0], calls), per_call(reads[1], calls))
            for _ in range(ROUNDS)
        ]
    plain = statistics.median(pair[0] for pair in pairs)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    print(f"{name:<46} {plain:8.2f} us  {ratio:6.3f}x")


def scrape_of_a_server() -> None:
    """Print the series and the time of a scrape with every operation on 11 collections."""
    registry = CollectorRegistry()
    instruments = PrometheusInstruments(registry, environment="production")
    for store in ("json", "postgres"):
        for operation in OPERATIONS:
            for number in range(11):
                instruments.timed(operation, f"collection{number}", store, 0.001, None)
    took, body = [], b""
    for _ in range(SCRAPES):
        started = time.perf_counter()
        body, _ = render(registry)
        took.append((time.perf_counter() - started) * 1e3)
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    print(
        f"{'scrape: ' + str(series) + ' series':<46} {statistics.median(took):8.2f} ms"
    )


def main() -> None:
    """Run everything, and print a line for each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = iter(range(100))

        def json(instruments: Instruments | None) -> Store:
            place = folder / str(next(places))
            return ps.JsonStore(SCHEMA, place, instruments=instruments)

        url = (
            os.environ.get("PEND_TEST_DSN")
            or stack.enter_context(temporary_postgres()).url
        )
        databases = Databases(url)
        stack.callback(databases.drop_all)
        database = databases.make()
        with ps.PostgresStore(SCHEMA, database) as store:
            store.migrate()

        def postgres(instruments: Instruments | None) -> Store:
            return ps.PostgresStore(SCHEMA, database, instruments=instruments)

        meters = MeterProvider(metric_readers=[InMemoryMetricReader()])
        stack.callback(meters.shutdown)
        prometheus = PrometheusInstruments(CollectorRegistry())
        opentelemetry = OpenTelemetryInstruments(meter_provider=meters)
        compare("JsonStore.get, Prometheus", json, prometheus, 100)
        compare("JsonStore.get, OpenTelemetry", json, opentelemetry, 100)
        compare("PostgresStore.get, Prometheus", postgres, prometheus, 10)
        compare("PostgresStore.get, OpenTelemetry SDK", postgres, opentelemetry, 10)
        scrape_of_a_server()


if __name__ == "__main__":
    main()
