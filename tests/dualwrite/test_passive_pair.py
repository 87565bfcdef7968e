"""Facts of a pair from two stores that are only read: the same, and nothing is changed."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from typing_extensions import override

from pend_storage.dualwrite import CODES, DualWriteStore, Lag, PassivePair
from pend_storage.dualwrite._away_store import AwayStore
from pend_storage.dualwrite._divergence_check import Finding
from pend_storage.dualwrite._log_continuity import WITNESS_META
from pend_storage.dualwrite._log_position import LogPosition
from pend_storage.dualwrite._roles import SIDES, RolePair, Side
from pend_storage.errors import (
    ConfigError,
    CorruptFile,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.phases import IDENTITY_META, ROLE_META, Phase, Role, RoleState
from pend_storage.records import Pending
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import InterceptingStore, Verb

from .processes import Died, Place, Process, Task, points
from .test_restored_stores import copied

J, PAR, PG, P = Phase
T = TypeVar("T")
_WRITES = {"commit", "apply", "compare_and_set_meta"}


class Reader(InterceptingStore):
    """Reads of a store are counted, and writes are faults of the test."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self.returned = 0
        """Rows and entries that were returned."""

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        assert verb not in _WRITES, f"a reader calls {verb}"
        self.calls[verb] += 1
        found = call()
        self.returned += len(found) if isinstance(found, list) else 0
        return found

    @override
    def pending(self, after: int) -> Pending:
        self.calls["pending"] += 1
        return self.inner.pending(after)

    @override
    def head(self) -> int:
        return self.inner.head()

    @override
    def identity(self) -> str:
        return str(self.meta(IDENTITY_META) or "")


def looking(place: Place, **away: Exception) -> PassivePair:
    """A passive pair over the stores of a place; some of them may be away."""
    json, postgres = (
        AwayStore(SCHEMA, away[side], name=side)  # type: ignore[arg-type]
        if side in away
        else Reader(place.of(side))
        for side in SIDES
    )
    return PassivePair(json, postgres)


def same_lag(one: Lag, other: Lag) -> bool:
    """Return whether two measurements are alike, but for the time between them."""
    return replace(one, seconds=0.0) == replace(other, seconds=0.0)


def stay(process: Process, phase: Phase) -> None:
    if phase is not process.store.phase:
        process.store.switch(phase, accept=CODES)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("behind", [0, 3])
def test_the_facts_are_those_of_the_pair(
    place: Place, one: Process, phase: Phase, behind: int
) -> None:
    one.put("a", "1")
    stay(one, phase)
    side: Side = "postgres" if phase in {J, PAR} else "json"
    one.line(side).is_cut = bool(behind)
    for n in range(behind):
        one.put(f"b{n}", "1")
    one.restart()  # a process that knows of no outage
    one.line(side).is_cut = False
    pair = looking(place)

    assert pair.roles() == one.store.roles()
    assert pair.phase is one.store.phase is phase
    assert same_lag(pair.lag(), one.store.lag())
    assert pair.history() == one.store.history()
    assert pair.divergences() == one.store.divergences() == ()
    assert pair.open_divergences() == 0
    for wanted in Phase:
        assert pair.readiness(wanted) == one.store.readiness(wanted)
    assert pair.meta("switches") == one.store.meta("switches")


def test_findings_are_counted_and_listed(place: Place, one: Process) -> None:
    stay(one, PAR)
    now = datetime.now(UTC)
    one.store._registry.record(
        Finding(
            collection="logs",
            key=key,
            kind="different",
            versions=(1, 1),
            differences=(),
            first_seen=now,
            last_seen=now,
            source="read",
        )
        for key in "ab"
    )
    one.store._registry.record_repaired([("logs", "a")])
    pair = looking(place)

    assert pair.open_divergences() == 1
    assert pair.divergences() == one.store.divergences()
    assert pair.divergences(closed=True) == one.store.divergences(closed=True)
    assert len(pair.divergences(closed=True)) == 2


def test_it_starts_no_thread(place: Place, one: Process) -> None:
    stay(one, PAR)
    before = set(threading.enumerate())

    pair = looking(place)
    pair.lag(), pair.readiness(PG), pair.phase

    assert set(threading.enumerate()) == before


# -- roles that are not settled -----------------------------------------------------------


def test_a_fresh_pair_gets_no_roles(place: Place) -> None:
    pair = looking(place)

    assert pair.roles() == RolePair(None, None)
    assert place.json.meta(ROLE_META) is None
    with pytest.raises(StoreUnavailable):
        pair.lag()


