"""Compared reads, validation under live writes, and repair."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar
from unittest.mock import Mock

import pytest
from typing_extensions import override

from pend_storage import crashpoints
from pend_storage._model.diff import Difference
from pend_storage.dualwrite import CODES, DualWriteStore, show_values
from pend_storage.dualwrite._divergence_check import (
    ComparisonRules,
    DivergenceConfirmer,
)
from pend_storage.dualwrite._repair import repair
from pend_storage.errors import StoreUnavailable, UniqueViolation
from pend_storage.phases import Phase
from pend_storage.query import field
from pend_storage.records import ChangedRecord
from pend_storage.store import Store
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, Ship, a_log, a_ship
from pend_storage.testing.faults import (
    FaultyStore,
    InterceptingStore,
    SlowStore,
    Verb,
)
from pend_storage.validation import validate

from .processes import Judging, Place, Process, Task, join, living

T = TypeVar("T")


class Once:
    """Does something the first time it is called."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.done = False

    def __call__(self) -> None:
        if not self.done:
            self.done = True
            self._work()


def meet(key: str, process: Process, read: str) -> None:
    """Read a record in one of the ways."""
    match read:
        case "get":
            process.get(key)
        case "find":
            process.store.collection(Log).find(field("id") == key)
        case _:
            process.store.collection(Log).count()


def damage(store: MemoryStore, key: str, text: str | None) -> None:
    """A record is changed by hand; its version stays."""
    body = None if text is None else SCHEMA["logs"].codec.encode(a_log(key, text))
    version = store._state.tables["logs"].version(key)
    row = ChangedRow("logs", key, version or 1, body)
    with store._lock:
        store._state.install(LogRecord(rows=(row,)))
        if text is None:  # without a trace
            store._state.tables["logs"].tombstones.pop(key)


@pytest.fixture
def pair(place: Place) -> Iterator[Process]:
    """In the phase parallel, every read compared."""
    process = Process(
        place,
        compare=1.0,
        secondary_timeout=5.0,
        relay_interval=0.01,
        redact=show_values,
    )
    process.store.switch(Phase.PARALLEL)
    yield process
    process.store.close()


def test_reads_of_equal_stores_find_nothing(pair: Process) -> None:
    for n in range(50):
        pair.put(f"{n}", "1")
        pair.get(f"{n}")
    pair.store.collection(Log).find(field("text") == "1", limit=7)
    pair.store.collection(Log).count()
    assert pair.store._shadow_reads.wait(20)

    compared = pair.store.compared()

    assert compared.sampled == compared.compared == 52
    assert compared.dropped == compared.skipped == compared.confirmed == 0
    assert pair.store.divergences() == ()


def test_a_live_writer_raises_no_false_alarm(place: Place, pair: Process) -> None:
    """False alarms: a comparison without a second look raises one in fifty."""
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            pair.put("a", f"{(n := n + 1)}")

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3_000):
        pair.get("a")
        if pair.store._shadow_reads._samples.qsize() > 500:
            pair.store._shadow_reads.wait(1)
    stop.set()
    join(writer)
    assert pair.store._shadow_reads.wait(60)

    assert pair.store.compared().compared > 1_000
    assert pair.store.compared().confirmed == 0
    assert pair.store.divergences() == ()


@pytest.mark.parametrize("read", ["get", "find", "count"])
def test_a_write_that_is_only_on_its_way_is_not_reported(
    place: Place, pair: Process, read: str
) -> None:
    pair.put("a", "1")
    pair.store._relay.stop(5)
    pair.store._breaker.failed("is tested")
    pair.put("a", "2")
    pair.put("b", "2")
    pair.store._breaker._is_open = False  # as if it had just come back

    meet("a", pair, read)

    assert pair.store._shadow_reads.wait(20)
    assert pair.store.compared().rechecked >= 1
    assert pair.store.divergences() == ()


