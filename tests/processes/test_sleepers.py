"""Sleepers through a switch neither write to nor read from the former primary (I5)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pend_storage import crashpoints
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.testing import Child
from pend_storage.testing.domain import SCHEMA, Tally

from .company import is_stopped, wait_until
from .places import Place
from .sleepers import BETWEEN, MINE, NAME, read_late, write_late

OLD, NEW = 10, 20
FORWARD = (Phase.PARALLEL, Phase.POSTGRES_PRIMARY)
BACK = (Phase.POSTGRES_PRIMARY, Phase.PARALLEL)
TO_THE_END = (Phase.PARALLEL, Phase.POSTGRES_ONLY)
TO_THE_BEGINNING = (Phase.POSTGRES_PRIMARY, Phase.JSON_ONLY)
"""The former primary is left behind, and does not get to know what comes after."""
NEIGHBOURS = [FORWARD, BACK]
ENDS = [TO_THE_END, TO_THE_BEGINNING]


def dreams(verb: str, quick: list[tuple[Phase, Phase]]) -> list[Any]:
    """The switch that is slept through, and when; most of them in the long run only."""
    every = [(s, when) for s in (*NEIGHBOURS, *ENDS) for when in (verb, BETWEEN)]
    short = [(switch, verb) for switch in quick]
    long = [each for each in every if each not in short]
    return [
        *(pytest.param(*switch, when) for switch, when in short),
        *(pytest.param(*switch, when, marks=pytest.mark.deep) for switch, when in long),
    ]


@pytest.fixture
def place(tmp_path: Path, new_migrated_database: Callable[[Schema], str]) -> Place:
    return Place(tmp_path, new_migrated_database(SCHEMA))


@pytest.fixture
def awake(place: Place) -> Iterator[DualWriteStore]:
    """The process that does not sleep."""
    with place.open() as store:
        yield store


def to(store: DualWriteStore, phase: Phase) -> None:
    store.switch(phase, accept=CODES)


def side_of(phase: Phase) -> str:
    return "json" if phase.json_role == "primary" else "postgres"


def former(place: Place, phase: Phase, stack: ExitStack) -> Store:
    """The store that was primary in that phase."""
    is_json = side_of(phase) == "json"
    return stack.enter_context(place.json() if is_json else place.postgres())


def wake(child: Child[Any]) -> Any:
    """Let it go on to its end; gives what its call gave."""
    os.kill(child.pid, signal.SIGCONT)
    return child.finish().reports[-1][1]


def fall_asleep(child: Child[Any]) -> None:
    assert child.wait_for_reports(1)[-1] == "asleep"
    wait_until(lambda: is_stopped(child.pid), "it sleeps")


@pytest.mark.parametrize(("before", "after", "when"), dreams("commit", NEIGHBOURS))
def test_a_sleeper_writes_to_the_new_primary(
    place: Place, awake: DualWriteStore, before: Phase, after: Phase, when: str
) -> None:
    to(awake, before)
    awake.collection(Tally).put(Tally(name=NAME, value=OLD))
    with Child(write_late, place, side_of(before), when) as child:
        fall_asleep(child)
        to(awake, after)
        latest = awake.collection(Tally).put(Tally(name=NAME, value=NEW))

        version = wake(child)

    assert version > latest
    found = awake.collection(Tally).versioned(NAME)
    assert found == (Tally(name=NAME, value=MINE), version)
    with ExitStack() as stack:
        log = former(place, before, stack).changes()
        written = [r.record.value for change in log for r in change.records]
        assert MINE not in written


@pytest.mark.parametrize(("before", "after", "when"), dreams("read", ENDS))
def test_a_sleeper_reads_from_the_new_primary(
    place: Place, awake: DualWriteStore, before: Phase, after: Phase, when: str
) -> None:
    to(awake, before)
    awake.collection(Tally).put(Tally(name=NAME, value=OLD))
    with Child(read_late, place, side_of(before), when) as child:
        fall_asleep(child)
        to(awake, after)
        awake.collection(Tally).put(Tally(name=NAME, value=NEW))

        assert wake(child) == NEW


@pytest.mark.parametrize(("before", "after"), [FORWARD, BACK])
def test_the_answer_of_a_fenced_store_is_not_good_for_ever(
    place: Place, awake: DualWriteStore, before: Phase, after: Phase
) -> None:
    to(awake, before)
    awake.collection(Tally).put(Tally(name=NAME, value=OLD))
    with Child(read_late, place, side_of(before), "read.fenced") as child:
        assert child.wait_for_reports(1)[-1] == "ready"

        def wait_while_fenced(point: str) -> None:
            if point == "switch.fenced" and threading.current_thread() is main:
                wait_until(lambda: is_stopped(child.pid), "it sleeps")

        main = threading.current_thread()
        with crashpoints.handled(wait_while_fenced):
            to(awake, after)
        awake.collection(Tally).put(Tally(name=NAME, value=NEW))

        assert wake(child) == NEW
