"""Phase flag of an OpenFeature provider: followed where it is certain, and never guessed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, FlagNotFoundError, GeneralError
from openfeature.flag_evaluation import Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from pend_storage.config import load_settings
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.flags import (
    AutoSwitch,
    DesiredPhase,
    OpenFeatureFlag,
    PendProvider,
    flag_source,
)
from pend_storage.phases import Phase
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

from .openfeature_kit import ScriptedProvider, says
from .recorder import OFTEN, PATIENCE, SELDOM, Recorder, Watch, named, named_last, until

J, PAR, PG, P = Phase


@pytest.fixture(autouse=True)
def _own_providers() -> Iterator[None]:
    """Begin without providers, and leave none: they are those of the process."""
    api.shutdown()
    yield
    api.shutdown()


@pytest.fixture
def pair() -> Iterator[DualWriteStore]:
    stores = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    with DualWriteStore(
        json=stores[0],
        postgres=stores[1],
        compare=0.0,
        relay_interval=None,
        hook=lambda _: None,
    ) as store:
        yield store


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


# -- what is followed ---------------------------------------------------------------------


def test_the_value_of_any_provider_is_the_desired_phase() -> None:
    flag = InMemoryFlag("on", {"on": "parallel"})
    api.set_provider_and_wait(InMemoryProvider({"pend.phase": flag}), "pend")

    found = OpenFeatureFlag().read()

    assert found.phase is PAR
    assert found.place == "the OpenFeature flag 'pend.phase' of the domain 'pend'"


def test_the_default_provider_serves_a_domain_without_one() -> None:
    api.set_provider_and_wait(ScriptedProvider(says("postgres-only")))

    assert OpenFeatureFlag("x", "any").read().phase is P


def test_a_change_wakes_the_watcher_without_waiting_for_the_interval(
    watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    provider = ScriptedProvider(says("json-only"))
    api.set_provider_and_wait(provider, "pend")
    watch(OpenFeatureFlag(), SELDOM)
    until(changes, "json-only")

    provider.change(says("parallel"))

    until(changes, "json-only", "parallel")


def test_the_end_of_a_watcher_ends_its_subscription(
    watch: Watch, changes: Recorder[DesiredPhase]
) -> None:
    provider = ScriptedProvider(says("json-only"))
    api.set_provider_and_wait(provider, "pend")
    flag, other, woken = OpenFeatureFlag(), OpenFeatureFlag(), threading.Event()
    stop = flag.subscribe(woken.set)
    wait_for(woken.is_set, "the handler of READY is called at once")
    stop()
    woken.clear()
    watch(other, SELDOM)
    until(changes, "json-only")

    provider.change(says("parallel"))

    until(changes, "json-only", "parallel")
    assert not woken.is_set()


def test_a_store_is_moved_there_and_back(
    pair: DualWriteStore, events: Recorder[Event]
) -> None:
    provider = ScriptedProvider(says("parallel"))
    api.set_provider_and_wait(provider, "pend")
    pair.collection(Log).put(a_log("a", "1"))
    auto = AutoSwitch(
        pair, OpenFeatureFlag(), events, accept=CODES, interval=SELDOM, least_pause=0
    )
    wait_for(lambda: pair.phase is PAR, "it follows the first value")

    provider.change(says("json-only"))

    wait_for(lambda: pair.phase is J, "it goes back")
    auto.close()
    assert pair.history()[-1].by.endswith("of the domain 'pend'")


def test_a_provider_that_goes_back_and_forth_moves_the_stores_once_a_minute(
    pair: DualWriteStore, events: Recorder[Event]
) -> None:
    provider = ScriptedProvider(says("parallel"))
    api.set_provider_and_wait(provider, "pend")
    auto = AutoSwitch(pair, OpenFeatureFlag(), events, accept=CODES, interval=SELDOM)
    wait_for(lambda: pair.phase is PAR, "it follows the first value")

    provider.change(says("json-only"))

    events.wait(lambda all_: named_last(all_) == "auto-switch-held")
    auto.close()
    assert pair.phase is PAR


def test_a_value_that_flips_during_a_switch_is_followed_after_it(
    pair: DualWriteStore, events: Recorder[Event]
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    provider = ScriptedProvider(says("parallel"))
    api.set_provider_and_wait(provider, "pend")

    class Slow:
        """The pair, with a first switch that waits for the test."""

        def __getattr__(self, name: str) -> Any:
            return getattr(pair, name)

        def switch(self, phase: Phase, **settings: Any) -> object:
            begun.set()
            assert go_on.wait(PATIENCE)
            return pair.switch(phase, **settings)

    slow: Any = Slow()
    auto = AutoSwitch(
        slow, OpenFeatureFlag(), events, accept=CODES, interval=SELDOM, least_pause=0
    )
    assert begun.wait(PATIENCE)

    provider.change(says("json-only"))
    assert pair.phase is J
    go_on.set()

    events.wait(lambda all_: [each.name for each in all_].count("auto-switched") == 2)
    auto.close()
    assert pair.phase is J


def test_the_calls_of_a_store_evaluate_nothing(
    pair: DualWriteStore, events: Recorder[Event]
) -> None:
    provider = ScriptedProvider(says("parallel"))
    api.set_provider_and_wait(provider, "pend")
    auto = AutoSwitch(pair, OpenFeatureFlag(), events, accept=CODES, interval=SELDOM)
    wait_for(lambda: pair.phase is PAR, "it follows the first value")
    events.wait(lambda all_: named_last(all_) == "auto-switched")
    before = provider.evaluations

    logs = pair.collection(Log)
    for number in range(200):
        logs.put(a_log(f"k{number}", "x"))
        assert logs.get(f"k{number}") is not None

    auto.close()
    # The event READY of the subscription may have caused one more reading.
    assert provider.evaluations - before <= 1


# -- what cannot be read ------------------------------------------------------------------

UNREADABLE: dict[str, tuple[Any, str, str]] = {
    "raises": (GeneralError("SECRET"), "flag-unreachable", "failed with 'GENERAL'"),
    "raises anything": (ZeroDivisionError("SECRET"), "flag-unreachable", "'GENERAL'"),
    "not found": (FlagNotFoundError("SECRET"), "flag-unknown", "'FLAG_NOT_FOUND'"),
    "a number": (says(3), "flag-unknown", "'TYPE_MISMATCH'"),
    "an unknown word": (says("paralel"), "flag-unknown", "did you mean 'parallel'?"),
    "nothing": (says(""), "flag-unknown", "only a default"),
    "an error code": (
        says("postgres-only", error_code=ErrorCode.PARSE_ERROR),
        "flag-unknown",
        "'PARSE_ERROR'",
    ),
    "reason ERROR": (
        says("postgres-only", reason=Reason.ERROR),
        "flag-unknown",
        "only a default",
    ),
    "reason DEFAULT": (
        says("postgres-only", reason=Reason.DEFAULT),
        "flag-unknown",
        "only a default",
    ),
    "reason DISABLED": (
        says("postgres-only", reason=Reason.DISABLED),
        "flag-unknown",
        "only a default",
    ),
    "reason STALE": (
        says("postgres-only", reason=Reason.STALE),
        "flag-unreachable",
        "STALE",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_changes_nothing_and_is_reported(
    case: str,
    watch: Watch,
    changes: Recorder[DesiredPhase],
    events: Recorder[Event],
) -> None:
    answer, name, text = UNREADABLE[case]
    provider = ScriptedProvider(answer)
    api.set_provider_and_wait(provider, "pend")

    watch(OpenFeatureFlag(), OFTEN)
    events.wait(lambda all_: len(all_) >= 1)

    assert named(events) == [name]
    assert text in events.all[0].message
    assert "nothing changes until it can be" in events.all[0].message
    assert "SECRET" not in events.all[0].message
    assert changes.all == []
    provider.change(says("parallel"))
    until(changes, "parallel")
    assert named(events) == [name, "flag-back"]


def test_without_a_provider_the_flag_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match=r"no provider is set .*set_provider\("):
        OpenFeatureFlag().read()


def test_a_provider_that_becomes_ready_late_is_followed_then(
    watch: Watch, changes: Recorder[DesiredPhase], events: Recorder[Event]
) -> None:
    ready = threading.Event()
    api.set_provider(ScriptedProvider(says("parallel"), ready=ready), "pend")
    watch(OpenFeatureFlag(timeout=0.05), SELDOM)
    events.wait(lambda all_: len(all_) >= 1)
    assert "the provider is in the state NOT_READY" in events.all[0].message

    ready.set()

    until(changes, "parallel")
    assert named(events) == ["flag-unreachable", "flag-back"]


def test_the_first_reading_waits_for_a_provider_that_is_being_initialised() -> None:
    ready = threading.Event()
    api.set_provider(ScriptedProvider(says("parallel"), ready=ready), "pend")
    threading.Timer(0.1, ready.set).start()

    assert OpenFeatureFlag(timeout=30).read().phase is PAR


def test_a_provider_that_failed_to_start_is_not_followed_though_it_answers() -> None:
    provider = ScriptedProvider(says("postgres-only"), fails_to_start=True)
    with pytest.raises(RuntimeError):
        api.set_provider_and_wait(provider, "pend")
    # The SDK itself gives the answer of this provider, without an error code.
    details = api.get_client("pend").get_string_details("pend.phase", "")
    assert (details.value, details.error_code) == ("postgres-only", None)

    with pytest.raises(StoreUnavailable, match="in the state ERROR"):
        OpenFeatureFlag().read()


def test_a_provider_that_fails_during_the_evaluation_is_not_followed() -> None:
    def fail() -> Any:
        provider.emit_provider_error(ProviderEventDetails(message="gone"))
        return says("postgres-only")

    provider = ScriptedProvider(fail)
    api.set_provider_and_wait(provider, "pend")

    with pytest.raises(StoreUnavailable, match="in the state ERROR"):
        OpenFeatureFlag().read()


def test_a_provider_that_is_replaced_during_the_evaluation_is_not_followed() -> None:
    def replace() -> Any:
        api.set_provider_and_wait(ScriptedProvider(says("json-only")), "pend")
        return says("postgres-only")

    api.set_provider_and_wait(ScriptedProvider(replace), "pend")

    with pytest.raises(StoreUnavailable, match="replaced during the evaluation"):
        OpenFeatureFlag().read()


def test_a_provider_that_is_stale_is_reported_at_once_and_not_followed(
    watch: Watch, changes: Recorder[DesiredPhase], events: Recorder[Event]
) -> None:
    provider = ScriptedProvider(says("parallel"))
    api.set_provider_and_wait(provider, "pend")
    watch(OpenFeatureFlag(), SELDOM)
    until(changes, "parallel")

    provider.answer = says("json-only")
    provider.emit_provider_stale(ProviderEventDetails())
    events.wait(lambda all_: len(all_) >= 1)
    assert named(events) == ["flag-unreachable"]
    assert len(changes.all) == 1

    provider.emit_provider_ready(ProviderEventDetails())
    until(changes, "parallel", "json-only")


def test_a_provider_that_hangs_costs_the_timeout_and_one_thread() -> None:
    go_on = threading.Event()

    def hang() -> Any:
        assert go_on.wait(PATIENCE)
        return says("postgres-only")

    provider = ScriptedProvider(hang)
    api.set_provider_and_wait(provider, "pend")
    flag = OpenFeatureFlag(timeout=0.05)
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="has not answered for"):
            flag.read()
    threads = [t.name for t in threading.enumerate()].count("pend-flag-openfeature")

    assert (provider.evaluations, threads) == (1, 1)
    provider.answer = says("parallel")
    go_on.set()
    late = flag._bounded._late
    assert late is not None
    assert late.wait(PATIENCE)
    # The late answer, of another time, does not count.
    assert flag.read().phase is PAR


def test_a_watcher_of_a_provider_that_hangs_can_be_closed(watch: Watch) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def hang() -> Any:
        begun.set()
        assert go_on.wait(PATIENCE)
        return says("parallel")

    api.set_provider_and_wait(ScriptedProvider(hang), "pend")
    watcher = watch(OpenFeatureFlag(timeout=0.05), OFTEN)
    assert begun.wait(PATIENCE)

    watcher.close()

    assert not watcher._thread.is_alive()
    go_on.set()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_call_of_its_parent() -> None:
    go_on = threading.Event()

    def hang() -> Any:
        assert go_on.wait(PATIENCE)
        return says("postgres-only")

    provider = ScriptedProvider(hang)
    api.set_provider_and_wait(provider, "pend")
    flag = OpenFeatureFlag(timeout=0.05)
    with pytest.raises(StoreUnavailable):
        flag.read()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            provider.answer = says("parallel")
            flag._timeout = 30.0
            code = int(flag.read().phase is not PAR)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    go_on.set()

    assert status == 0


def test_the_flag_cannot_be_written_and_the_message_names_the_ways() -> None:
    flag = OpenFeatureFlag()

    assert not flag.writable
    with pytest.raises(ConfigError, match=r"'pend\.phase'.*Set it to 'parallel' there"):
        flag.write(PAR, by="me")


def test_the_present_phase_is_not_taken_for_the_desired_one(
    pair: DualWriteStore,
) -> None:
    api.set_provider_and_wait(PendProvider(pair), "pend")

    with pytest.raises(ConfigError, match="publishes the present phase"):
        OpenFeatureFlag().read()


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_more_than_nothing(timeout: float) -> None:
    with pytest.raises(ConfigError, match="timeout must be more than 0"):
        OpenFeatureFlag(timeout=timeout)


# -- the configuration --------------------------------------------------------------------


def settings_of(directory: Path, lines: str) -> Any:
    file = directory / "pend.toml"
    file.write_text(f"[environments.x]\n{lines}\n", encoding="utf-8")
    return load_settings(file, "x", environ={})


def test_a_configured_provider_decides_before_redis_and_the_file(
    tmp_path: Path,
) -> None:
    provider = ScriptedProvider(says("parallel"))
    api.set_provider_and_wait(provider, "flags")
    settings = settings_of(
        tmp_path,
        'phase = "postgres-only"\nopenfeature = { flag_key = "my.key", domain = "flags" }\n'
        'redis.url = "redis://127.0.0.1:1/0"',
    )

    with ExitStack() as stack:
        source = flag_source(settings, environ={})
        stack.callback(source.close)
        found = source.read()
        assert found is not None
        assert (found.phase, found.is_remote) == (PAR, True)
        assert "'my.key' of the domain 'flags'" in found.place
        provider.answer = GeneralError("down")
        with pytest.raises(StoreUnavailable):
            source.read()
        pinned = flag_source(settings, environ={"PEND_PHASE": "json-only"}).read()
    assert pinned is not None
    assert pinned.phase is J


def test_an_empty_table_is_the_usual_flag(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "[environments.x.openfeature]")

    found = settings.openfeature

    assert (found.flag_key, found.domain, found.timeout) == ("pend.phase", "pend", 1.0)
    assert settings_of(tmp_path, "").openfeature is None


def test_a_wrong_member_of_the_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"openfeature.*did you mean 'domain'"):
        settings_of(tmp_path, 'openfeature.domains = "x"')
    with pytest.raises(ConfigError, match=r"openfeature\.timeout"):
        settings_of(tmp_path, "openfeature.timeout = 0")


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, "[environments.x.openfeature]")
    monkeypatch.setitem(__import__("sys").modules, "openfeature", None)
    monkeypatch.delitem(
        __import__("sys").modules, "pend_storage.flags.openfeature", raising=False
    )

    with pytest.raises(ConfigError, match=r"pip install 'pend_storage\[openfeature\]'"):
        flag_source(settings, environ={})
