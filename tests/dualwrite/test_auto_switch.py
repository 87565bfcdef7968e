"""A running pair that follows the phase flag by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typing_extensions import override

from pend_storage.dualwrite import CODES
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event
from pend_storage.flags import AutoSwitch, DesiredPhase, FlagSource
from pend_storage.phases import Phase

from .processes import Process, wait_until

J, PAR, PG, P = Phase


class Deaf(FlagSource):
    """A flag whose broadcasts never arrive."""

    place, writable = "a flag", True

    def __init__(self) -> None:
        self.phase = J
        self.trouble: Exception | None = None

    @override
    def read(self) -> DesiredPhase:
        if self.trouble is not None:
            raise self.trouble
        return DesiredPhase(self.phase, self.place)

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        self.phase = phase
        return self.read()


def following(
    process: Process, flag: Deaf, hook: Callable[[Event], None]
) -> AutoSwitch:
    return AutoSwitch(process.store, flag, hook, accept=CODES, interval=0.02)


def test_a_broadcast_of_the_flag_that_is_lost_is_made_up_for(one: Process) -> None:
    flag = Deaf()
    auto = following(one, flag, lambda _: None)

    for phase in (PAR, PG, P, J):
        flag.write(phase, by="ann")
        wait_until(lambda wanted=phase: one.store.phase is wanted)  # type: ignore[misc]
    auto.close()


@pytest.mark.parametrize(
    ("trouble", "event"),
    [
        (StoreUnavailable("it is down", store="the flag"), "flag-unreachable"),
        (ConfigError("'sideways' is no phase."), "flag-unknown"),
    ],
)
def test_a_flag_that_is_down_or_makes_no_sense_changes_nothing(
    one: Process, trouble: Exception, event: str
) -> None:
    flag, events = Deaf(), []
    auto = following(one, flag, lambda told: events.append(told.name))
    flag.write(PAR, by="ann")
    wait_until(lambda: one.store.phase is PAR)

    flag.trouble = trouble
    flag.phase = J
    wait_until(lambda: event in events)
    one.put("a", "1")

    assert one.store.phase is PAR
    flag.trouble = None
    wait_until(lambda: one.store.phase is J)
    assert one.get("a") == "1"
    auto.close()
