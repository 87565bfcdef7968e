"""Findings: rows that every process sees, that end, and that are bounded in number."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from pend_storage._model.diff import ABSENT, Difference
from pend_storage._shown import cut
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.dualwrite._divergence_check import Finding, Kind
from pend_storage.dualwrite._divergence_registry import DivergenceRegistry
from pend_storage.dualwrite._relay_schedule import RelaySchedule
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Event
from pend_storage.phases import Phase
from pend_storage.query import field
from pend_storage.records import (
    EDITED,
    ChangedRecord,
    FindingRecord,
    QuarantinedRecord,
)
from pend_storage.schema import FINDINGS, QUARANTINE
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import FaultyStore
from pend_storage.validation import validate

from .processes import Place, Process
from .test_divergence_check import damage

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def one(place: Place) -> Iterator[Process]:
    """In the phase parallel, every read compared, one record damaged."""
    process = Process(place, compare=1.0, secondary_timeout=5.0, relay_interval=0.01)
    process.store.switch(Phase.PARALLEL)
    process.put("a", "right")
    process.store.catch_up()
    damage(place.postgres, "a", "a wrong secret")
    yield process
    process.store.close()


@pytest.fixture
def another(place: Place, one: Process) -> Iterator[Process]:
    """On the same two stores; it compares no reads."""
    process = Process(place)
    yield process
    process.store.close()


def find(process: Process) -> Finding:
    """Have a compared read find what is wrong."""
    process.get("a")
    assert process.store._shadow_reads.wait(30)
    (found,) = process.store.divergences()
    return found


def states(process: Process) -> list[str]:
    return [found.state for found in process.store.divergences(closed=True)]


def a_finding(key: str, *, kind: Kind = "different", age: float = 0.0) -> Finding:
    seen = _NOW - timedelta(seconds=age)
    return Finding(
        collection="logs",
        key=key,
        kind=kind,
        versions=(1, 1),
        first_seen=seen,
        last_seen=seen,
    )


def a_registry(
    process: Process, *, most: int = 1_000, hook: Callable[[Event], None] | None = None
) -> DivergenceRegistry:
    hook = hook or process.events.append
    return DivergenceRegistry(
        process.store._router, hook, RelaySchedule(hook, 1.0), most=most
    )


def test_what_one_process_finds_every_other_one_sees(
    one: Process, another: Process
) -> None:
    found = find(one)

    assert another.store.divergences() == (found,)
    assert (found.collection, found.key, found.kind) == ("logs", "a", "different")
    assert (found.source, found.state) == ("read", "open")


def test_it_survives_the_process_and_every_switch(one: Process) -> None:
    found = find(one)

    one.restart()
    for phase in (Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY, Phase.POSTGRES_PRIMARY):
        one.store.switch(phase, accept=CODES)
        assert one.store.divergences() == (found,)
    one.store.switch(Phase.JSON_ONLY)

    assert one.store.divergences() == (found,)


def test_both_stores_hold_it(place: Place, one: Process) -> None:
    find(one)
    one.store.catch_up()

    rows = [list(s.scan(FINDINGS)) for s in (place.json, place.postgres)]

    assert len(rows[0]) == 1
    assert rows[0] == rows[1]


def test_no_value_gets_into_it(place: Place, one: Process) -> None:
    find(one)

    (row,) = place.json.scan(FINDINGS)

    assert row.record.differences == [
        {
            "path": ["text"],
            "left": "<str of length 5>",
            "right": "<str of length 14>",
        }
    ]
    assert "secret" not in repr(row)


def test_a_validation_writes_down_what_it_finds(one: Process, another: Process) -> None:
    report = one.store.validate()

    (found,) = another.store.divergences()
    (told,) = report.divergences
    assert (found.key, found.source) == ("a", "validation")
    assert (told.versions, told.differences) == (found.versions, found.differences)


def test_a_repair_closes_it(one: Process, another: Process) -> None:
    find(one)

    another.store.repair(dry_run=True)
    before = states(one)
    another.store.repair()

    assert before == ["open"]
    assert one.store.divergences() == ()
    assert states(one) == ["repaired"]


@pytest.mark.parametrize("sample", [None, 0.0])
def test_a_validation_closes_what_is_equal_again(
    one: Process, another: Process, sample: float | None
) -> None:
    """Also one that by chance has compared other records."""
    find(one)
    one.put("a", "anew")

    another.store.validate(sample=sample)

    assert states(one) == ["gone"]


def test_a_read_closes_what_is_equal_again(one: Process) -> None:
    find(one)
    one.put("a", "anew")

    one.get("a")
    assert one.store._shadow_reads.wait(30)

    assert states(one) == ["gone"]


def test_what_still_differs_stays_open(one: Process, another: Process) -> None:
    found = find(one)

    another.store.validate()

    (again,) = another.store.divergences()
    assert again.first_seen == found.first_seen
    assert again.last_seen > found.last_seen
    assert again.source == "read"


def test_what_comes_back_begins_anew(place: Place, one: Process) -> None:
    first = find(one)
    one.store.repair()
    damage(place.postgres, "a", "wrong again")

    again = find(one)

    assert again.first_seen > first.last_seen
    assert states(one) == ["open"]


def test_what_is_seen_again_and_again_is_not_written_each_time(
    place: Place, one: Process
) -> None:
    find(one)
    head = place.json.head()

    for _ in range(20):
        one.get("a")
    assert one.store._shadow_reads.wait(30)

    assert one.store.compared().confirmed == 21
    assert place.json.head() == head


def test_an_answer_that_was_wrong_is_good_when_all_records_are(
    place: Place, one: Process
) -> None:
    damage(place.postgres, "a", None)
    one.store.collection(Log).count()
    assert one.store._shadow_reads.wait(30)
    (found,) = one.store.divergences()
    assert found.kind == "answer"

    one.store.validate()
    kinds = [item.kind for item in one.store.divergences()]
    one.store.repair()

    assert sorted(kinds) == ["answer", "missing"]
    assert one.store.divergences() == ()


def test_open_findings_stand_in_the_way_of_a_forward_switch(one: Process) -> None:
    one.store.repair()
    assert one.store.validate().ok
    damage(one.place.postgres, "a", "wrong again")
    find(one)

    found = one.store.readiness(Phase.POSTGRES_PRIMARY).blockers

    assert "1 records were found to diverge" in found[0].sentence
    assert found[0].code == "validation"


def test_findings_are_not_compared_themselves(place: Place, one: Process) -> None:
    find(one)
    one.store.catch_up()
    (row,) = place.postgres.scan(FINDINGS)
    wrong = replace(row.record, state="gone")
    epoch = place.postgres.role().epoch
    place.postgres.apply(
        [ChangedRecord(FINDINGS, row.key, row.version + 1, wrong)], epoch=epoch
    )
    sampled = one.store.compared().sampled

    findings = one.store.collection(FindingRecord)
    assert findings.get(row.key) == row.record
    assert findings.count() == len(findings.find().items) == 1

    assert one.store.compared().sampled == sampled
    assert [d.collection for d in one.store.validate().divergences] == ["logs"]


def test_there_are_only_so_many(place: Place, one: Process) -> None:
    events: list[Event] = []
    registry = a_registry(one, most=5, hook=events.append)

    registry.record(a_finding(f"k{n}") for n in range(8))
    registry.record([a_finding("one more")])

    assert len(registry.findings()) == place.json.collection(FindingRecord).count() == 5
    assert [event.name for event in events] == ["findings-full", *["divergence"] * 5]


def test_closed_ones_make_room_and_the_oldest_first(one: Process) -> None:
    registry = a_registry(one, most=4)
    registry.record(a_finding(f"k{n}", age=10 - n) for n in range(4))
    registry.record_repaired([("logs", "k1"), ("logs", "k2")])

    registry.record([a_finding("new")])

    assert {f.key for f in registry.findings(closed=True)} == {"k0", "k2", "k3", "new"}


def test_two_who_find_the_same_make_one_row(place: Place, one: Process) -> None:
    books = [a_registry(one) for _ in range(4)]
    start = threading.Barrier(4)

    def report(registry: DivergenceRegistry) -> None:
        start.wait(30)
        registry.record(a_finding(f"k{n}") for n in range(150))

    threads = [threading.Thread(target=report, args=(registry,)) for registry in books]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(books[0].findings()) == 150
    assert "findings-not-kept" not in {event.name for event in one.events}


def test_one_that_cannot_be_written_is_told_and_not_raised() -> None:
    events: list[Event] = []
    faulty = FaultyStore(MemoryStore(SCHEMA))
    store = DualWriteStore(
        json=faulty,
        postgres=MemoryStore(SCHEMA),
        relay_interval=None,
        hook=events.append,
    )
    store.switch(Phase.PARALLEL)
    faulty.fail("commit", times=None)

    store._registry.record([a_finding("k")])
    faulty.heal()
    store._registry.record([a_finding("k")])

    assert [e.name for e in events] == ["findings-not-kept", "divergence"]
    assert len(store.divergences()) == 1
    store.close()


def test_the_primary_must_be_there_to_see_them(one: Process) -> None:
    one.json.is_cut = True

    with pytest.raises(StoreUnavailable):
        one.store.divergences()
    one.json.is_cut = False


def test_a_difference_of_any_value_can_be_kept(one: Process) -> None:
    long = Difference(("text",), "x" * 10_000, [1, {"a": b"x"}])
    odd = Difference(("tags", 3), ABSENT, Decimal("1.50"))
    many = (long, odd, *[Difference(("n",), 10**30, None)] * 50)
    one.store._registry.record([replace(a_finding("k"), differences=many)])

    (found,) = one.store.divergences()

    assert len(found.differences) == 20
    assert found.differences[0].left == cut("x" * 10_000)
    assert found.differences[1] == Difference(("tags", 3), "absent", "1.50")
    assert found.differences[2] == many[2]


# -- edits of legacy files ---------------------------------------------------------------


class Site:
    """A directory that is secondary to another store, and whose files are edited."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.json = JsonStore(SCHEMA, directory, checkpoint_interval=None)
        self.postgres = MemoryStore(SCHEMA)
        self.store = DualWriteStore(
            json=self.json,
            postgres=self.postgres,
            relay_interval=None,
            secondary_timeout=None,
            backfill=backfill,
            validate=validate,
        )
        self.store.collection(Log).put_many([a_log("a", "1"), a_log("b", "1")])
        self.store.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
        self.json.checkpoint()

    def edit(self, records: dict[str, str]) -> None:
        file = self.directory / "logs.json"
        content = {k: {"id": k, "text": text} for k, text in records.items()}
        file.write_text(json.dumps(content))
        os.utime(file, (1_000_000_000, 1_000_000_000))
        self.json.checkpoint()

    def shown(self) -> dict[str, str]:
        content = json.loads((self.directory / "logs.json").read_text())
        return {key: member["text"] for key, member in content.items()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "data")
    yield made
    made.store.close()