def test_what_the_backfill_has_not_brought_yet_is_no_divergence(
    place: Place, pair: Process
) -> None:
    pair.store.switch(Phase.JSON_ONLY)
    place.json.collection(Log).put(a_log("old", "1"))
    place.json.prune(place.json.head())
    pair.store.switch(Phase.PARALLEL)

    pair.get("old")
    assert pair.store._shadow_reads.wait(20)
    before = pair.store.compared()
    pair.store.backfill()
    pair.get("old")
    assert pair.store._shadow_reads.wait(20)
    after = pair.store.compared()

    assert (before.compared, before.skipped, before.confirmed) == (0, 1, 0)
    assert (after.compared, after.skipped, after.confirmed) == (1, 1, 0)
    assert pair.store.divergences() == ()


@pytest.mark.parametrize("read", ["get", "find", "count"])
def test_a_store_that_was_let_go_meanwhile_is_not_compared(
    place: Place, pair: Process, two: Process, read: str
) -> None:
    """Its primary is at the same epoch as before, so this process has not noticed."""
    pair.store.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
    pair.store._relay.stop(5)
    two.store.switch(Phase.POSTGRES_ONLY, accept=CODES)
    two.put("new", "1")

    logs = pair.store.collection(Log)
    answers: dict[str, Callable[[], object]] = {
        "get": lambda: logs.get("new"),
        "find": logs.find,
        "count": logs.count,
    }
    assert answers[read]()
    assert pair.store._shadow_reads.wait(20)

    compared = pair.store.compared()
    assert (compared.skipped, compared.confirmed) == (1, 0)
    assert pair.store.divergences() == ()


@pytest.mark.parametrize("read", ["get", "find", "count"])
def test_a_damaged_record_is_found_whatever_read_meets_it(
    place: Place, pair: Process, read: str
) -> None:
    pair.put("a", "right")
    pair.store.catch_up()
    damage(place.postgres, "a", "wrong" if read != "count" else None)

    meet("a", pair, read)
    assert pair.store._shadow_reads.wait(30)

    (found,) = pair.store.divergences()
    if read == "count":
        assert (found.kind, found.key) == ("answer", "")
        return
    assert (found.collection, found.key, found.kind) == ("logs", "a", "different")
    assert found.differences == (Difference(("text",), "right", "wrong"),)
    assert pair.events[-1].name == "divergence"
    assert "wrong" not in pair.events[-1].message


@pytest.mark.parametrize(("secondary", "kind"), [(None, "missing"), ("ghost", "extra")])
def test_a_lost_record_and_a_ghost_are_found(
    place: Place, pair: Process, secondary: str | None, kind: str
) -> None:
    if kind == "missing":
        pair.put("a", "1")
        pair.store.catch_up()
    damage(place.postgres, "a", secondary)

    pair.get("a")

    assert pair.store._shadow_reads.wait(30)
    assert [found.kind for found in pair.store.divergences()] == [kind]


@pytest.mark.parametrize("read", ["get", "find", "count"])
def test_what_a_backfill_is_still_to_bring_is_no_divergence(
    place: Place, read: str
) -> None:
    place.json.collection(Log).put(a_log("a", "old"))
    place.json.prune(place.json.head())
    process = Process(place, compare=1.0)
    process.store.switch(Phase.PARALLEL)

    meet("a", process, read)

    assert process.store._shadow_reads.wait(20)
    assert process.store.compared().skipped == 1
    assert process.store.divergences() == ()
    process.store.backfill()
    damage(place.postgres, "a", None)
    meet("a", process, read)
    assert process.store._shadow_reads.wait(20)
    assert len(process.store.divergences()) == 1
    process.store.close()


def test_what_was_found_is_forgotten_once_it_is_equal(
    place: Place, pair: Process
) -> None:
    pair.put("a", "1")
    pair.store.catch_up()
    damage(place.postgres, "a", "wrong")
    pair.get("a")
    assert pair.store._shadow_reads.wait(20)
    assert len(pair.store.divergences()) == 1

    pair.put("a", "2")
    pair.get("a")

    assert pair.store._shadow_reads.wait(20)
    assert pair.store.divergences() == ()


