"""The pace and the bounds of automatic switches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import ConfigError, SwitchRefused
from pend_storage.events import Event
from pend_storage.flags import AutoSwitch, FixedFlag, FlagSource, RedisFlag, held_switch
from pend_storage.flags._pace import PACE_META, SwitchPace
from pend_storage.phases import Phase

from .recorder import PATIENCE, Recorder, ScriptedFlag, named
from .test_auto_switch import until
from .test_memory import Servers, Values

J, PAR, PG, P = Phase
KEY = "pend:production:phase"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def servers(redis_url: str) -> Iterator[Servers]:
    made = Servers(redis_url)
    yield made
    made.close()


@pytest.fixture
def follow() -> Iterator[Callable[..., Recorder[Event]]]:
    """Let a pair follow a flag, until the end of the test; gives its events."""
    with ExitStack() as stack:

        def begin(
            store: DualWriteStore, source: FlagSource, **more: Any
        ) -> Recorder[Event]:
            events: Recorder[Event] = Recorder()
            settings = {"accept": CODES, "interval": 0.02, **more}
            auto = AutoSwitch(store, source, events, **settings)
            stack.callback(auto.close)
            return events

        yield begin


def seen(events: Recorder[Event], name: str) -> None:
    events.wait(lambda all_: name in [event.name for event in all_])


# -- the pace -----------------------------------------------------------------------------


def test_one_switch_at_a_time_and_the_next_after_the_pause() -> None:
    values, clock = Values(), Clock()
    one, two = (SwitchPace(values, 60.0, clock) for _ in range(2))

    assert one.claim(PAR) is None
    assert two.claim(PAR) is None  # the same switch: any process may finish it
    assert two.claim(PG) == 60.0
    clock.now += 10
    one.complete(PAR)
    assert two.claim(PAR) == 60.0  # it was made: this would be another one
    clock.now += 59
    assert two.claim(PG) == 1.0
    clock.now += 1
    assert two.claim(PG) is None
    assert one.claim(J) == 60.0


def test_a_claim_that_came_to_nothing_is_released_by_its_owner_only() -> None:
    values, clock = Values(), Clock()
    one, two = (SwitchPace(values, 60.0, clock) for _ in range(2))
    assert one.claim(P) is None

    two.release()
    assert two.claim(J) == 60.0
    one.release()
    assert two.claim(J) is None
    two.complete(J)
    two.release()
    assert one.claim(PAR) == 60.0


def test_a_claim_of_a_process_that_died_ends() -> None:
    values, clock = Values(), Clock()
    assert SwitchPace(values, 60.0, clock).claim(P) is None
    clock.now += 60

    assert SwitchPace(values, 60.0, clock).claim(J) is None


@pytest.mark.parametrize(("ahead", "pause"), [(30.0, 60.0), (10_000.0, None)])
def test_a_clock_that_is_ahead_does_not_stop_the_others(
    ahead: float, pause: float | None
) -> None:
    values, clock, other = Values(), Clock(), Clock()
    other.now += ahead
    assert SwitchPace(values, 60.0, other).claim(PAR) is None

    assert SwitchPace(values, 60.0, clock).claim(PG) == pause


def test_two_processes_cannot_claim_two_switches_at_once() -> None:
    values, clock = Values(), Clock()
    one, two = (SwitchPace(values, 60.0, clock) for _ in range(2))
    answers: list[float | None] = []
    values.before_setting = lambda: answers.append(two.claim(J))

    answers.append(one.claim(PG))

    assert answers == [None, 60.0]


def test_without_a_pause_nothing_is_recorded() -> None:
    values = Values()
    pace = SwitchPace(values, 0)

    assert [pace.claim(phase) for phase in Phase] == [None] * 4
    pace.complete(P)
    pace.hold(P)
    pace.release()
    assert values.values == {}


# -- a flag that is set back and forth --------------------------------------------------------


def test_a_flag_set_to_and_fro_moves_the_pair_once_and_is_reported_once(
    servers: Servers, follow: Callable[..., Recorder[Event]]
) -> None:
    store = servers.store
    store.switch(PAR, accept=CODES, by="ann")
    flag = RedisFlag(servers.url, KEY, signing_key="")
    all_events = [follow(servers.pair(), servers.flag()) for _ in range(3)]

    with redis.Redis.from_url(servers.url) as stranger:
        for n in range(1, 400):
            word = (J, PAR)[n % 2].value
            stranger.set(KEY, f'{{"phase": "{word}", "version": {n}}}')
            stranger.publish(flag.channel, "x" * 100)
            if n == 100:
                deadline = time.monotonic() + PATIENCE
                while len(store.history()) < 2:
                    stranger.set(KEY, f'{{"phase": "json-only", "version": {n}}}')
                    assert time.monotonic() < deadline
    seen(all_events[0], "auto-switch-held")
    flag.close()

    automatic = [s for s in store.history() if s.is_automatic]
    assert len(automatic) == 1
    assert store.history()[0].by == "ann"
    for events in all_events:
        assert named(events).count("auto-switch-held") <= 1
    assert held_switch(store) is not None


def test_an_operator_never_waits(
    servers: Servers, follow: Callable[..., Recorder[Event]]
) -> None:
    flag = servers.flag()
    flag.write(PAR, by="ann")
    follow(servers.store, flag)
    until(servers.store, PAR)

    for phase in (J, PAR, PG, P, PG, J):
        servers.store.switch(phase, accept=CODES, by="ann")

    assert servers.store.phase is J
    assert sum(s.by == "ann" for s in servers.store.history()) == 7


def test_the_flag_counts_as_it_is_after_the_pause(
    servers: Servers, follow: Callable[..., Recorder[Event]]
) -> None:
    flag = servers.flag()
    flag.write(PAR, by="ann")
    events = follow(servers.store, flag, least_pause=4.0)
    until(servers.store, PAR)

    flag.write(J, by="ann")
    seen(events, "auto-switch-held")
    flag.write(PG, by="ann")

    until(servers.store, PG)
    recorded = time.monotonic() + PATIENCE  # the switch is recorded after its last step
    while [s.after for s in servers.store.history()] != [PAR, PG]:
        assert time.monotonic() < recorded
        time.sleep(0.02)
    held = next(e for e in events.all if e.name == "auto-switch-held")
    assert "not followed: 1" in held.message


def test_a_word_that_waits_is_remembered_all_the_same(
    servers: Servers, follow: Callable[..., Recorder[Event]]
) -> None:
    with redis.Redis.from_url(servers.url) as hand:
        flag = servers.flag()
        flag.write(PAR, by="ann")
        old = hand.get(KEY)
        events = follow(servers.store, flag)
        until(servers.store, PAR)
        flag.write(PG, by="ann")
        seen(events, "auto-switch-held")
        servers.store.switch(PG, accept=CODES, by="ann")

        assert old is not None
        hand.set(KEY, old)
        restarted = servers.start()

        restarted.refuses("version 2 ('postgres-primary') was followed last")
        assert restarted.store.phase is PG


def test_a_switch_that_was_refused_does_not_hold_the_next(
    servers: Servers, follow: Callable[..., Recorder[Event]]
) -> None:
    flag = servers.flag()
    servers.store.switch(PAR, accept=CODES)
    flag.write(PG, by="ann")
    events = follow(servers.store, flag, accept=())
    seen(events, "auto-switch-refused")

    flag.write(J, by="ann")

    until(servers.store, J)
    assert "auto-switch-held" not in named(events)


def test_a_flag_in_the_code_has_no_pace_unless_it_is_set(
    servers: Servers, follow: Callable[..., Recorder[Event]]
) -> None:
    flag = FixedFlag(J)
    follow(servers.store, flag)
    for phase in (PAR, J, PAR):
        flag.write(phase, by="me")
        until(servers.store, phase)
    assert servers.store.meta(PACE_META) is None

    paced = FixedFlag(PAR)
    events = follow(servers.pair(), paced, least_pause=3600)
    paced.write(J, by="me")
    until(servers.store, J)
    paced.write(PAR, by="me")
    seen(events, "auto-switch-held")


# -- the allowed phases -------------------------------------------------------------------


def test_phases_that_are_not_allowed_are_left_to_a_person(
    servers: Servers, follow: Callable[..., Recorder[Event]]
) -> None:
    flag = ScriptedFlag()
    flag.write(P, by="me")
    events = follow(servers.store, flag, allowed=["parallel", PG], first_pause=0.001)
    seen(events, "auto-switch-refused")
    assert servers.store.phase is J

    flag.write(PG, by="me")
    until(servers.store, PG)
    flag.write(J, by="me")  # through parallel, which is allowed, to one that is not
    events.wait(lambda all_: [e.name for e in all_].count("auto-switch-refused") == 2)

    assert servers.store.phase is PG
    assert "may not go to postgres-only" in events.all[0].message
    assert "may not go to json-only" in events.all[-1].message


def test_a_phase_on_the_way_must_be_allowed_too(
    servers: Servers, follow: Callable[..., Recorder[Event]]
) -> None:
    events = follow(servers.store, FixedFlag(PG), allowed=[PG])

    seen(events, "auto-switch-refused")

    assert "may not go to parallel" in events.all[0].message


def test_settings_that_make_no_sense_are_refused(servers: Servers) -> None:
    for settings in ({"allowed": ["sideways"]}, {"least_pause": -1}):
        with pytest.raises(ConfigError):
            AutoSwitch(servers.store, FixedFlag(J), **settings)


def test_a_switch_that_fails_after_all_keeps_its_claim(servers: Servers) -> None:
    values, clock = Values(), Clock()
    pace = SwitchPace(values, 60.0, clock)
    assert pace.claim(PG) is None
    assert pace.claim(PG) is None

    with pytest.raises(SwitchRefused):
        servers.store.switch(PG)
    assert pace.claim(J) == 60.0
