"""Instruments of Prometheus: what a scrape adds up, over threads, forks and registries."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)

import pend_storage as ps
from pend_storage.events import Event
from pend_storage.instrumentation import PrometheusInstruments, render
from pend_storage.instrumentation._catalogue import of_source
from pend_storage.instrumentation._seam import OPERATIONS
from pend_storage.instrumentation._tally import BOUNDS, Tally
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Ship, a_ship

from .scrapes import one, samples, scrape, total

CALLS: Final = "pend_storage_operations_total"
ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


# -- what is counted -------------------------------------------------------------------------


def test_calls_errors_events_and_facts_are_in_a_scrape(
    registry: CollectorRegistry,
) -> None:
    instruments = PrometheusInstruments(registry, environment="production")
    store = MemoryStore(SCHEMA, instruments=instruments)
    ships = store.collection(Ship)
    ships.put(a_ship("s1"))
    for _ in range(3):
        ships.get("s1")
    with pytest.raises(ps.Conflict):
        ships.put(a_ship("s1"), if_version=0)
    store.tell(Event("secondary-down", "it does not answer"))
    instruments.counted("merged_commits", 4)
    instruments.counted("merged_commits", 2)
    instruments.counted("relay_applied", 7)
    instruments.counted("of-a-newer-part", 1)

    found = scrape(registry)

    ship = {"collection": "ships", "store": "memory", "environment": "production"}
    assert one(found, CALLS, operation="get", **ship) == 3
    assert one(found, CALLS, operation="put", **ship) == 2
    errors = "pend_storage_operation_errors_total"
    assert one(found, errors, operation="put", error="Conflict", **ship) == 1
    assert one(found, "pend_storage_conflicts_total") == 1
    assert one(found, "pend_storage_events_total", event="secondary-down") == 1
    assert one(found, "pend_storage_merged_commits_count") == 2
    assert one(found, "pend_storage_merged_commits_sum") == 6
    assert one(found, "pend_storage_relay_applied_total") == 7
    assert all(labels["environment"] == "production" for _, labels, _ in found)


def test_every_metric_of_calls_is_in_a_scrape(registry: CollectorRegistry) -> None:
    instruments = PrometheusInstruments(registry)
    instruments.timed("put", "ships", "json", 0.1, "Conflict")
    instruments.event(Event("secondary-up", ""))

    names = {name for name, *_ in scrape(registry)}

    for name, metric in of_source("calls").items():
        ends = {"histogram": "_bucket", "summary": "_sum"}.get(metric.kind, "")
        assert f"{name}{ends}" in names


@given(seconds=st.lists(st.floats(0, 5), min_size=1, max_size=30))
def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket(
    seconds: list[float],
) -> None:
    registry = CollectorRegistry()
    instruments = PrometheusInstruments(registry)
    seconds = [*seconds, BOUNDS[3], BOUNDS[-1]]
    for each in seconds:
        instruments.timed("get", "ships", "json", each, None)

    found = scrape(registry)

    name = "pend_storage_operation_duration_seconds"
    for bound in BOUNDS:
        expected = sum(each <= bound for each in seconds)
        assert one(found, f"{name}_bucket", le=str(bound)) == expected
    assert one(found, f"{name}_bucket", le="+Inf") == len(seconds)
    assert one(found, f"{name}_count") == len(seconds)
    assert one(found, f"{name}_sum") == pytest.approx(sum(seconds))


@pytest.mark.parametrize("accept", ["", "text/plain", "*/*"])
def test_a_scrape_is_text(registry: CollectorRegistry, accept: str) -> None:
    PrometheusInstruments(registry).timed("get", "ships", "json", 0.1, None)

    body, content_type = render(registry, accept)

    assert content_type.startswith("text/plain")
    assert total(samples(body), CALLS) == 1


def test_a_scrape_is_openmetrics_where_that_is_asked_for(
    registry: CollectorRegistry,
) -> None:
    instruments = PrometheusInstruments(registry)
    instruments.timed("get", "ships", "json", 0.1, "Conflict")
    instruments.event(Event("secondary-up", ""))
    instruments.counted("merged_commits", 3)

    body, content_type = render(registry, "application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    families = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    found = [sample for family in families for sample in family.samples]
    assert sum(s.value for s in found if s.name == CALLS) == 1


# -- labels -------------------------------------------------------------------------------------


@given(text=st.text(min_size=1))
def test_a_strange_name_is_a_label_and_nothing_else(text: str) -> None:
    registry = CollectorRegistry()
    instruments = PrometheusInstruments(registry)
    text = f'{text}"}} 1\nevil_total 1 # '

    instruments.timed("get", text, "json", 0.1, None)
    instruments.event(Event(text, ""))

    found = scrape(registry)
    # The text format ends a line at \n only; its parser here at every line end of Python.
    if text.splitlines() == text.split("\n"):
        assert one(found, CALLS, operation="get") == 1
    assert not [name for name, *_ in found if not name.startswith("pend_storage_")]


def test_endless_names_make_no_endless_series(registry: CollectorRegistry) -> None:
    instruments = PrometheusInstruments(registry)
    stores = ("json", "postgres", "memory")
    for number in range(2_000):
        for operation in OPERATIONS:
            instruments.timed(
                operation, f"c{number}", stores[number % 3], 0.1, f"E{number}"
            )
        instruments.event(Event(f"event-{number}", ""))

    found = scrape(registry)

    assert len(found) <= 1_500
    assert total(found, CALLS) == 2_000 * len(OPERATIONS)
    assert total(found, CALLS, collection="other") > 0
    assert total(found, "pend_storage_operation_errors_total") == 2_000 * len(
        OPERATIONS
    )
    assert total(found, "pend_storage_events_total") == 2_000


def test_the_collections_of_a_server_are_all_counted_apart(
    registry: CollectorRegistry,
) -> None:
    instruments = PrometheusInstruments(registry)
    for store in ("json", "postgres"):  # a pair, before and after its switch
        for operation in OPERATIONS:
            for collection in (f"c{number}" for number in range(11)):
                instruments.timed(operation, collection, store, 0.1, None)

    found = scrape(registry)

    assert len(found) <= 1_500
    assert not total(found, CALLS, collection="other")


# -- threads, registries and forks ---------------------------------------------------------------


def test_calls_of_all_threads_are_added_up_also_of_those_that_ended(
    registry: CollectorRegistry,
) -> None:
    instruments = PrometheusInstruments(registry)
    ships = MemoryStore(SCHEMA, instruments=instruments).collection(Ship)

    def work() -> None:
        for _ in range(50):
            ships.get("s1")

    for _ in range(3):
        threads = [threading.Thread(target=work) for _ in range(70)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: work(), range(10)))

    assert total(scrape(registry), CALLS) == 3 * 70 * 50 + 10 * 50


def test_a_scrape_beside_working_threads_loses_nothing_and_never_goes_down(
    registry: CollectorRegistry,
) -> None:
    instruments = PrometheusInstruments(registry)
    stop = threading.Event()
    made = [0] * 4

    def work(place: int) -> None:
        while not stop.is_set():
            instruments.timed("get", f"c{made[place] % 40}", "json", 0.001, None)
            made[place] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen = [total(scrape(registry), CALLS) for _ in range(20)]
    stop.set()
    for thread in threads:
        thread.join()

    assert seen == sorted(seen)
    assert total(scrape(registry), CALLS) == sum(made)


def test_two_registries_count_apart() -> None:
    one_of_two, other = CollectorRegistry(), CollectorRegistry()

    PrometheusInstruments(one_of_two).timed("get", "ships", "json", 0.1, None)
    PrometheusInstruments(other)

    assert total(scrape(one_of_two), CALLS) == 1
    assert total(scrape(other), CALLS) == 0


def test_instruments_that_are_made_twice_count_together(
    registry: CollectorRegistry,
) -> None:
    for _ in range(3):  # as where an application is made anew, in the same process
        PrometheusInstruments(registry).timed("get", "ships", "json", 0.1, None)

    found = scrape(registry)

    assert one(found, CALLS) == 3


def test_two_environments_of_one_registry_are_told_apart(
    registry: CollectorRegistry,
) -> None:
    for environment, calls in (("production", 2), ("staging", 1)):
        for _ in range(calls):
            PrometheusInstruments(registry, environment=environment).timed(
                "get", "ships", "json", 0.1, None
            )

    found = scrape(registry)

    assert one(found, CALLS, environment="production") == 2
    assert one(found, CALLS, environment="staging") == 1


def test_a_name_that_another_library_has_is_refused(
    registry: CollectorRegistry,
) -> None:
    Counter(CALLS, "of another library", registry=registry)

    with pytest.raises(ValueError, match="pend_storage_operations"):
        PrometheusInstruments(registry)


def test_a_forked_child_begins_at_zero(registry: CollectorRegistry) -> None:
    instruments = PrometheusInstruments(registry)
    instruments.timed("get", "ships", "json", 0.1, None)
    out, into = os.pipe()

    child = os.fork()
    if not child:
        try:
            instruments.timed("get", "ships", "json", 0.1, None)
            instruments.timed("count", "ships", "json", 0.1, None)
            os.write(into, str(total(scrape(registry), CALLS)).encode())
        finally:
            os._exit(0)
    os.close(into)
    os.waitpid(child, 0)
    with os.fdopen(out) as pipe:
        assert pipe.read() == "2.0"
    assert total(scrape(registry), CALLS) == 1


def test_a_tally_that_is_gone_leaves_nothing_behind() -> None:
    from pend_storage import _fork

    gc.collect()
    before = len(_fork._callbacks)
    for _ in range(5):
        Tally()
    gc.collect()

    assert len(_fork._callbacks) == before


# -- several processes ---------------------------------------------------------------------------

WORKERS: Final = """
import os, signal, sys, time
from prometheus_client import CollectorRegistry
import pend_storage as ps
from pend_storage.instrumentation import PrometheusInstruments
from pend_storage.testing.domain import SCHEMA, Ship, a_ship

