"""Provider that publishes the phase: what applications see of a switch, and how soon."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import Reason
from typing_extensions import override

import pend_storage as ps
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.flags import PendProvider
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA
from pend_storage.testing.faults import InterceptingStore, Verb

from .recorder import PATIENCE, SELDOM, Recorder

J, PAR, PG, P = Phase
T = TypeVar("T")
CHANGED = ProviderEvent.PROVIDER_CONFIGURATION_CHANGED


class Line(InterceptingStore):
    """Connection to a store, which can be cut, and which counts its calls."""

    is_cut = False
    calls = 0

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        self.calls += 1
        if self.is_cut:
            raise StoreUnavailable("cut", store="the line")
        return call()


@pytest.fixture(autouse=True)
def _own_providers() -> Iterator[None]:
    yield
    api.shutdown()


@pytest.fixture
def lines() -> tuple[Line, Line]:
    return Line(MemoryStore(SCHEMA)), Line(MemoryStore(SCHEMA))


@pytest.fixture
def pair(lines: tuple[Line, Line]) -> Iterator[DualWriteStore]:
    with DualWriteStore(
        json=lines[0],
        postgres=lines[1],
        compare=0.0,
        relay_interval=None,
        hook=lambda _: None,
    ) as store:
        yield store
        for line in lines:
            line.is_cut = False


def followed(
    pair: DualWriteStore, interval: float = 0.01
) -> tuple[OpenFeatureClient, dict[ProviderEvent, Recorder[EventDetails]]]:
    """Set the provider of a pair, and record its events."""
    client = api.get_client("status")
    recorders = {event: Recorder[EventDetails]() for event in ProviderEvent}
    api.set_provider_and_wait(PendProvider(pair, interval=interval), "status")
    for event, recorder in recorders.items():
        client.add_handler(event, recorder)
    return client, recorders


def test_the_flags_have_phase_primary_and_epoch(pair: DualWriteStore) -> None:
    client, events = followed(pair)
    before = client.get_integer_value("pend.epoch", -1)

    for phase, primary in ((PAR, "json"), (PG, "postgres"), (P, "postgres")):
        pair.switch(phase, accept=CODES)
        events[CHANGED].wait(
            lambda _: client.get_string_value("pend.phase", "") == pair.phase.value
        )
        assert client.get_string_value("pend.phase", "") == phase.value
        assert client.get_string_value("pend.primary", "") == primary
        found = client.get_string_details("pend.phase", "")
        epoch = client.get_integer_value("pend.epoch", -1)
        assert found.reason == Reason.CACHED
        assert found.flag_metadata["epoch"] == epoch >= before
        assert "MemoryStore" in str(found.flag_metadata["place"])


def test_a_switch_is_an_event_that_names_the_flags_that_changed(
    pair: DualWriteStore,
) -> None:
    _, events = followed(pair)
    pair.switch(PAR, accept=CODES)
    events[CHANGED].wait(lambda seen: len(seen) >= 1)
    pair.switch(PG, accept=CODES)
    events[CHANGED].wait(lambda seen: len(seen) >= 2)

    assert "pend.phase" in (events[CHANGED].all[0].flags_changed or [])
    last = events[CHANGED].all[-1]
    assert set(last.flags_changed or []) >= {"pend.phase", "pend.primary", "pend.epoch"}
    assert "postgres-primary" in str(last.message)


def test_without_a_switch_there_is_no_event(pair: DualWriteStore) -> None:
    _, events = followed(pair)
    lines = pair.stores
    before = lines[0].calls  # type: ignore[attr-defined]
    deadline = time.monotonic() + PATIENCE
    while lines[0].calls < before + 5:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.01)

    assert events[CHANGED].all == []
    assert events[ProviderEvent.PROVIDER_STALE].all == []


def test_stores_out_of_reach_make_the_values_stale_and_their_return_ready(
    pair: DualWriteStore, lines: tuple[Line, Line]
) -> None:
    client, events = followed(pair)
    for line in lines:
        line.is_cut = True
    events[ProviderEvent.PROVIDER_STALE].wait(lambda seen: len(seen) >= 1)

    found = client.get_string_details("pend.phase", "")
    assert (found.value, found.reason) == ("json-only", Reason.STALE)

    for line in lines:
        line.is_cut = False
    ready = events[ProviderEvent.PROVIDER_READY]
    ready.wait(lambda seen: any(each.message for each in seen))
    found = client.get_string_details("pend.phase", "")
    assert (found.value, found.reason) == ("json-only", Reason.CACHED)
    assert len(events[ProviderEvent.PROVIDER_STALE].all) == 1


def test_stores_that_are_out_of_reach_at_first_are_found_later(
    pair: DualWriteStore, lines: tuple[Line, Line]
) -> None:
    for line in lines:
        line.is_cut = True
    client, ready = api.get_client("status"), Recorder[EventDetails]()
    with pytest.raises(ProviderNotReadyError):
        api.set_provider_and_wait(PendProvider(pair, interval=0.01), "status")
    found = client.get_string_details("pend.phase", "none")
    assert (found.value, found.error_code) == ("none", ErrorCode.PROVIDER_NOT_READY)

    client.add_handler(ProviderEvent.PROVIDER_READY, ready)
    for line in lines:
        line.is_cut = False
    ready.wait(lambda seen: len(seen) >= 1)

    assert client.get_string_value("pend.phase", "none") == "json-only"


def test_an_evaluation_touches_no_store(
    pair: DualWriteStore, lines: tuple[Line, Line]
) -> None:
    client, _ = followed(pair, SELDOM)
    before = [line.calls for line in lines]

    for _ in range(100):
        assert client.get_string_value("pend.phase", "") == "json-only"

    assert [line.calls for line in lines] == before


def test_other_flags_and_other_types_are_the_default_with_an_error_code(
    pair: DualWriteStore,
) -> None:
    client, _ = followed(pair)

    unknown = client.get_string_details("pend.other", "mine")
    wrong = [
        client.get_integer_details("pend.phase", 7),
        client.get_boolean_details("pend.epoch", default_value=True),
        client.get_float_details("pend.epoch", 7.5),
        client.get_object_details("pend.phase", {}),
    ]

    assert (unknown.value, unknown.error_code) == ("mine", ErrorCode.FLAG_NOT_FOUND)
    assert [each.value for each in wrong] == [7, True, 7.5, {}]
    assert {each.error_code for each in wrong} == {ErrorCode.TYPE_MISMATCH}


def test_a_provider_that_was_shut_down_looks_no_more(
    pair: DualWriteStore, lines: tuple[Line, Line]
) -> None:
    provider = PendProvider(pair, interval=0.01)
    api.set_provider_and_wait(provider, "status")
    provider.shutdown()
    before = lines[0].calls
    time.sleep(0.1)

    assert lines[0].calls == before


def test_one_store_alone_and_a_wrong_interval_are_refused(pair: DualWriteStore) -> None:
    alone: object = MemoryStore(SCHEMA)
    with pytest.raises(ConfigError, match="needs a pair of stores"):
        PendProvider(alone)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="interval must be more than 0"):
        PendProvider(pair, interval=0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_watches_too(pair: DualWriteStore) -> None:
    client, _ = followed(pair)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            pair.switch(PAR, accept=CODES)
            deadline = time.monotonic() + PATIENCE
            while client.get_string_value("pend.phase", "") != "parallel":
                assert time.monotonic() < deadline
                time.sleep(0.01)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert status == 0


# -- another process ----------------------------------------------------------------------

SWITCH = """
import sys, time
import pend_storage as ps
from pend_storage.dualwrite import CODES
from pend_storage.testing.domain import SCHEMA

with ps.open_store(schema=SCHEMA, json=sys.argv[1], postgres=sys.argv[2]) as store:
    store.switch("parallel", accept=CODES)
    store.switch("postgres-primary", accept=CODES)
    print(time.time(), flush=True)
"""


def test_a_switch_in_another_process_is_an_event_within_a_second(
    new_migrated_database: Callable[[Schema], str], tmp_path: Path
) -> None:
    url, directory = new_migrated_database(SCHEMA), tmp_path / "data"
    arrived: list[float] = []
    client = api.get_client("status")
    with ps.open_store(
        schema=SCHEMA, json=directory, postgres=url, create=True, hook=lambda _: None
    ) as store:
        assert isinstance(store, DualWriteStore)
        api.set_provider_and_wait(PendProvider(store), "status")

        def note(_: EventDetails) -> None:
            if client.get_string_value("pend.primary", "") == "postgres":
                arrived.append(time.time())

        client.add_handler(CHANGED, note)
        done = subprocess.run(
            [sys.executable, "-c", SWITCH, str(directory), url],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        deadline = time.monotonic() + PATIENCE
        while not arrived:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        api.shutdown()

    # A second, and as much again for a machine that is busy.
    assert arrived[0] - float(done.stdout) < 2.0