def compared_pair(json: Store, postgres: Store) -> DualWriteStore:
    """In the phase parallel, every read compared, one record there."""
    store = DualWriteStore(
        json=json, postgres=postgres, compare=1.0, relay_interval=None
    )
    store.switch(Phase.PARALLEL)
    store.collection(Log).put(a_log("a", "1"))
    return store


def read_everything(store: DualWriteStore, times: int) -> None:
    """Every kind of read that is compared."""
    logs = store.collection(Log)
    for _ in range(times):
        assert logs.get("a") == a_log("a", "1")
        assert logs.find(field("text") == "1").items == (a_log("a", "1"),)
        assert logs.count() == 1


def test_a_secondary_that_hangs_is_never_waited_for() -> None:
    """All reads come back before the secondary has answered a single one."""
    slow = SlowStore(MemoryStore(SCHEMA))
    store = compared_pair(MemoryStore(SCHEMA), slow)
    reading = Task(lambda: read_everything(store, 1_000))
    with slow.holding("read", "query", "count") as gate:
        reading.start()
        gate.wait_until_reached()
        compared = store.compared()

    assert reading.error is None
    assert (compared.sampled, compared.compared) == (3_000, 0)
    assert compared.dropped >= 1_900
    store.close()


def test_a_finding_that_cannot_be_written_yet_is_not_waited_for() -> None:
    primary, secondary = SlowStore(MemoryStore(SCHEMA)), MemoryStore(SCHEMA)
    store = compared_pair(primary, secondary)
    store.catch_up()
    damage(secondary, "a", "wrong")
    reading = Task(lambda: read_everything(store, 100))
    with primary.holding("commit") as gate:
        read_everything(store, 1)
        gate.wait_until_reached()
        reading.start()
        assert reading.error is None
        assert reading.is_done

    assert store._shadow_reads.wait(30)
    assert [f.key for f in store.divergences()] == ["a"]
    store.close()


@pytest.mark.parametrize(
    "error", [StoreUnavailable("gone", store="it"), RuntimeError("a bug")]
)
def test_a_secondary_that_fails_changes_nothing_for_the_caller(
    error: Exception,
) -> None:
    faulty = FaultyStore(MemoryStore(SCHEMA))
    store = compared_pair(MemoryStore(SCHEMA), faulty)
    faulty.fail("read", "query", "count", times=None, error=error)

    read_everything(store, 10)

    assert store._shadow_reads.wait(30)
    assert store.compared().skipped == 30
    assert store.divergences() == ()
    store.close()


def test_the_answer_is_the_primarys_whatever_the_secondary_says() -> None:
    secondary = MemoryStore(SCHEMA)
    store = compared_pair(MemoryStore(SCHEMA), secondary)
    store.catch_up()
    damage(secondary, "a", "wrong")

    read_everything(store, 10)

    assert store._shadow_reads.wait(30)
    assert store.compared().confirmed >= 20
    store.close()


def test_only_a_share_of_the_reads_is_compared(place: Place) -> None:
    process = Process(place, compare=0.1)
    process.store.switch(Phase.PARALLEL)
    for _ in range(2_000):
        process.get("a")

    assert 100 < process.store.compared().sampled < 320
    process.store.close()


def test_differences_can_be_ignored_and_are_hidden_by_default() -> None:
    rules = ComparisonRules(["ships.extra.session", "*.remark"])
    left = a_ship("s1", remark="a", extra={"session": 1, "b": [1]}, crew=3)
    right = a_ship("s1", remark="b", extra={"session": 2, "b": [1, 2]}, crew=4)

    found = rules.differences("ships", left, right)

    assert {difference.path for difference in found} == {("crew",), ("extra", "b")}
    assert {difference.left for difference in found} == {"<int>", "<list of length 1>"}
    assert (
        ComparisonRules(["*.crew", "*.extra", "*.remark"]).differences(
            "ships", left, right
        )
        == ()
    )