def test_a_new_store_beside_a_primary_counts_as_detached(
    place: Place, one: Process
) -> None:
    one.put("a", "1")
    place.postgres = MemoryStore(SCHEMA)
    pair = looking(place)

    assert pair.phase is J
    assert pair.roles().postgres == RoleState(Role.DETACHED, 1)
    assert place.postgres.meta(ROLE_META) is None


def test_a_store_that_was_replaced_is_the_error_of_the_pair(
    place: Place, one: Process
) -> None:
    stay(one, PAR)
    place.json = MemoryStore(SCHEMA)

    with pytest.raises(ConfigError) as theirs:
        DualWriteStore(json=place.json, postgres=place.postgres, relay_interval=None)
    with pytest.raises(ConfigError) as mine:
        looking(place).roles()
    assert str(mine.value) == str(theirs.value)


def test_roles_that_no_switch_leaves_are_the_error_of_the_pair(
    place: Place, one: Process
) -> None:
    stay(one, PAR)
    found = place.postgres.meta(ROLE_META)
    role = RoleState(Role.PRIMARY, 1).to_meta()
    assert place.postgres.compare_and_set_meta(ROLE_META, found, role)

    with pytest.raises(ConfigError, match="disagree about who is primary"):
        looking(place).roles()


@pytest.mark.parametrize("point", points("switch."))
def test_half_a_switch_is_shown_and_left_as_it_is(
    place: Place, one: Process, point: str
) -> None:
    stay(one, PAR)
    one.put("a", "1")
    switching = Task(lambda: one.store.switch(PG, accept=CODES))
    switching.start(point, dies=True)
    if not switching.has_died:
        return  # not every point is passed on this way
    assert isinstance(switching.error, Died)
    before = place.json.meta(ROLE_META), place.postgres.meta(ROLE_META)
    pair = looking(place)

    assert pair.phase in {PAR, PG}
    assert pair.lag().secondary_up in {True, False}
    if not pair.roles().is_settled:
        with pytest.raises(StoreUnavailable, match="under way"):
            pair.readiness(PG)
    assert (place.json.meta(ROLE_META), place.postgres.meta(ROLE_META)) == before


def test_a_switch_that_ends_in_time_is_waited_for(place: Place, one: Process) -> None:
    stay(one, PAR)
    json = place.json.meta(ROLE_META)
    fenced = RoleState(Role.FENCED, RoleState.from_meta(json).epoch).to_meta()
    assert place.json.compare_and_set_meta(ROLE_META, json, fenced)
    asked: list[int] = []

    def refresh() -> None:
        asked.append(1)
        place.json.compare_and_set_meta(ROLE_META, fenced, json)

    pair = PassivePair(Reader(place.json), Reader(place.postgres), refresh=refresh)

    assert pair.readiness(PG, patience=30.0).steps == (PG,)
    assert asked


# -- a store that is away -----------------------------------------------------------------


AWAY = StoreUnavailable("the line is cut", store="the other end")


@pytest.mark.parametrize("phase", [PAR, PG])
def test_with_the_secondary_away_the_rest_is_known(
    place: Place, one: Process, phase: Phase
) -> None:
    stay(one, phase)
    one.put("a", "1")
    side: Side = "postgres" if phase is PAR else "json"
    one.line(side).is_cut = True
    pair = looking(place, **{side: AWAY})

    assert pair.phase is one.store.phase is phase
    assert pair.history() == one.store.history()
    assert pair.open_divergences() == 0
    lag = pair.lag()
    assert lag.commits >= 1
    assert not lag.secondary_up
    assert "the line is cut" in (lag.blocked or "")
    with pytest.raises(StoreUnavailable):
        pair.readiness(P if phase is PG else PG)


def test_the_last_mark_counts_while_the_secondary_is_away(
    place: Place, one: Process
) -> None:
    stay(one, PAR)
    for n in range(5):
        one.put(f"{n}", "1")
    one.store.catch_up()
    here = looking(place)
    assert here.lag().commits == 0
    one.postgres.is_cut = True
    one.put("more", "1")
    away = looking(place, postgres=AWAY)
    assert away.lag().commits == 6  # nothing is known of a mark
    away.recall(here)

    assert away.lag().commits == 1


@pytest.mark.parametrize("phase", [PAR, PG])
def test_with_the_primary_away_the_phase_is_not_known(
    place: Place, one: Process, phase: Phase
) -> None:
    stay(one, phase)
    side: Side = "json" if phase is PAR else "postgres"
    pair = looking(place, **{side: AWAY})

    for ask in (lambda: pair.phase, pair.lag, pair.open_divergences, pair.history):
        with pytest.raises(StoreUnavailable, match="the line is cut"):
            ask()


