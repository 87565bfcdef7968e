"""A process that is stopped at a certain instant, and wakes in another time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import override

from pend_storage import crashpoints
from pend_storage.store import Store
from pend_storage.testing import Report
from pend_storage.testing.domain import Tally
from pend_storage.testing.faults import InterceptingStore, Verb

from .company import wait_until
from .places import Place

__all__ = ["BETWEEN", "MINE", "NAME", "read_late", "write_late"]

T = TypeVar("T")
NAME = "t"
MINE = 1
"""What the sleeper writes."""
BETWEEN = "between two calls"
"""It sleeps before its call begins; anything else is a verb, or a crash point."""


class _Sleepy(InterceptingStore):
    """Stops the whole process just before a call reaches the store, once."""

    verb: Verb | None = None
    report: Callable[[Any], None]

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        if verb == self.verb:
            self.verb = None
            _stop(self.report)
        return call()


def _stop(report: Callable[[Any], None]) -> None:
    report("asleep")
    os.kill(os.getpid(), signal.SIGSTOP)


def read_late(report: Report, place: Place, side: str, when: str) -> None:
    """Read, and sleep before the primary is asked, or after a fenced one has answered."""
    _sleep_in(report, place, side, when, lambda tallies: tallies.get(NAME).value)


def write_late(report: Report, place: Place, side: str, when: str) -> None:
    """Write, and sleep before the primary gets the commit."""
    record = Tally(name=NAME, value=MINE)
    _sleep_in(report, place, side, when, lambda tallies: tallies.put(record))


def _sleep_in(
    report: Report, place: Place, side: str, when: str, call: Callable[[Any], object]
) -> None:
    sleepy: dict[str, _Sleepy] = {}

    def wrap(name: str, store: Store) -> Store:
        sleepy[name] = _Sleepy(store)
        sleepy[name].report = report
        return sleepy[name]

    def pass_by(name: str) -> None:
        if name == when:
            _stop(report)

    # No relay, no compared reads: nothing but the call itself touches the stores.
    with place.open(wrap=wrap, relay_interval=None, compare=0.0) as store:
        tallies = store.collection(Tally)
        tallies.get(NAME)  # it knows the primary now
        with crashpoints.handled(pass_by):
            if when == BETWEEN:
                _stop(report)
            elif when in {"read", "commit"}:
                sleepy[side].verb = "read" if when == "read" else "commit"
            elif when == "read.fenced":
                report("ready")
                wait_until(lambda: store.roles().fenced is not None, "it is fenced")
            report(("got", call(tallies)))
