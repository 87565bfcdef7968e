"""A process dies between any two steps; another one goes on, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from pend_storage import crashpoints
from pend_storage.dualwrite import CODES
from pend_storage.phases import Phase, Role
from pend_storage.testing.domain import Log, a_log

from .processes import Place, Process, Task, living

J, PAR, PG, P = Phase
Step = tuple[Phase, str]


def to(phase: Phase) -> Callable[[Process], object]:
    return lambda process: process.store.switch(phase, accept=CODES)


def delete(process: Process) -> object:
    return process.store.collection(Log).delete("old")


def copy(process: Process) -> object:
    return process.store.backfill()


def catch_up(process: Process) -> object:
    return process.store.catch_up()


def recover_a_dead_switch(process: Process) -> object:
    task = Task(lambda: to(PG)(process)).start("switch.drained", dies=True)
    assert task.has_died
    return process.store.recover()


WORKS: Final[dict[str, tuple[Phase, Callable[[Process], object]]]] = {
    "a write, json-only": (J, lambda process: process.put("new", "1")),
    "a write, parallel": (PAR, lambda process: process.put("new", "1")),
    "a write, postgres-primary": (PG, lambda process: process.put("new", "1")),
    "a write, postgres-only": (P, lambda process: process.put("new", "1")),
    "a delete, parallel": (PAR, delete),
    "a delete, postgres-primary": (PG, delete),
    "json-only to parallel": (J, to(PAR)),
    "parallel to postgres-primary": (PAR, to(PG)),
    "postgres-primary to postgres-only": (PG, to(P)),
    "postgres-only to postgres-primary": (P, to(PG)),
    "postgres-primary to parallel": (PG, to(PAR)),
    "parallel to json-only": (PAR, to(J)),
    "from one end to the other": (J, to(P)),
    "and back": (P, to(J)),
    "a backfill": (PAR, copy),
    "the relay, parallel": (PAR, catch_up),
    "the relay, postgres-primary": (PG, catch_up),
    "a recovery": (PAR, recover_a_dead_switch),
}


def prepared(phase: Phase) -> tuple[Place, Process]:
    """A pair in a phase, with a record that one store has, and one it has not yet."""
    place = Place()
    process = Process(place)
    to(phase)(process)
    process.put("old", "0")
    for side in ("json", "postgres"):  # whichever is the secondary misses something
        if place.of(side).role().role is Role.SECONDARY:
            process.line(side).is_cut = True
            process.put("missed", "0")
            process.line(side).is_cut = False
    return place, process


def instants() -> Iterator[tuple[str, str, int]]:
    """Every work, every point that it passes, and how often it did before."""
    for name, (phase, work) in WORKS.items():
        _, process = prepared(phase)
        passed: list[str] = []
        with crashpoints.handled(passed.append):
            work(process)
        process.store.close()
        seen: dict[str, int] = {}
        for point in passed:
            times = seen[point] = seen.get(point, 0) + 1
            if times <= 4:
                yield name, point, times - 1


INSTANTS: Final = list(instants())


@pytest.mark.parametrize(("name", "point", "skip"), INSTANTS)
def test_another_process_goes_on_and_nothing_is_lost(
    name: str, point: str, skip: int
) -> None:
    phase, work = WORKS[name]
    place, process = prepared(phase)
    known = living(place.live())

    task = Task(lambda: work(process)).start(point, dies=True, skip=skip)

    assert task.has_died
    other = Process(place, switch_patience=20.0)
    other.store._router._pulse._dead_after = 0.0
    assert other.get("missed") == (known.get(("logs", "missed")) and "0")
    other.put("later", "2")
    assert len(place.primaries()) == 1
    expected = {**known, ("logs", "later"): a_log("later", "2")}
    answer = living(place.live())
    in_doubt = {("logs", "new"), ("logs", "old")}
    assert {k: v for k, v in answer.items() if k not in in_doubt} == {
        k: v for k, v in expected.items() if k not in in_doubt
    }
    for wanted in (PAR, PG, PAR):
        to(wanted)(other)
        other.store.backfill()
        other.store.catch_up()
        assert living(place.json) == living(place.postgres) == answer
    other.store.close()
    process.store.close()


def test_every_instant_of_the_protocol_is_among_them() -> None:
    passed = {point for _, point, _ in INSTANTS}
    prefixes = ("write.", "switch.", "attach.", "detach.", "relay.", "recover.")

    declared = {name for name in crashpoints.points() if name.startswith(prefixes)}

    assert declared <= passed
    assert {"role.changed", "backfill.chunk", "backfill.complete"} <= passed


@pytest.mark.parametrize("written", [False, True])
def test_the_first_roles_of_a_pair_survive_a_death(*, written: bool) -> None:
    place = Place()
    if written:
        place.json.collection(Log).put(a_log("a", "1"))

    task = Task(lambda: Process(place)).start("role.begun", dies=True)

    assert task.has_died
    other = Process(place)
    assert other.store.phase is Phase.JSON_ONLY
    assert other.get("a") == ("1" if written else None)
    other.store.close()