def test_an_edit_while_json_is_secondary_is_a_finding(site: Site) -> None:
    site.edit({"a": "edited", "c": "new"})

    report = site.store.validate()

    assert report.ok
    found = {f.key: f for f in site.store.divergences(closed=True)}
    assert {key: (f.kind, f.state) for key, f in found.items()} == {
        "a": ("different", "open"),
        "b": ("missing", "repaired"),
        "c": ("extra", "open"),
    }
    assert {f.source for f in found.values()} == {"edit"}
    assert site.shown() == {"a": "1", "b": "1"}


def test_what_an_edit_said_is_in_quarantine_on_both_sides(site: Site) -> None:
    site.edit({"a": "edited", "b": "1"})
    site.store.validate()
    site.store.repair()
    site.store.catch_up()

    sides = [{r.key: r for r in s.scan(QUARANTINE)} for s in (site.json, site.postgres)]

    (row,) = sides[1].values()
    assert sides[0] == sides[1]
    assert b"edited" in row.record.raw
    assert [f.state for f in site.store.divergences()] == ["open"]


def test_a_repair_does_not_take_away_what_was_not_brought_over_yet(site: Site) -> None:
    """Like an edit in the middle of it."""
    site.store._maintenance._edits.sync = lambda route: None  # type: ignore[method-assign]  # noqa: ARG005
    site.edit({"a": "edited", "b": "1"})

    report = site.store.repair()

    assert [(r.collection, r.action) for r in report.repairs] == [(QUARANTINE, "none")]
    assert site.json.collection(QuarantinedRecord).count() == 1


def test_an_edit_that_was_settled_in_quarantine_is_accepted(site: Site) -> None:
    site.edit({"a": "edited", "b": "1"})
    site.store.validate()
    aside = site.store.collection(QuarantinedRecord)
    (record,) = aside.find().items
    aside.put(replace(record, status="accepted", note="not wanted"))

    site.store.validate()
    site.store.catch_up()

    assert [f.state for f in site.store.divergences(closed=True)] == ["accepted"]
    assert site.json.collection(QuarantinedRecord).get(record.id) == aside.get(
        record.id
    )


def test_the_relay_brings_edits_over_by_itself(site: Site) -> None:
    site.edit({"a": "edited", "b": "1"})
    relay = site.store._relay
    relay._edits_synced -= 60.0

    relay._run_once(mine=True)

    assert [f.key for f in site.store.divergences()] == ["a"]
    aside = site.postgres.collection(QuarantinedRecord)
    assert [r.place for r in aside.find(field("code") == EDITED).items] == ["a"]