def test_a_validation_does_not_report_what_is_only_on_its_way(
    place: Place, pair: Process
) -> None:
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            pair.put(f"{(n := n + 1) % 5}", f"{n}")
            if n % 7 == 0:
                pair.store.collection(Log).delete(f"{n % 5}")

    writer = threading.Thread(target=write)
    writer.start()
    reports = [pair.store.validate() for _ in range(10)]
    stop.set()
    join(writer)

    assert [(r.found, r.unsettled) for r in reports] == [(0, 0)] * 10
    assert pair.store.divergences(closed=True) == ()


def test_a_record_that_is_never_seen_equal_is_none_the_less(
    place: Place, pair: Process
) -> None:
    """Whenever both are read, the secondary has an earlier state of the primary."""
    pair.put("a", "0")
    pair.store.catch_up()
    for part in (pair.store._relay, pair.store._replicator):
        part.stop(5)
    numbers = itertools.count(1)

    class Behind(InterceptingStore):
        @override
        def around(self, verb: Verb, call: Callable[[], T]) -> T:
            answer = call()
            if verb == "read":  # the next one arrives as soon as this one was seen
                pair.store.catch_up()
                pair.put("a", f"{next(numbers)}")
            return answer

    route = replace(pair.store._router.route, follower=Behind(place.postgres))
    verdicts = DivergenceConfirmer(ComparisonRules(), lambda: None).confirm(
        route, "logs", ["a"]
    )

    assert next(numbers) > 2
    assert verdicts == ({}, frozenset())


def test_a_record_that_goes_on_changing_is_not_taken_for_equal(
    place: Place, pair: Process
) -> None:
    """Nor for wrong: nothing is known of it, and a validation says so."""
    pair.put("a", "0")
    pair.store.catch_up()
    for part in (pair.store._relay, pair.store._replicator):
        part.stop(5)
    pair.store._maintenance._relay = Mock()
    numbers = itertools.count(2)
    pair.store._maintenance._confirmer = DivergenceConfirmer(
        ComparisonRules(),
        lambda: place.json.collection(Log).put(a_log("a", f"{next(numbers)}")),
        patience=0.3,
    )
    place.json.collection(Log).put(a_log("a", "1"))

    report = pair.store.validate()

    assert (report.found, report.unsettled) == (0, 1)
    assert not report.ok
    codes = [b.code for b in pair.store.readiness(Phase.POSTGRES_PRIMARY).blockers]
    assert "validation" in codes


def test_a_clean_full_validation_is_remembered_and_a_sample_is_not(
    pair: Process,
) -> None:
    pair.put("a", "1")

    def codes() -> list[str]:
        return [b.code for b in pair.store.readiness(Phase.POSTGRES_PRIMARY).blockers]

    assert codes() == ["validation", "backup"]
    pair.store.validate(sample=1.0)
    assert codes() == ["validation", "backup"]
    assert pair.store.validate().ok
    assert codes() == ["backup"]


def test_a_repair_brings_everything_in_line(place: Place, pair: Process) -> None:
    for key in ("different", "missing", "fine"):
        pair.put(key, "1")
    pair.store.catch_up()
    damage(place.postgres, "different", "wrong")
    damage(place.postgres, "missing", None)
    damage(place.postgres, "ghost", "extra")
    report = pair.store.validate()
    assert report.found == 3

    plan = pair.store.repair(dry_run=True)
    still = pair.store.validate().found
    done = pair.store.repair()

    assert still == 3
    assert {(r.key, r.action) for r in plan.repairs} == {
        ("different", "write"),
        ("missing", "write"),
        ("ghost", "delete"),
    }
    assert done.repairs == plan.repairs
    assert done.ok
    pair.store.catch_up()
    assert living(place.json) == living(place.postgres)
    assert pair.store.validate().ok
    for key in ("different", "missing", "ghost"):  # and later writes still win
        pair.put(key, "later")
        assert place.postgres.collection(Log).get(key) == a_log(key, "later")


