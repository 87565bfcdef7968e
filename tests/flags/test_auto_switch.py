"""A store that follows the flag: what it tries, what it reports, when it tries again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Self, TypeVar

import pytest
from typing_extensions import override

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import (
    PendStorageError,
    StoreUnavailable,
    SwitchRefused,
    SwitchTimeout,
)
from pend_storage.events import Event
from pend_storage.flags import AutoSwitch, FixedFlag, FlagSource, RedisFlag, Switchable
from pend_storage.phases import Phase
from pend_storage.records import JSON
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import InterceptingStore, Verb
from pend_storage.validation import validate

from .recorder import PATIENCE, Recorder, ScriptedFlag, named, named_last

J, PAR, PG, P = Phase
REFUSED = SwitchRefused((("backfill", "it is not complete"),))

T = TypeVar("T")
Follow = Callable[..., AutoSwitch]


class StubStore:
    """Switches to the desired phase, unless a test sets a failure."""

    def __init__(self, *troubles: PendStorageError | Phase) -> None:
        self.phase = J
        self.calls: Recorder[dict[str, Any]] = Recorder()
        self._troubles = iter(troubles)

    def switch(
        self,
        phase: Phase,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,
        by: str | None = None,
    ) -> object:
        trouble = next(self._troubles, None)
        if isinstance(trouble, Phase):
            self.phase = trouble  # another process was quicker
            trouble = SwitchTimeout("another process is switching")
        if trouble is None:
            self.phase = phase
        self.calls({"phase": phase, "accept": accept, "timeout": timeout, "by": by})
        if trouble is not None:
            raise trouble
        return None

    def meta(self, name: str) -> JSON:
        raise AssertionError(f"nothing is remembered of this flag, in {name}")

    def compare_and_set_meta(self, name: str, expected: JSON, value: JSON) -> bool:
        raise AssertionError(f"nothing is remembered: {name}, {expected}, {value}")


@pytest.fixture
def follow(events: Recorder[Event]) -> Iterator[Follow]:
    """Let stores follow a flag until the end of the test."""
    with ExitStack() as stack:

        def begin(store: Switchable, source: FlagSource, **settings: Any) -> AutoSwitch:
            pauses = {"first_pause": 0.001, "longest_pause": 0.01, "interval": 0.05}
            auto = AutoSwitch(store, source, events, **{**pauses, **settings})
            stack.callback(auto.close)
            return auto

        yield begin


def test_the_store_is_moved_to_where_the_flag_wants_it(
    follow: Follow, events: Recorder[Event]
) -> None:
    store, flag = StubStore(), FixedFlag(PAR)
    follow(store, flag, accept=["quarantine"], timeout=7.0)
    store.calls.wait(lambda calls: len(calls) >= 1)

    flag.write(PG, by="me")
    store.calls.wait(lambda calls: len(calls) >= 2)
    events.wait(lambda all_: len(all_) >= 2)

    first, second = store.calls.all
    assert (first["phase"], second["phase"]) == (PAR, PG)
    assert (second["accept"], second["timeout"]) == (("quarantine",), 7.0)
    assert second["by"].startswith("auto_switch of process ")
    assert second["by"].endswith("for the code, version 1")
    assert named(events) == ["auto-switched"] * 2
    assert (
        events.all[1].message
        == "moved from 'parallel' to 'postgres-primary', as the code wants"
    )


def test_a_store_that_is_there_already_is_left_alone(
    follow: Follow, events: Recorder[Event]
) -> None:
    store, flag = StubStore(), FixedFlag(J)

    follow(store, flag).close()

    assert store.calls.all == []
    assert events.all == []


def test_what_an_operator_chooses_stays_until_the_flag_changes(follow: Follow) -> None:
    store, flag = StubStore(), ScriptedFlag()
    flag.write(PAR, by="me")
    follow(store, flag, interval=0.001)
    store.calls.wait(lambda calls: len(calls) >= 1)

    store.phase = J
    enough = flag.reads + 5
    deadline = time.monotonic() + PATIENCE
    while flag.reads < enough:
        assert time.monotonic() < deadline
        time.sleep(0.001)

    assert len(store.calls.all) == 1
    assert store.phase is J


@pytest.mark.parametrize(
    ("trouble", "name"),
    [
        (REFUSED, "auto-switch-refused"),
        (SwitchTimeout("not in time"), "auto-switch-failed"),
        (StoreUnavailable("down", store="PostgreSQL"), "auto-switch-failed"),
    ],
)
def test_what_stands_in_the_way_is_reported_once_and_tried_again(
    follow: Follow, events: Recorder[Event], trouble: PendStorageError, name: str
) -> None:
    store = StubStore(*[trouble] * 4)

    follow(store, FixedFlag(PAR))
    store.calls.wait(lambda calls: len(calls) >= 5)
    events.wait(lambda all_: len(all_) >= 2)

    assert store.phase is PAR
    assert named(events) == [name, "auto-switched"]
    assert str(trouble) in events.all[0].message
    assert "the code wants 'parallel', which is tried again" in events.all[0].message


def test_another_obstacle_is_another_report(
    follow: Follow, events: Recorder[Event]
) -> None:
    other = SwitchRefused((("lag", "1,000 commits behind"),))
    same = SwitchRefused((("lag", "900 commits behind"),))
    store = StubStore(REFUSED, other, same, SwitchTimeout("1 s"), SwitchTimeout("2 s"))

    follow(store, FixedFlag(PAR))
    events.wait(lambda all_: len(all_) >= 4)

    assert named(events) == [
        "auto-switch-refused",
        "auto-switch-refused",
        "auto-switch-failed",
        "auto-switched",
    ]


def test_another_process_may_be_quicker(
    follow: Follow, events: Recorder[Event]
) -> None:
    store = StubStore(PAR)

    auto = follow(store, FixedFlag(PAR))
    store.calls.wait(lambda calls: len(calls) >= 1)
    auto.close()

    assert events.all == []
    assert len(store.calls.all) == 1


def test_a_flag_that_changes_its_mind_is_not_tried_any_more(follow: Follow) -> None:
    store, flag = StubStore(*[REFUSED] * 3), FixedFlag(P)
    follow(store, flag)
    store.calls.wait(lambda calls: len(calls) >= 2)

    flag.write(J, by="me")
    flag.write(PAR, by="me")
    store.calls.wait(lambda calls: calls[-1]["phase"] is PAR and len(calls) >= 4)

    assert store.phase is PAR


def test_the_pauses_grow_up_to_the_longest() -> None:
    store = StubStore(*[REFUSED] * 9)
    auto = AutoSwitch(store, ScriptedFlag(), lambda _: None, first_pause=1.0)
    wanted = FixedFlag(PAR).read()

    pauses = [auto._follow(wanted) for _ in range(9)]
    auto.close()

    for pause, most in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert pause is not None
        assert most / 2 <= pause <= most


def test_a_store_that_cannot_say_its_phase_is_asked_again(
    follow: Follow, events: Recorder[Event]
) -> None:
    class Unsure(StubStore):
        asked = 0

        @override
        def __getattribute__(self, name: str) -> Any:
            if name == "phase":
                self.asked += 1
                if self.asked in range(2, 6):
                    raise StoreUnavailable("down", store="PostgreSQL")
            return super().__getattribute__(name)

    store = Unsure()
    assert store.phase is J
    follow(store, FixedFlag(PAR))
    events.wait(lambda all_: named_last(all_) == "auto-switched")

    assert store.phase is PAR
    assert named(events)[0] == "auto-switch-failed"


def test_closing_waits_for_the_switch_under_way() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(StubStore):
        @override
        def switch(self, phase: Phase, **settings: Any) -> object:
            begun.set()
            assert go_on.wait(PATIENCE)
            return super().switch(phase, **settings)

    store = Slow()
    auto = AutoSwitch(store, FixedFlag(PAR), lambda _: None)
    assert begun.wait(PATIENCE)
    threading.Timer(0.05, go_on.set).start()

    auto.close()

    assert store.phase is PAR


# -- a real pair of stores ----------------------------------------------------------------


class Shared(InterceptingStore):
    """A process's connection to a store that others use: closing it closes nothing."""

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        return call()

    @override
    def close(self) -> None:
        """The store goes on."""