store = ps.JsonStore(SCHEMA, sys.argv[1], instruments=PrometheusInstruments(
    CollectorRegistry(), environment="production"))
store.collection(Ship).put(a_ship("s1"))
children = []
for number in range(4):
    child = os.fork()
    if not child:
        ships = store.collection(Ship)
        for _ in range(2_500):
            assert ships.get("s1") is not None
        os.write(1, b"%d\\n" % number)  # in one piece
        time.sleep(60)
        os._exit(1)
    children.append(child)
sys.stdin.readline()
os.kill(children[0], signal.SIGKILL)
os.waitpid(children[0], 0)
print("killed", flush=True)
sys.stdin.readline()
for child in children[1:]:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
SCRAPE: Final = """
import sys
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from pend_storage.instrumentation import render
registry = CollectorRegistry()
MultiProcessCollector(registry)
sys.stdout.buffer.write(render(registry)[0])
"""


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Starts a program whose metrics are in shared files."""
    values = tmp_path / "values"
    values.mkdir()
    started = []

    def start(program: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(values)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_forked_workers_are_added_up_also_after_one_is_killed(
    shared: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    def gets() -> float:
        out, _ = shared(SCRAPE).communicate(timeout=60)
        found = samples(out.encode())
        name = "pend_storage_operation_duration_seconds"
        calls = total(found, CALLS, operation="get", environment="production")
        assert calls == total(found, f"{name}_count", operation="get")
        assert calls == total(found, f"{name}_bucket", operation="get", le="+Inf")
        assert total(found, "pend_storage_merged_commits_count") >= 1
        assert total(found, "pend_storage_client_info") >= 1
        return calls

    workers = shared(WORKERS, str(tmp_path / "data"))
    assert workers.stdin is not None
    assert workers.stdout is not None
    assert {workers.stdout.readline() for _ in range(4)} == {"0\n", "1\n", "2\n", "3\n"}
    assert gets() == 10_000

    workers.stdin.write("\n")
    workers.stdin.flush()
    assert workers.stdout.readline() == "killed\n"
    assert gets() == 10_000


CAPPED: Final = """
from prometheus_client import CollectorRegistry
from pend_storage.events import Event
from pend_storage.instrumentation import PrometheusInstruments, render
registry = CollectorRegistry()
for _ in range(2):
    instruments = PrometheusInstruments(registry)
for number in range(1_000):
    instruments.timed("get", f"c{number}", "json", 0.1, f"E{number}")
    instruments.event(Event(f"e{number}", ""))
instruments.timed("put", "c", "json", 0.1, "Conflict")
instruments.counted("relay_applied", 3)
import sys
sys.stdout.buffer.write(render(registry)[0])
"""


def test_shared_metrics_have_bounds_and_may_be_made_twice(
    shared: Callable[..., subprocess.Popen[str]],
) -> None:
    out, _ = shared(CAPPED).communicate(timeout=60)

    found = samples(out.encode())

    assert total(found, CALLS) == 1_001
    assert total(found, CALLS, collection="other") == 1_001 - 310
    assert total(found, "pend_storage_operation_errors_total") == 1_001
    assert total(found, "pend_storage_conflicts_total") == 1
    assert total(found, "pend_storage_events_total") == 1_000
    assert total(found, "pend_storage_relay_applied_total") == 3
    assert len([s for s in found if not s[0].endswith("_created")]) <= 1_500