def test_with_both_away_the_reason_is_raised(place: Place, one: Process) -> None:
    pair = looking(place, json=AWAY, postgres=AWAY)

    with pytest.raises(StoreUnavailable, match="the line is cut"):
        pair.roles()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (CorruptFile("torn", path="a"), StoreUnavailable),
        (ConfigError("wrong."), StoreUnavailable),
        (SchemaOutOfDate("old"), SchemaOutOfDate),
    ],
    ids=["damage", "configuration", "schema"],
)
def test_every_reason_is_one_of_a_store_out_of_reach(
    error: Exception, raised: type[Exception]
) -> None:
    away = AwayStore(SCHEMA, error, name="JSON")  # type: ignore[arg-type]
    calls: list[Callable[[], object]] = [
        lambda: away.meta("a"),
        lambda: away.read("logs", ["a"]),
        lambda: away.collection(Log).count(),
        lambda: away.collection(Log).find(),
        lambda: list(away.scan("logs")),
        lambda: list(away.changes()),
        away.incarnation,
        lambda: away.collection(Log).put(a_log("a")),
        lambda: away.apply(()),
        lambda: away.compare_and_set_meta("a", None, 1),
    ]

    for call in calls:
        with pytest.raises(raised, match=str(error).split()[0]):
            call()
    away.close()


# -- nothing is changed, and what a look costs --------------------------------------------


def test_values_of_the_pair_are_not_set(place: Place, one: Process) -> None:
    pair = looking(place)

    with pytest.raises(ConfigError, match="reading only"):
        pair.compare_and_set_meta("flags", None, {})


def calls_of_a_look(place: Place) -> tuple[Counter[str], int]:
    """Calls of the stores by verb, and rows that they returned, for all facts once."""
    pair = looking(place)
    first, second = pair.json, pair.postgres
    assert isinstance(first, Reader)
    assert isinstance(second, Reader)
    pair.is_complete(first, second)  # what is walked along once is known then
    for each in (first, second):
        each.calls.clear()
        each.returned = 0
    pair.phase, pair.lag(), pair.open_divergences(), pair.history()
    pair.is_complete(first, second)
    pair.readiness(PG)
    return first.calls + second.calls, first.returned + second.returned


def test_a_look_costs_the_same_at_any_backlog(place: Place, one: Process) -> None:
    one.put("a", "1")
    stay(one, PAR)
    one.store.backfill()
    one.postgres.is_cut = True
    one.put("b", "1")
    few = calls_of_a_look(place)
    for start in range(0, 30_000, 1000):
        logs = [a_log(f"n{n}") for n in range(start, start + 1000)]
        batches = [SCHEMA.batch([SCHEMA.put(Log, each)]) for each in logs]
        place.json.commit_each(batches)

    many = calls_of_a_look(place)

    assert looking(place).lag().commits == 30_001
    assert many == few
    assert many[0]["scan"] == many[0]["changes"] == 0
    assert many[1] < 10


def test_a_mark_that_is_on_no_entry_is_walked_to_once(
    place: Place, one: Process
) -> None:
    stay(one, PAR)  # an empty pair: the mark is at the beginning of the log
    one.postgres.is_cut = True
    for n in range(50):
        one.put(f"{n}", "1")

    _, returned = calls_of_a_look(place)

    assert looking(place).is_complete(place.json, place.postgres)
    assert returned < 10


# -- a log that went back -----------------------------------------------------------------


def test_a_log_without_the_entry_of_the_mark_is_told(
    place: Place, one: Process
) -> None:
    stay(one, PAR)
    earlier = copied(place.json)
    one.put("a", "1")
    one.store.catch_up()  # the mark is on that entry
    assert looking(place).lag().blocked is None
    place.json = earlier

    lag = looking(place).lag()

    assert lag.blocked is not None
    assert lag.seconds == math.inf


def test_a_witness_that_the_log_has_lost_is_told(place: Place, one: Process) -> None:
    one.put("a", "1")
    stay(one, PAR)
    last = list(place.json.changes())[-1]
    lost = LogPosition.on(last, place.json.identity(), place.json.incarnation())
    lost = replace(lost, sequence=last.sequence + 7, token="ab" * 16)
    found = place.postgres.meta(WITNESS_META)
    place.postgres.compare_and_set_meta(WITNESS_META, found, lost.to_meta())

    lag = looking(place).lag()

    assert "number" in (lag.blocked or "")
    assert lag.commits >= 1
    assert lag.seconds == math.inf
