"""Relay against a secondary that takes only a little, or refuses a commit."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from typing_extensions import override

from pend_storage.crashpoints import handled
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.dualwrite import _relay_schedule as relay_schedule
from pend_storage.dualwrite._log_drain import Obstacle
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.errors import (
    ConfigError,
    PendStorageError,
    ReferenceViolation,
    StoreUnavailable,
    UniqueViolation,
)
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.query import And
from pend_storage.records import Advance, Change, ChangedRecord
from pend_storage.store import Store
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, Ship, a_berth, a_log, a_ship
from pend_storage.testing.faults import FaultyStore

from .processes import Place, Process, Task, living, wait_until
from .test_restored_stores import copied

J, PAR, PG, P = Phase
SCHEMA_ALL = And(())


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


class Watched(FaultyStore):
    """Remembers what it was sent; a call with too much is not answered in time."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.sent: list[Sequence[ChangedRecord]] = []
        self.most_records = 1_000_000
        self.most_text = 1_000_000_000
        self.says = "canceling statement due to statement timeout"

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        self.sent.append(records)
        text = sum(len(getattr(item.record, "text", "")) for item in records)
        if len(records) > self.most_records or text > self.most_text:
            raise StoreUnavailable(self.says, store="PostgreSQL")
        return super().apply(records, epoch=epoch, mark=mark)


class Pair:
    """A pair whose secondary is watched; only the test relays."""

    def __init__(self, secondary: Watched, **settings: Any) -> None:
        self.json, self.secondary = MemoryStore(SCHEMA), secondary
        self.events: list[tuple[str, str]] = []
        self.levels: list[int] = []
        chosen: dict[str, Any] = {
            "relay_interval": None,
            "secondary_timeout": None,
            "compare": 0.0,
        }
        self.store = DualWriteStore(
            json=self.json,
            postgres=secondary,
            hook=self._hear,
            **{**chosen, **settings},
        )
        self.store.switch(PAR)
        secondary.sent.clear()

    def _hear(self, event: Event) -> None:
        self.events.append((event.name, event.message))
        self.levels.append(event.level)

    def told(self, name: str) -> list[str]:
        return [message for found, message in self.events if found == name]

    def names(self) -> set[str]:
        return {name for name, _ in self.events}

    def epoch(self) -> int:
        return self.store._router.route.epoch

    def behind(self, count: int, text: str = "") -> None:
        """Commits that only the primary has; each is of one record."""
        for n in range(count):
            self.commit(Log, a_log(f"{n:05}", text))

    def commit(self, kind: type, *records: object) -> None:
        puts = [SCHEMA.put(kind, record) for record in records]
        self.json.commit(SCHEMA.batch(puts), epoch=self.epoch())

    def turns(self, count: int) -> None:
        """As the thread does it, without the pauses."""
        for _ in range(count):
            self.store._relay._schedule._next = 0.0
            self.store._relay._run_once(mine=True)

    def mark(self) -> int:
        mark = ReplicationPosition.load(self.secondary.inner)
        assert mark is not None
        return mark.sequence


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair(Watched(MemoryStore(SCHEMA)))
    yield made
    made.store.close()


class JudgingAndWatched(Watched):
    """As PostgreSQL: judges uniqueness and references at the end of each call."""

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        ships = {row.key: row.record for row in self.inner.scan("ships")}
        berths = {row.key for row in self.inner.scan("berths")}
        for name, key, version, record in records:
            known = self.inner.read(name, [key], deleted=True).get(key)
            if known is not None and known.version >= version:
                continue
            if name == "ships":
                ships[key] = record
            elif name == "berths":
                (berths.discard if record is None else berths.add)(key)
        error = _judged([ship for ship in ships.values() if ship], berths)
        if error is not None:
            self.sent.append(records)
            raise error
        return super().apply(records, epoch=epoch, mark=mark)