@pytest.fixture
def pair() -> Iterator[Callable[..., DualWriteStore]]:
    """Gives several processes' dual-write stores, on one pair of stores."""
    json, postgres = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    with ExitStack() as stack:

        def make(**settings: Any) -> DualWriteStore:
            store = DualWriteStore(
                json=Shared(json),
                postgres=Shared(postgres),
                compare=0.0,
                backfill=backfill,
                validate=validate,
                hook=lambda _: None,
                **settings,
            )
            stack.callback(store.close)
            return store

        yield make


def until(store: DualWriteStore, phase: Phase) -> None:
    deadline = time.monotonic() + PATIENCE
    while store.phase is not phase:
        assert time.monotonic() < deadline, f"it stays {store.phase}"
        time.sleep(0.005)


def test_a_pair_follows_the_flag_there_and_back(
    follow: Follow, pair: Callable[..., DualWriteStore]
) -> None:
    store, flag = pair(), FixedFlag(J)
    store.collection(Log).put(a_log("a", "1"))
    follow(store, flag, accept=CODES)

    for phase in (PAR, PG, P, PG, J, P, J):
        flag.write(phase, by="me")
        until(store, phase)
        log = store.collection(Log).get("a")
        assert log is not None
        store.collection(Log).put(a_log("a", str(int(log.text) + 1)))

    last = store.collection(Log).get("a")
    assert last is not None
    assert last.text == "8"
    assert store.history()[-1].by.startswith("auto_switch of process")


