"""Compared reads, validation under live writes, and repair."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pend_storage.diff import Difference
from pend_storage.dualwrite import CODES, DualWriteStore, show_values
from pend_storage.dualwrite.compare import Rules
from pend_storage.errors import UniqueViolation
from pend_storage.phases import Phase
from pend_storage.query import field
from pend_storage.records import ChangedRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.state import ChangedRow, Effect
from pend_storage.testing.domain import SCHEMA, Log, Ship, a_log, a_ship
from pend_storage.testing.faults import FaultyStore, SlowStore
from pend_storage.validation import validate

from .processes import Judging, Place, Process, living


def damage(store: MemoryStore, key: str, text: str | None) -> None:
    """Somebody changes a record by hand; its version stays."""
    body = None if text is None else SCHEMA["logs"].codec.encode(a_log(key, text))
    version = store._state.tables["logs"].version(key)
    row = ChangedRow("logs", key, version or 1, body)
    with store._lock:
        store._state.install(Effect(rows=(row,)))
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
    assert pair.store._sampler.wait(20)

    compared = pair.store.compared()

    assert compared.sampled == compared.compared == 52
    assert compared.dropped == compared.skipped == compared.confirmed == 0
    assert pair.store.divergences() == ()


def test_a_live_writer_raises_no_false_alarm(place: Place, pair: Process) -> None:
    """Where a comparison that does not look twice raises one in fifty."""
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            pair.put("a", f"{(n := n + 1)}")

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3_000):
        pair.get("a")
        if pair.store._sampler._notes.qsize() > 500:
            pair.store._sampler.wait(1)
    stop.set()
    writer.join()
    assert pair.store._sampler.wait(60)

    assert pair.store.compared().compared > 1_000
    assert pair.store.compared().confirmed == 0
    assert pair.store.divergences() == ()


def test_a_write_that_is_only_on_its_way_is_not_reported(
    place: Place, pair: Process
) -> None:
    pair.put("a", "1")
    pair.store._relay.stop(5)
    pair.store._breaker.failed("is tested")
    pair.put("a", "2")
    pair.store._breaker._is_open = False  # as if it had just come back

    pair.get("a")

    assert pair.store._sampler.wait(20)
    assert pair.store.compared().rechecked == 1
    assert pair.store.divergences() == ()


@pytest.mark.parametrize("read", ["get", "find", "count"])
def test_a_damaged_record_is_found_whatever_read_meets_it(
    place: Place, pair: Process, read: str
) -> None:
    pair.put("a", "right")
    pair.store.catch_up()
    damage(place.postgres, "a", "wrong" if read != "count" else None)

    match read:
        case "get":
            pair.get("a")
        case "find":
            pair.store.collection(Log).find(field("id") == "a")
        case _:
            pair.store.collection(Log).count()
    assert pair.store._sampler.wait(30)

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

    assert pair.store._sampler.wait(30)
    assert [found.kind for found in pair.store.divergences()] == [kind]


def test_what_was_found_is_forgotten_once_it_is_equal(
    place: Place, pair: Process
) -> None:
    pair.put("a", "1")
    pair.store.catch_up()
    damage(place.postgres, "a", "wrong")
    pair.get("a")
    assert pair.store._sampler.wait(20)
    assert len(pair.store.divergences()) == 1

    pair.put("a", "2")
    pair.get("a")

    assert pair.store._sampler.wait(20)
    assert pair.store.divergences() == ()


def test_comparing_never_delays_fails_or_changes_a_read() -> None:
    """With a secondary that hangs."""
    slow = SlowStore(MemoryStore(SCHEMA))
    store = DualWriteStore(
        json=MemoryStore(SCHEMA), postgres=slow, compare=1.0, relay_interval=None
    )
    store.switch(Phase.PARALLEL)
    store.collection(Log).put(a_log("a", "1"))
    with slow.holding("read", "query", "count") as gate:
        begun = time.monotonic()
        for _ in range(3_000):
            assert store.collection(Log).get("a") == a_log("a", "1")
        seconds = time.monotonic() - begun
        gate.wait_until_reached()
        compared = store.compared()

    assert seconds < 2.0
    assert compared.sampled == 3_000
    assert compared.dropped >= 1_900
    store.close()


def test_a_secondary_that_fails_is_skipped_and_not_reported() -> None:
    faulty = FaultyStore(MemoryStore(SCHEMA))
    store = DualWriteStore(
        json=MemoryStore(SCHEMA), postgres=faulty, compare=1.0, relay_interval=None
    )
    store.switch(Phase.PARALLEL)
    store.collection(Log).put(a_log("a", "1"))
    faulty.fail("read", times=None)

    assert store.collection(Log).get("a") == a_log("a", "1")

    assert store._sampler.wait(20)
    assert store.compared().skipped == 1
    assert store.divergences() == ()
    store.close()


def test_only_a_share_of_the_reads_is_compared(place: Place) -> None:
    process = Process(place, compare=0.1)
    process.store.switch(Phase.PARALLEL)
    for _ in range(2_000):
        process.get("a")

    assert 100 < process.store.compared().sampled < 320
    process.store.close()


def test_differences_can_be_ignored_and_are_hidden_by_default() -> None:
    rules = Rules(["ships.extra.session", "*.remark"])
    left = a_ship("s1", remark="a", extra={"session": 1, "b": [1]}, crew=3)
    right = a_ship("s1", remark="b", extra={"session": 2, "b": [1, 2]}, crew=4)

    found = rules.differences("ships", left, right)

    assert {difference.path for difference in found} == {("crew",), ("extra", "b")}
    assert {difference.left for difference in found} == {"<int>", "<list of length 1>"}
    assert (
        Rules(["*.crew", "*.extra", "*.remark"]).differences("ships", left, right) == ()
    )


def test_a_validation_does_not_report_what_is_only_on_its_way(
    place: Place, pair: Process
) -> None:
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            pair.put(f"{(n := n + 1) % 5}", f"{n}")

    writer = threading.Thread(target=write)
    writer.start()
    reports = [pair.store.validate() for _ in range(10)]
    stop.set()
    writer.join()

    assert all(report.ok for report in reports)


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
    assert pair.store._sampler.wait(20)
    pair.store._breaker.failed("is tested")
    pair.put("a", "newer")

    pair.store.repair()

    assert place.postgres.collection(Log).get("a") == a_log("a", "newer")
    assert pair.store.divergences() == ()


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
    """Its version would stand in the way of every later write."""
    epoch = place.postgres.role().epoch
    ahead = ChangedRecord("logs", "a", 10**6, a_log("a", "from nowhere"))
    place.postgres.apply([ahead], epoch=epoch)

    report = pair.store.repair()

    assert [(r.key, r.action) for r in report.repairs] == [("a", "refused")]
    assert not report.ok


def test_a_ghost_that_blocks_the_relay_is_repaired_away(place: Place) -> None:
    store = DualWriteStore(
        json=place.json,
        postgres=Judging(place.postgres),
        relay_interval=None,
        validate=validate,
    )
    store.switch(Phase.PARALLEL, accept=CODES)
    row = SCHEMA["ships"].codec.encode(a_ship("ghost", call_sign="AB"))
    place.postgres._state.install(Effect(rows=(ChangedRow("ships", "ghost", 1, row),)))
    store.collection(Ship).put(a_ship("s", call_sign="AB"))
    with pytest.raises(UniqueViolation):
        store.catch_up()

    assert store.repair().repaired == 2
    store.catch_up()

    assert living(place.json) == living(place.postgres)
    store.close()