def _judged(ships: list[Ship], berths: set[str]) -> PendStorageError | None:
    signs = [ship.call_sign for ship in ships if ship.call_sign]
    if len(signs) != len(set(signs)):
        return UniqueViolation(collection="ships", fields=("call_sign",), key="?")
    for ship in ships:
        if ship.berth_id is not None and ship.berth_id not in berths:
            return ReferenceViolation(
                collection="ships",
                field="berth_id",
                target="berths",
                value=ship.berth_id,
            )
    return None


@pytest.fixture
def judged() -> Iterator[Pair]:
    made = Pair(JudgingAndWatched(MemoryStore(SCHEMA)))
    yield made
    made.store.close()


# -- batches ------------------------------------------------------------------------------


def test_a_backlog_of_which_only_a_little_passes_at_a_time_arrives(pair: Pair) -> None:
    pair.behind(1_500)
    pair.secondary.most_records = 200

    assert pair.store.catch_up() == 1_500

    assert living(pair.json) == living(pair.secondary.inner)
    assert pair.names().isdisjoint({"secondary-down", "relay-blocked"})
    sizes = [len(records) for records in pair.secondary.sent]
    assert sizes[:3] == [1_000, 500, 250]
    assert sum(size > 200 for size in sizes) == 3  # it does not go back to what failed
    assert sum(sizes) < 4 * 1_500


def test_batches_grow_again_when_the_secondary_has_recovered(pair: Pair) -> None:
    pair.behind(1_000)
    pair.secondary.most_records = 10
    pair.store.catch_up()
    pair.secondary.most_records = 1_000
    pair.secondary.sent.clear()
    pair.behind(15_000)

    pair.store.catch_up()

    sizes = [len(records) for records in pair.secondary.sent]
    assert sizes[0] < 20
    assert max(sizes) == 1_000


def test_batches_are_bounded_in_bytes(pair: Pair) -> None:
    pair.behind(40, "x" * 1_000_000)
    pair.secondary.most_text = 17_000_000

    pair.store.catch_up()

    assert living(pair.json) == living(pair.secondary.inner)
    assert [len(records) for records in pair.secondary.sent] == [16, 16, 8]