def test_a_repair_takes_the_record_as_it_is_now(place: Place, pair: Process) -> None:
    pair.put("a", "1")
    pair.store.catch_up()
    damage(place.postgres, "a", "wrong")
    pair.get("a")
    assert pair.store._shadow_reads.wait(20)
    pair.store._breaker.failed("is tested")
    pair.put("a", "newer")

    pair.store.repair()

    assert place.postgres.collection(Log).get("a") == a_log("a", "newer")
    assert pair.store.divergences() == ()


@pytest.mark.parametrize("ahead", [0, 1, 5])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_write_in_the_middle_of_a_repair_wins(
    place: Place, pair: Process, when: str, ahead: int
) -> None:
    """Before or after the record is read that is applied, whatever version is there."""
    pair.put("a", "old")
    pair.store.catch_up()
    for part in (pair.store._relay, pair.store._replicator):
        part.stop(5)
    version = place.json.head() + ahead
    effect = ChangedRow("logs", "a", version, SCHEMA["logs"].codec.encode(a_log("a")))
    place.postgres._state.install(LogRecord(rows=(effect,)))
    write = Once(lambda: pair.put("a", "newer"))

    class Primary(InterceptingStore):
        """A write arrives as soon as its head was asked for."""

        @override
        def around(self, verb: Verb, call: Callable[[], T]) -> T:
            return call()

        @override
        def head(self) -> int:
            found = self.inner.head()
            if when == "before":
                write()
            return found

    route = replace(pair.store._router.route, store=Primary(place.json))
    with crashpoints.handled(lambda point: write() if point == "repair.read" else None):
        repair(route, [("logs", "a")])
    pair.store.catch_up()

    assert write.done
    assert place.postgres.collection(Log).get("a") == a_log("a", "newer")


