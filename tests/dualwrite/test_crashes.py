"""A process dies between any two steps; another one goes on, and nothing is lost."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import pend_storage.backfill
import pend_storage.dualwrite
from pend_storage import crashpoints
from pend_storage.dualwrite import CODES, force_promotion
from pend_storage.dualwrite._replication_position import is_complete_replica
from pend_storage.dualwrite._roles import SIDES, RolePair, Side
from pend_storage.dualwrite._roles import other as opposite
from pend_storage.errors import StoreUnavailable
from pend_storage.phases import Phase, Role
from pend_storage.records import ChangedRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import Log, a_log

from .processes import Place, Process, Task, living

J, PAR, PG, P = Phase
MOST_TIMES: Final = 4
"""Of one work at one point; it only repeats itself from there on."""


def to(phase: Phase) -> Callable[[Process], object]:
    return lambda process: process.store.switch(phase, accept=CODES)


def delete(process: Process) -> object:
    return process.store.collection(Log).delete("old")


def copy(process: Process) -> object:
    return process.store.backfill()


def catch_up(process: Process) -> object:
    return process.store.catch_up()


def repair(process: Process) -> object:
    """Of a record that the secondary has otherwise, at a version of its own."""
    (side,) = (s for s in SIDES if process.place.of(s).role().role is Role.SECONDARY)
    store = process.place.of(side)
    ahead = process.place.live().head() + 5
    wrong = ChangedRecord("logs", "old", ahead, a_log("old", "wrong"))
    store.apply([wrong], epoch=store.role().epoch)
    return process.store.repair()


def recovery(after: Phase, point: str) -> Callable[[Process], object]:
    """Of a change of phase that died there."""

    def work(process: Process) -> object:
        assert Task(lambda: to(after)(process)).start(point, dies=True).has_died
        return process.store.recover()

    return work


def a_read_at_the_fence(after: Phase) -> Callable[[Process], object]:
    """While a switch of another process is under way."""

    def work(process: Process) -> object:
        other = Process(process.place)
        switch = Task(lambda: to(after)(other)).start("switch.drained", dies=True)
        assert switch.has_died
        return process.get("old")

    return work


def called_off(after: Phase) -> Callable[[Process], object]:
    """A switch whose new primary is lost behind the fence."""

    def lost() -> None:
        raise StoreUnavailable("it is lost", store="the new primary")

    def work(process: Process) -> object:
        process.store.catch_up()
        new = process.postgres if after is PG else process.json
        new.before_next["apply"] = lost  # the first one there is behind the fence
        with contextlib.suppress(StoreUnavailable):
            to(after)(process)
        return None

    return work


def given_up(alone: Phase) -> Callable[[Process], object]:
    """A secondary that is out of reach, and comes back later."""

    def work(process: Process) -> object:
        line = process.postgres if alone is J else process.json
        line.is_cut = True
        to(alone)(process)
        line.is_cut = False
        return process.store.recover()

    return work


def back_to_json_with_a_lost_log(process: Process) -> object:
    postgres = process.place.postgres
    postgres.prune(postgres.head())
    return to(J)(process)


Work = Callable[[Process], object]
WORKS: Final[dict[str, tuple[Phase, Work]]] = {
    "a write, json-only": (J, lambda process: process.put("new", "1")),
    "a write, parallel": (PAR, lambda process: process.put("new", "1")),
    "a write, postgres-primary": (PG, lambda process: process.put("new", "1")),
    "a write, postgres-only": (P, lambda process: process.put("new", "1")),
    "a delete, json-only": (J, delete),
    "a delete, parallel": (PAR, delete),
    "a delete, postgres-primary": (PG, delete),
    "a delete, postgres-only": (P, delete),
    "json-only to parallel": (J, to(PAR)),
    "parallel to postgres-primary": (PAR, to(PG)),
    "postgres-primary to postgres-only": (PG, to(P)),
    "postgres-only to postgres-primary": (P, to(PG)),
    "postgres-primary to parallel": (PG, to(PAR)),
    "parallel to json-only": (PAR, to(J)),
    "from one end to the other": (J, to(P)),
    "and back": (P, to(J)),
    "and back, by a full export": (P, back_to_json_with_a_lost_log),
    "a switch called off, parallel": (PAR, called_off(PG)),
    "a switch called off, postgres-primary": (PG, called_off(PAR)),
    "the database is given up": (PAR, given_up(J)),
    "the directory is given up": (PG, given_up(P)),
    "a backfill, parallel": (PAR, copy),
    "a backfill, postgres-primary": (PG, copy),
    "the relay, parallel": (PAR, catch_up),
    "the relay, postgres-primary": (PG, catch_up),
    "a repair, parallel": (PAR, repair),
    "a repair, postgres-primary": (PG, repair),
    "a read at the fence, parallel": (PAR, a_read_at_the_fence(PG)),
    "a read at the fence, postgres-primary": (PG, a_read_at_the_fence(PAR)),
    "recovery of a fence, parallel": (PAR, recovery(PG, "switch.drained")),
    "recovery of a fence, postgres-primary": (PG, recovery(PAR, "switch.drained")),
    "recovery of an opening, to postgres": (PAR, recovery(PG, "switch.opened")),
    "recovery of an opening, to json": (PG, recovery(PAR, "switch.opened")),
    "recovery of an attach, of postgres": (J, recovery(PAR, "attach.following")),
    "recovery of an attach, of json": (P, recovery(PG, "attach.following")),
}
ALL: Final = frozenset(Phase)
PAIRED: Final = frozenset({PAR, PG})
ALONE: Final = frozenset({J, P})
WHERE: Final = {
    "write.committed": ALL,
    "write.followed": ALL,
    "read.fenced": PAIRED,
    "relay.read": PAIRED,
    "relay.applied": PAIRED,
    "repair.read": PAIRED,
    "repair.applied": PAIRED,
    "backfill.chunk": PAIRED,
    "backfill.complete": PAIRED,
    "switch.planned": PAIRED,
    "switch.prepared": PAIRED,
    "switch.fenced": PAIRED,
    "switch.drained": PAIRED,
    "switch.sealed": PAIRED,
    "switch.ready": PAIRED,
    "switch.opened": PAIRED,
    "switch.followed": PAIRED,
    "attach.marked": ALONE,
    "attach.following": PAIRED,
    "detach.done": ALONE,
    "recover.step": PAIRED,
    "leave.noted": PAIRED,
    "role.changed": ALL,
}
"""The phases that the roles are in when an instant is reached."""
ELSEWHERE: Final = {"role.begun", "vote.detached", "purge.renewed", "purge.half"}
"""Before there is a phase, where there is none any more, and in a purge, which changes none."""


def prepared(phase: Phase) -> tuple[Place, Process]:
    """A pair in a phase, with a record that one store has, and one it has not yet."""
    place = Place()
    process = Process(place)
    to(phase)(process)
    process.put("old", "0")
    for side in SIDES:  # whichever is the secondary misses something
        if place.of(side).role().role is Role.SECONDARY:
            process.line(side).is_cut = True
            process.put("missed", "0")
            process.line(side).is_cut = False
    return place, process


def instants() -> Iterator[tuple[str, str, int, Phase]]:
    """Every work, every point that it passes, how often it did before, and the phase."""
    for name, (phase, work) in WORKS.items():
        place, process = prepared(phase)
        passed: list[tuple[str, Phase]] = []

        def note(point: str, place: Place = place, to: list[Any] = passed) -> None:
            to.append((point, RolePair(place.json.role(), place.postgres.role()).phase))

        with crashpoints.handled(note):
            work(process)
        process.store.close()
        seen: Counter[str] = Counter()
        for point, here in passed:
            seen[point] += 1
            if seen[point] <= MOST_TIMES:
                yield name, point, seen[point] - 1, here


INSTANTS: Final = list(instants())


@pytest.mark.parametrize(("name", "point", "skip"), [i[:3] for i in INSTANTS])
def test_another_process_goes_on_and_nothing_is_lost(
    name: str, point: str, skip: int
) -> None:
    phase, work = WORKS[name]
    place, process = prepared(phase)
    known = living(place.live())

    task = Task(lambda: work(process)).start(point, dies=True, skip=skip)

    assert task.has_died
    other = Process(place, switch_patience=20.0)
    other.store._router._heartbeat._dead_after = 0.0
    assert other.get("missed") == (known.get(("logs", "missed")) and "0")
    other.put("later", "2")
    assert len(place.primaries()) == 1
    expected = {**known, ("logs", "later"): a_log("later", "2")}
    answer = living(place.live())
    in_doubt = {("logs", "new")} if "write" in name else set()
    in_doubt |= {("logs", "old")} if "delete" in name else set()
    assert {k: v for k, v in answer.items() if k not in in_doubt} == {
        k: v for k, v in expected.items() if k not in in_doubt
    }
    if "repair" in name:
        other.store.repair()
    for wanted in (PAR, PG, PAR):
        to(wanted)(other)
        other.store.catch_up()
        if not is_complete_replica(*followed(place)):  # else it must do without
            other.store.backfill()
        assert living(place.json) == living(place.postgres) == answer
    other.store.close()
    process.store.close()


def followed(place: Place) -> tuple[MemoryStore, MemoryStore]:
    """The primary and its follower."""
    (side,) = place.primaries()
    return place.of(side), place.of(opposite(side))


def declared() -> set[str]:
    """The names of all instants in the sources of the protocol."""
    sources = [
        source
        for package in (pend_storage.dualwrite, pend_storage.backfill)
        for source in Path(str(package.__file__)).parent.glob("*.py")
    ]
    found = (re.findall(r'declare\(\s*"([^"]+)"', f.read_text()) for f in sources)
    return {name for names in found for name in names}


def test_every_instant_is_visited_in_every_phase_in_which_it_can_occur() -> None:
    visited: dict[str, set[Phase]] = {}
    for _, point, _, phase in INSTANTS:
        visited.setdefault(point, set()).add(phase)

    assert visited == WHERE
    assert declared() == WHERE.keys() | ELSEWHERE


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


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("phase", Phase)
def test_a_vote_that_died_half_way_is_held_again(phase: Phase, side: Side) -> None:
    place, process = prepared(phase)
    process.store.close()
    voting = Task(lambda: force_promotion(place.json, place.postgres, side))
    assert voting.start("vote.detached", dies=True).has_died

    vote = force_promotion(place.json, place.postgres, side)

    assert vote.primary == side
    assert place.primaries() == [side]
    other = Process(place)
    other.put("later", "2")
    assert other.get("later") == "2"
    assert place.of(side).collection(Log).get("later") == a_log("later", "2")
    other.store.close()