def test_what_is_read_of_the_log_is_bounded(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.behind(5_000)
    read: list[int] = []
    changes = MemoryStore.changes

    def counted(store: MemoryStore, after: int = 0) -> Iterator[Change]:
        for change in changes(store, after):
            read.append(change.sequence)
            yield change

    monkeypatch.setattr(MemoryStore, "changes", counted)
    held: list[int] = []

    def look(name: str) -> None:
        if name == "relay.read":
            held.append(len(read) - sum(map(len, pair.secondary.sent)))

    with handled(look):
        pair.store.catch_up()

    assert len(held) == 5
    assert max(held) <= 1_000 + 210  # a batch, and what the store reads ahead


def test_a_commit_that_never_passes_is_named_and_nothing_skips_it(pair: Pair) -> None:
    pair.commit(Log, a_log("small", "x"))
    before = pair.json.head()
    pair.commit(Log, a_log("huge", "x" * 5_000))
    huge = pair.json.head()
    pair.commit(Log, a_log("after", "x"))
    pair.secondary.most_text = 4_000

    pair.turns(3)

    assert "secondary-down" not in pair.names()
    (message,) = pair.told("relay-blocked")
    assert pair.levels[-1] == logging.ERROR
    for part in (str(before), str(huge), "huge", "statement timeout"):
        assert part in message
    assert pair.mark() == before
    assert pair.secondary.inner.collection(Log).get("after") is None
    lag = pair.store.lag()
    assert (lag.commits, lag.secondary_up) == (2, True)
    assert "statement timeout" in (lag.blocked or "")

    pair.turns(3)
    assert len(pair.told("relay-blocked")) == 1  # nothing new
    pair.secondary.says = "the disk is full"
    pair.turns(1)
    assert "the disk is full" in pair.told("relay-blocked")[1]

    pair.secondary.most_text = 10_000
    pair.turns(1)
    assert pair.events[-1][0] == "relay-resumed"
    assert pair.store.lag().commits == 0
    assert pair.store.lag().blocked is None
    assert living(pair.json) == living(pair.secondary.inner)


def test_every_process_can_tell_what_stands_in_the_way(
    place: Place, one: Process, two: Process
) -> None:
    to(one, PAR)
    place.json.commit(
        SCHEMA.batch([SCHEMA.put(Log, a_log("a"))]), epoch=place.json.role().epoch
    )
    one.postgres.inner = FaultyStore(place.postgres)
    one.postgres.inner.fail(
        "apply", times=None, error=UniqueViolation(collection="x", fields=(), key="k")
    )
    for _ in range(3):
        one.store._relay._schedule._next = 0.0
        one.store._relay._run_once(mine=True)

    assert "logs['a']" in (two.store.lag().blocked or "")
    found = [b for b in two.store.readiness(PG).blockers if b.code == "lag"]
    assert "logs['a']" in found[0].sentence
    two.store.catch_up()
    assert two.store.lag().blocked is None


def test_an_outage_is_told_again_where_its_reason_changes(place: Place) -> None:
    process = Process(place)
    to(process, PAR)
    faulty = FaultyStore(place.postgres)
    process.postgres.inner = faulty
    for reason in ("shutting down", "no such host", "no such host", "shutting down"):
        faulty.heal()
        error = StoreUnavailable(reason, store="PostgreSQL")
        faulty.fail("meta", "apply", times=None, error=error)
        process.store._relay._run_once(mine=True)

    told = [e.message for e in process.events if e.name == "secondary-down"]
    assert ["shutting down" in told[0], "no such host" in told[1]] == [True, True]
    assert len(told) == 2
    process.store.close()


def test_a_primary_that_cannot_be_read_is_not_called_a_secondary_out_of_reach(
    place: Place, one: Process
) -> None:
    to(one, PG)
    one.store._relay._run_once(mine=True)
    one.postgres.is_cut = True

    one.store._relay._run_once(mine=True)

    told = [e.message for e in one.events if e.name == "secondary-down"]
    assert "the primary cannot be read (the line is cut)" in told[0]


# -- refusals -------------------------------------------------------------------------------


def with_a_ghost(pair: Pair) -> None:
    ghost = ChangedRecord("ships", "ghost", 1, a_ship("ghost", call_sign="AB"))
    pair.secondary.inner.apply([ghost], epoch=pair.epoch())


def test_a_refused_commit_has_a_bearable_price_and_holds_back_what_follows(
    judged: Pair,
) -> None:
    with_a_ghost(judged)
    judged.commit(Log, a_log("before"))
    before = judged.json.head()
    judged.commit(Ship, a_ship("s1", call_sign="AB"))
    judged.behind(4_000)
    judged.turns(1)
    judged.secondary.sent.clear()

    judged.turns(20)

    sizes = list(map(len, judged.secondary.sent))
    assert sum(sizes) < 400  # of a backlog of 4,001
    assert max(sizes) < 10
    assert judged.mark() == before
    assert judged.secondary.inner.count("logs", SCHEMA_ALL) == 1
    (message,) = judged.told("relay-blocked")
    for part in (str(before), "ships['s1']", "call_sign", "ships['ghost']", "repair"):
        assert part in message
    assert judged.store.lag().commits == 4_001

    gone = ChangedRecord("ships", "ghost", 2, None)
    judged.secondary.inner.apply([gone], epoch=judged.epoch())
    judged.store._relay.wake()
    judged.store._relay._run_once(mine=True)

    assert judged.events[-1][0] == "relay-resumed"
    assert living(judged.json) == living(judged.secondary.inner)


def test_the_pauses_between_attempts_grow_and_end_with_a_repair() -> None:
    secondary = JudgingAndWatched(MemoryStore(SCHEMA))
    pair = Pair(secondary, relay_interval=0.05)
    with_a_ghost(pair)
    pair.commit(Ship, a_ship("s1", call_sign="AB"))
    pair.behind(100)
    wait_until(lambda: pair.told("relay-blocked"))
    secondary.sent.clear()
    waited = threading.Event()
    waited.wait(2.0)

    assert len(secondary.sent) <= 14  # some 4 attempts, not 40

    gone = ChangedRecord("ships", "ghost", 2, None)
    secondary.inner.apply([gone], epoch=pair.epoch())
    pair.store._relay._schedule._next += 3_600  # it would be long
    pair.store._relay._schedule.notify()
    waited.wait(0.3)
    assert "relay-resumed" not in pair.names()
    pair.store._relay.wake()
    wait_until(lambda: "relay-resumed" in pair.names())
    wait_until(lambda: living(pair.json) == living(secondary.inner))  # the rest of it
    pair.store.close()


def test_attempts_become_rarer_while_the_mark_stands_still(
    monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    now = [1_000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(relay_schedule, "time", clock)
    error = UniqueViolation(collection="logs", fields=("text",), key="a")
    obstacle = Obstacle(
        after=7, sequence=8, commits=1, keys="logs['a']", reason="taken", error=error
    )
    mark = ReplicationPosition(
        source="x", sequence=7, contiguous_from=0, needs_no_backfill=True
    )
    met = relay_schedule.RelaySchedule(pair._hear, 0.2)
    times = []
    while now[0] < 1_300.0:
        if met.is_due(mark):
            times.append(now[0])
            met.record_obstacle(obstacle, pair.secondary)
        now[0] += 0.1

    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[0] < 0.4
    assert max(pauses) == pytest.approx(30.0, abs=0.5)
    assert len(times) < 20
    assert len(pair.told("relay-blocked")) == 1
    met.wake()
    assert met.is_due(mark)
    met.record_obstacle(obstacle, pair.secondary)
    now[0] += 0.3
    assert met.is_due(mark)  # the short pauses begin anew
    assert met.is_due(replace(mark, sequence=8))


def freed_far_ahead(pair: Pair) -> None:
    """A sign is taken, and freed for another ship, which came directly."""
    pair.commit(Ship, a_ship("s1", call_sign="AB"))
    pair.behind(3_000)
    pair.commit(Ship, a_ship("s1", call_sign="CD"))
    pair.commit(Ship, a_ship("s2", call_sign="AB"))
    last = list(pair.json.changes())[-1]
    pair.secondary.inner.apply(last.records, epoch=pair.epoch())


def freed_in_a_chain(pair: Pair) -> None:
    """Unique values of the present rows are held by ships that are behind themselves."""
    pair.commit(Ship, a_ship("s2", call_sign="BB"), a_ship("s3", call_sign="CC"))
    pair.store.catch_up()
    pair.commit(Ship, a_ship("s1", call_sign="AA"))
    pair.behind(3_000)
    pair.commit(Ship, a_ship("s3", call_sign="DD"))
    pair.commit(Ship, a_ship("s2", call_sign="CC"))
    pair.commit(Ship, a_ship("s1", call_sign="BB"))
    pair.commit(Ship, a_ship("s4", call_sign="AA"))
    last = list(pair.json.changes())[-1]
    pair.secondary.inner.apply(last.records, epoch=pair.epoch())


def deleted_far_ahead(pair: Pair) -> None:
    """The referenced record was deleted later, and the deletion came directly."""
    pair.commit(type(a_berth()), a_berth("b1"))
    pair.store.catch_up()
    pair.commit(Ship, a_ship("s1", berth_id="b1"))
    pair.behind(3_000)
    for kind, key in ((Ship, "s1"), (type(a_berth()), "b1")):
        pair.json.commit(SCHEMA.batch([SCHEMA.delete(kind, key)]), epoch=pair.epoch())
    last = list(pair.json.changes())[-1]
    pair.secondary.inner.apply(last.records, epoch=pair.epoch())


def not_copied_yet(pair: Pair) -> None:
    """The referenced record is older than the log, and was not backfilled."""
    berth = ChangedRecord("berths", "b1", 1, a_berth("b1"))
    pair.json._state.install(_effect(berth))
    pair.commit(Ship, a_ship("s1", berth_id="b1"))


def _effect(item: ChangedRecord) -> LogRecord:
    body = SCHEMA[item.collection].codec.encode(item.record)
    return LogRecord(rows=(ChangedRow(item.collection, item.key, item.version, body),))


@pytest.mark.parametrize(
    "order",
    [freed_far_ahead, freed_in_a_chain, deleted_far_ahead, not_copied_yet],
    ids=lambda order: order.__name__,
)
def test_what_came_out_of_turn_heals_by_itself_however_long_the_log(
    judged: Pair, order: Callable[[Pair], None]
) -> None:
    order(judged)
    judged.secondary.sent.clear()

    judged.store.catch_up()

    assert living(judged.json) == living(judged.secondary.inner)
    assert judged.store.lag().commits == 0
    assert max(map(len, judged.secondary.sent)) <= 1_010
    assert "relay-blocked" not in judged.names()


def test_many_refused_commits_in_one_backlog_are_each_found(judged: Pair) -> None:
    for n in range(20):
        judged.commit(Ship, a_ship(f"a{n}", call_sign=f"S{n}"))
        for m in range(40):
            judged.commit(Log, a_log(f"{n}-{m}"))
        judged.commit(Ship, a_ship(f"a{n}", call_sign=f"T{n}"))
        judged.commit(Ship, a_ship(f"b{n}", call_sign=f"S{n}"))
    taken = [c.records for c in judged.json.changes() if c.records[0].key[0] == "b"]
    for records in taken:
        judged.secondary.inner.apply(records, epoch=judged.epoch())
    judged.secondary.sent.clear()

    judged.store.catch_up()

    assert living(judged.json) == living(judged.secondary.inner)
    assert sum(map(len, judged.secondary.sent)) < 30 * 860


# -- a mark that is not what it was ---------------------------------------------------------


def test_a_secondary_that_fails_over_in_the_middle_gets_everything(
    place: Place,
) -> None:
    """To a standby without the last batches; nothing is passed over."""
    process = Process(place)
    to(process, PAR)
    process.put("first", "1")
    process.store.catch_up()
    standby = copied(place.postgres)
    epoch = place.json.role().epoch
    for n in range(5):
        puts = [SCHEMA.put(Log, a_log(f"{n}-{m:03}")) for m in range(700)]
        place.json.commit(SCHEMA.batch(puts), epoch=epoch)
    applied: list[str] = []

    def fail_over(name: str) -> None:
        if name == "relay.applied":
            applied.append(name)
            if len(applied) == 3:
                process.postgres.inner = standby

    with handled(fail_over):
        process.store.catch_up()

    assert living(standby) == living(place.json)
    assert process.store.lag().commits == 0
    told = [e for e in process.events if e.name == "secondary-rewound"]
    assert [event.level for event in told] == [logging.WARNING]
    marks = [
        ReplicationPosition.load(place.postgres),
        ReplicationPosition.load(standby),
    ]
    assert marks[0] is not None
    assert str(marks[0].sequence) in told[0].message
    assert "position 1 " in told[0].message
    process.store.close()


def test_a_secondary_that_fails_over_between_two_looks_is_told(
    place: Place, one: Process
) -> None:
    to(one, PAR)
    one.put("a", "1")
    one.store.catch_up()
    standby = copied(place.postgres)
    for n in range(3):
        one.put(f"{n}", "2")
    one.store.catch_up()
    one.postgres.inner = standby
    one.put("later", "3")  # comes directly, and proves nothing about what is missing

    assert one.store.lag().commits == 4
    assert one.store.catch_up() == 4

    assert living(standby) == living(place.json)
    assert [e.name for e in one.events].count("secondary-rewound") == 1


def test_a_secondary_that_lost_even_its_mark_is_told(
    place: Place, one: Process
) -> None:
    to(one, PAR)
    one.put("a", "1")
    one.store.catch_up()
    bare = copied(place.postgres)
    bare._state.meta.pop("mark")
    one.postgres.inner = bare

    one.store.catch_up()

    names = [event.name for event in one.events]
    assert names == ["secondary-rewound", "backfill-needed"]


@pytest.mark.parametrize("where", ["relay.read", "relay.applied"])
def test_two_relays_at_once_lose_nothing_and_move_the_mark_only_forward(
    place: Place, one: Process, two: Process, where: str
) -> None:
    to(one, PAR)
    epoch = place.json.role().epoch
    for n in range(2_500):
        puts = [SCHEMA.put(Log, a_log(f"{n:05}"))]
        place.json.commit(SCHEMA.batch(puts), epoch=epoch)
    late = Task(one.store.catch_up).start(where)
    two.store.catch_up()
    there = ReplicationPosition.load(place.postgres)

    late.resume()

    assert late.error is None
    assert ReplicationPosition.load(place.postgres) == there
    assert living(place.postgres) == living(place.json)
    assert "secondary-rewound" not in {e.name for e in (*one.events, *two.events)}


def test_a_mark_that_is_set_back_for_ever_ends_with_an_error(place: Place) -> None:
    process = Process(place)
    to(process, PAR)
    epoch = place.json.role().epoch
    for n in range(10):
        puts = [SCHEMA.put(Log, a_log(f"{n}"))]
        place.json.commit(SCHEMA.batch(puts), epoch=epoch)
    states = [copied(place.postgres) for _ in range(200)]

    def exchange(name: str) -> None:
        if name == "relay.read" and states:
            other = states.pop()
            mark = ReplicationPosition.load(other)
            assert mark is not None
            other._state.meta["mark"] = replace(
                mark, contiguous_from=-len(states)
            ).to_meta()
            process.postgres.inner = other

    with handled(exchange), pytest.raises(PendStorageError, match="position"):
        process.store.catch_up()
    assert len(states) > 100
    process.store.close()


def rewound(place: Place, process: Process, commits: int) -> MemoryStore:
    """The primary loses what the follower has, and takes so many other commits."""
    to(process, PG)
    process.put("a", "1")
    process.store.catch_up()
    backup = copied(place.postgres)
    for n in range(5):
        process.put(f"lost{n}", "2")
    process.store.catch_up()
    process.postgres.inner = backup
    epoch = backup.role().epoch
    for n in range(commits):
        backup.commit(
            SCHEMA.batch([SCHEMA.put(Log, a_log(f"{n}", "other"))]), epoch=epoch
        )
    return backup


@pytest.mark.parametrize("commits", [0, 1, 5, 20])
def test_a_primary_that_was_rewound_is_noticed_though_no_outage_was_seen(
    place: Place, one: Process, commits: int
) -> None:
    """Its log may have grown past the mark, with the same numbers at other times."""
    rewound(place, one, commits)
    mark = ReplicationPosition.load(place.json)
    before = living(place.json)

    for _ in range(2):
        with pytest.raises(ConfigError, match="restored from a backup"):
            one.store.catch_up()

    one.store._relay._run_once(mine=True)
    assert [e.name for e in one.events][-1] == "relay-blocked"
    assert (ReplicationPosition.load(place.json), living(place.json)) == (mark, before)
    lag = one.store.lag()
    assert lag.commits >= 1
    assert lag.seconds == float("inf")
    assert "restored from a backup" in (lag.blocked or "")