def test_a_pair_that_is_not_ready_stays_and_goes_when_it_is(
    follow: Follow, pair: Callable[..., DualWriteStore], events: Recorder[Event]
) -> None:
    store, flag = pair(), FixedFlag(PAR)
    store.collection(Log).put(a_log("a", "1"))
    follow(store, flag, accept=["backup"])
    until(store, PAR)

    flag.write(PG, by="me")
    events.wait(lambda all_: "auto-switch-refused" in [event.name for event in all_])
    assert store.phase is PAR
    store.backfill()
    store.validate()
    until(store, PG)

    events.wait(lambda all_: named_last(all_) == "auto-switched")


class Writers:
    """One for each store; each notes what was acknowledged."""

    def __init__(self, stores: Sequence[DualWriteStore]) -> None:
        self.written: dict[str, str] = {}
        self.errors: list[BaseException] = []
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(store, f"k{at}"))
            for at, store in enumerate(stores)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _write(self, store: DualWriteStore, key: str) -> None:
        number = 0
        try:
            while not self._is_over.is_set():
                number += 1
                store.collection(Log).put(a_log(key, str(number)))
                self.written[key] = str(number)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.errors.append(error)


def test_several_processes_follow_at_once_and_nothing_is_lost(
    follow: Follow,
    pair: Callable[..., DualWriteStore],
    redis_url: str,
    events: Recorder[Event],
) -> None:
    stores = [pair() for _ in range(4)]
    flags = [RedisFlag(redis_url, "pend:x:phase") for _ in stores]
    flags[0].write(J, by="me")
    for store, flag in zip(stores, flags, strict=True):
        follow(store, flag, accept=CODES, least_pause=0)

    with Writers(stores) as writers:
        for phase in (PAR, PG, P, PG, PAR, J, P):
            flags[1].write(phase, by="me")
            for store in stores:
                until(store, phase)
    for flag in flags:
        flag.close()

    assert writers.errors == []
    assert len(writers.written) == len(stores)
    for store in stores:
        logs = store.collection(Log).get_many([*writers.written])
        assert {key: log.text for key, log in logs.items()} == writers.written
    assert "flag-listener-failed" not in named(events)
