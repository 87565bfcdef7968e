"""A hundred switches under busy clients: what fails, what is lost, how long writes wait."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.measure import spread_of
from benchmarks.record import SCHEMA, Account, accounts
from benchmarks.results import Figure
from benchmarks.schedules.clients import THREADS, Client, Place, be_busy
from benchmarks.workbench import Workbench
from pend_storage import crashpoints
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Child

__all__ = ["run"]

_PROCESSES: Final = 4
_SWITCHES: Final = 100
_QUICK_SWITCHES: Final = 6
_BETWEEN: Final = 0.2
"""Seconds from one switch to the next."""
_PAUSE_AIM: Final = 100.0
_OPENED: Final = "switch.opened"
_STEPS: Final = {
    ("", "switch.fenced"): "fence the old primary, behind the commits under way",
    ("switch.fenced", "switch.drained"): "apply what is left of its log",
    ("switch.drained", "switch.sealed"): "seal the shared values",
    ("switch.sealed", "switch.ready"): "bring them to the new primary",
    ("switch.ready", _OPENED): "open the new primary",
}
"""Between which points of a switch what happens."""


def run(bench: Workbench, tell: Callable[[str], None]) -> Sequence[Figure]:
    """Start the clients, switch, let them end, and count."""
    switches = _QUICK_SWITCHES if bench.plan.quick else _SWITCHES
    with ExitStack() as stack:
        url = stack.enter_context(bench.database())
        root = bench.directory("switching")
        place = Place(root / "data", url, root / "end")
        with PostgresStore(SCHEMA, url) as postgres:
            postgres.migrate()
        store = stack.enter_context(place.open())
        store.switch(Phase.PARALLEL, accept=CODES)
        store.collection(Account).put_many(accounts(_PROCESSES * THREADS))
        children = [
            stack.enter_context(Child(be_busy, place, number))
            for number in range(_PROCESSES)
        ]
        for child in children:
            child.wait_for_reports(1)
        time.sleep(1.0)
        made = _switch(store, switches, tell)
        place.end.touch()
        clients = _told(children)
        lost = _lost(store, clients)
    return [*_figures(clients, made, lost), *_steps(made)]


@dataclass(slots=True)
class _Switch:
    """One that was made."""

    began: float
    ended: float = 0.0
    pause: float = 0.0
    passed: dict[str, float] = field(default_factory=dict)
    """When it passed each of its points."""


def _switch(
    store: DualWriteStore, switches: int, tell: Callable[[str], None]
) -> list[_Switch]:
    """There and back, again and again."""
    made = []
    for number in range(switches):
        phase = Phase.PARALLEL if number % 2 else Phase.POSTGRES_PRIMARY
        switch = _Switch(time.monotonic())

        def note(point: str, switch: _Switch = switch) -> None:
            switch.passed[point] = time.monotonic()

        with crashpoints.handled(note):
            switch.pause = store.switch(phase, accept=CODES).pause
        switch.ended = time.monotonic()
        made.append(switch)
        if number % 20 == 19:
            tell(f"{number + 1} switches")
        time.sleep(_BETWEEN)
    return made


def _told(children: Sequence[Child[Any]]) -> list[Client]:
    found: list[Client] = []
    for child in children:
        found += child.finish().reports[-1]
    return found


def _lost(store: DualWriteStore, clients: Sequence[Client]) -> int:
    """Acknowledged writes that are not there, by read or in the end."""
    collection = store.collection(Account)
    last = collection.get_many([client.key for client in clients])
    return sum(
        client.stale + (last[client.key].metadata["rev"] != client.written)
        for client in clients
    )


def _figures(
    clients: Sequence[Client],
    made: Sequence[_Switch],
    lost: int,
) -> Sequence[Figure]:
    calls = sum(client.written + client.reads for client in clients)
    pauses = [switch.pause for switch in made]
    pause, p99 = spread_of([1e3 * each for each in pauses]), _p99(pauses)
    waits = [_longest_wait(clients, switch.began, switch.ended) for switch in made]
    wait = spread_of([1e3 * each for each in waits])
    note = f"of {calls:,} calls through {len(pauses)} switches"
    return (
        Figure(
            what="failed calls",
            value=float(sum(c.failed for c in clients)),
            aim=0.0,
            note=note,
        ),
        Figure(what="lost writes", value=float(lost), aim=0.0),
        Figure(
            what="write pause, median",
            value=pause.median,
            q1=pause.q1,
            q3=pause.q3,
            unit="ms",
        ),
        Figure(
            what="write pause, 99th percentile",
            value=1e3 * p99,
            unit="ms",
            aim=_PAUSE_AIM,
            note="fence to open, as the switch reports it",
        ),
        Figure(
            what="longest write of any client, median",
            value=wait.median,
            q1=wait.q1,
            q3=wait.q3,
            unit="ms",
            note="of those under way at a switch; the rest of it is waiting for processors and disk",
        ),
    )


def _steps(made: Sequence[_Switch]) -> Sequence[Figure]:
    """Parts of the write pause."""
    figures = []
    for (before, after), what in _STEPS.items():
        seconds = [
            switch.passed[after] - switch.passed[before]
            if before
            else switch.pause - (switch.passed[_OPENED] - switch.passed[after])
            for switch in made
        ]
        spread = spread_of([1e3 * each for each in seconds])
        figures.append(
            Figure(
                what=f"of the pause: {what}",
                value=spread.median,
                q1=spread.q1,
                q3=spread.q3,
                unit="ms",
            )
        )
    return figures


def _p99(values: Sequence[float]) -> float:
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _longest_wait(clients: Sequence[Client], begin: float, end: float) -> float:
    return max(
        (
            seconds
            for client in clients
            for began, seconds in client.waits
            if began < end and begin < began + seconds
        ),
        default=0.0,
    )