def test_a_repair_under_live_writes_leaves_everything_equal(
    place: Place, pair: Process
) -> None:
    stop = threading.Event()

    def write(first: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            pair.put(f"{first}-{n % 7}", f"{n}")
            if n % 5 == 0:
                pair.store.collection(Log).delete(f"{first}-{n % 7}")

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    for round_number in range(15):
        damage(place.postgres, f"{round_number % 3}-{round_number % 7}", "wrong")
        damage(place.postgres, f"ghost {round_number}", "ghost")
        assert pair.store.repair().ok
    stop.set()
    for writer in writers:
        writer.join()
    pair.store.catch_up()

    assert living(place.postgres) == living(place.json)
    assert pair.store.repair().repairs == ()


def test_a_second_repair_has_nothing_to_do(place: Place, pair: Process) -> None:
    pair.put("a", "1")
    pair.store.catch_up()
    damage(place.postgres, "a", "wrong")
    damage(place.postgres, "ghost", "extra")

    first, second = pair.store.repair(), pair.store.repair()

    assert (first.repaired, second.repairs) == (2, ())


def test_a_dry_run_changes_nothing_at_all(place: Place, pair: Process) -> None:
    pair.put("a", "1")
    pair.store.catch_up()
    damage(place.postgres, "ghost", "extra")
    before = [(s.head(), living(s)) for s in (place.json, place.postgres)]

    plan = pair.store.repair(dry_run=True)

    assert [(r.key, r.action) for r in plan.repairs] == [("ghost", "delete")]
    assert [(s.head(), living(s)) for s in (place.json, place.postgres)] == before


def test_more_than_the_details_of_a_validation_is_repaired(
    place: Place, pair: Process
) -> None:
    for n in range(1_300):
        damage(place.postgres, f"ghost {n:04}", "extra")

    assert pair.store.validate().found == 1_300
    assert pair.store.repair().repaired == 1_300
    assert pair.store.validate().ok


def test_a_primary_that_cannot_count_on_is_not_waited_for_for_ever(
    place: Place, pair: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In PostgreSQL, a transaction that stays open holds its numbers back."""
    monkeypatch.setattr("pend_storage.dualwrite._repair._PATIENCE", 0.2)
    pair.put("a", "1")
    head = place.json.head()
    ahead = ChangedRow("logs", "b", head + 3, SCHEMA["logs"].codec.encode(a_log("b")))
    place.postgres._state.install(LogRecord(rows=(ahead,)))

    class Stuck(InterceptingStore):
        @override
        def around(self, verb: Verb, call: Callable[[], T]) -> T:
            return call()

        @override
        def head(self) -> int:
            return head

    route = replace(pair.store._router.route, store=Stuck(place.json))
    (done,) = repair(route, [("logs", "b")])

    assert done.action == "refused"


def test_a_repair_gives_no_version_above_the_change_log_of_the_primary(
    place: Place, pair: Process
) -> None:
    """PostgreSQL's head lies above its log, and stays behind with the server."""
    pair.put("a", "1")
    pair.store.catch_up()
    head = place.json.head() + 5
    lost = ChangedRow("logs", "a", head - 1, SCHEMA["logs"].codec.encode(a_log("a")))
    place.postgres._state.install(LogRecord(rows=(lost,)))

    class Ahead(InterceptingStore):
        @override
        def around(self, verb: Verb, call: Callable[[], T]) -> T:
            return call()

        @override
        def head(self) -> int:
            return max(head, self.inner.head())

    route = replace(pair.store._router.route, store=Ahead(place.json))
    (done,) = repair(route, [("logs", "a")])

    assert done.action == "write"
    assert place.postgres.read("logs", ["a"])["a"].version == head
    assert [change.sequence for change in place.json.changes()][-1] >= head
    pair.put("a", "2")
    assert living(place.json) == living(place.postgres)


def test_what_was_deleted_is_not_repaired_back(place: Place, pair: Process) -> None:
    pair.put("a", "1")
    pair.store.collection(Log).delete("a")
    pair.store.catch_up()
    damage(place.postgres, "a", "back from the dead")

    report = pair.store.repair()

    assert [(r.key, r.action) for r in report.repairs] == [("a", "delete")]
    assert place.json.collection(Log).get("a") is None
    assert place.postgres.collection(Log).get("a") is None


def test_a_secondary_ahead_of_everything_is_not_repaired_by_force(
    place: Place, pair: Process
) -> None:
    """Its version would block every later write."""
    epoch = place.postgres.role().epoch
    ahead = ChangedRecord("logs", "a", 10**6, a_log("a", "from nowhere"))
    place.postgres.apply([ahead], epoch=epoch)

    report = pair.store.repair()

    assert [(r.key, r.action) for r in report.repairs] == [("a", "refused")]
    assert not report.ok


def test_a_repair_does_not_win_over_what_is_written_meanwhile(
    place: Place, pair: Process, one: Process
) -> None:
    """Its version may be above that of a commit which it has not seen."""
    pair.put("a", "1")
    pair.store.catch_up()
    ahead = place.json.head() + 5
    damaged = ChangedRecord("logs", "a", ahead, a_log("a", "wrong"))
    place.postgres.apply([damaged], epoch=place.postgres.role().epoch)
    pair.json.before_next["commit"] = lambda: one.put("a", "2")

    pair.store.repair()

    assert place.json.collection(Log).get("a") == a_log("a", "2")
    assert living(place.json) == living(place.postgres)


def test_a_ghost_that_blocks_the_relay_is_repaired_away(place: Place) -> None:
    store = DualWriteStore(
        json=place.json,
        postgres=Judging(place.postgres),
        relay_interval=None,
        validate=validate,
    )
    store.switch(Phase.PARALLEL, accept=CODES)
    row = SCHEMA["ships"].codec.encode(a_ship("ghost", call_sign="AB"))
    place.postgres._state.install(
        LogRecord(rows=(ChangedRow("ships", "ghost", 1, row),))
    )
    store.collection(Ship).put(a_ship("s", call_sign="AB"))
    with pytest.raises(UniqueViolation):
        store.catch_up()

    assert store.repair().repaired == 2
    store.catch_up()

    assert living(place.json) == living(place.postgres)
    store.close()
