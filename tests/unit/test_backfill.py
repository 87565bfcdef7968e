"""Copying one store into another: complete, repeatable, resumable, in bounded memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from typing_extensions import override

import pend_storage as ps
from pend_storage import crashpoints
from pend_storage.backfill import BACKFILL_META, BackfillReport, backfill
from pend_storage.backfill._collection_order import copy_order
from pend_storage.backfill._cursor import Cursor
from pend_storage.events import Event, Pace
from pend_storage.phases import ROLE_META
from pend_storage.records import ChangedRecord, LegacyFile, QuarantinedRecord, Row
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.faults import SlowStore


@dataclass(frozen=True)
class Owner:
    id: str
    name: str = ""
    phone: str | None = None


@dataclass(frozen=True)
class Note:
    id: str
    owner: str | None = None
    tags: list[ps.JSON] | None = None


SCHEMA = ps.Schema(
    [
        ps.collection("notes", Note, references={"owner": "owners"}),
        ps.collection("owners", Owner, unique=["phone"]),
    ]
)


def store(owners: int = 0) -> ps.MemoryStore:
    made = ps.MemoryStore(SCHEMA)
    for number in range(owners):
        made.collection(Owner).put(Owner(f"o{number:05}", name=f"Owner {number}"))
    return made


def rows(of: ps.Store) -> dict[tuple[str, str], Row]:
    return {
        (spec.name, row.key): row
        for spec in of.schema
        for row in of.scan(spec.name, deleted=True)
    }


def counts(report: BackfillReport) -> tuple[int, int, int]:
    return report.rows, report.written, report.unchanged


def test_everything_arrives_with_its_version_and_its_grave() -> None:
    source, target = store(1_234), store()
    source.collection(Note).put(Note("n", owner="o00001", tags=[1, None, "x"]))
    source.collection(Owner).delete("o00007")
    source.collection(QuarantinedRecord).put(waiting("q"))

    report = backfill(source, target)

    assert rows(target) == rows(source)
    assert counts(report) == (1_234, 1_234, 0)
    assert report.quarantined == 1
    assert report.collections["owners"].rows == 1_233
    assert not report.resumed


def test_a_second_run_changes_nothing() -> None:
    source, target = store(300), store()
    backfill(source, target)
    before = rows(target)

    report = backfill(source, target)

    assert rows(target) == before
    assert counts(report) == (300, 0, 300)
    assert not report.resumed


def test_what_changed_since_is_written_and_nothing_else() -> None:
    source, target = store(300), store()
    backfill(source, target)
    source.collection(Owner).put(Owner("o00005", name="changed"))
    source.collection(Owner).put(Owner("new"))
    source.collection(Owner).delete("o00009")

    report = backfill(source, target)

    assert rows(target) == rows(source)
    assert counts(report) == (300, 2, 298)
    assert report.deleted == 1


def test_a_newer_row_of_the_target_stays() -> None:
    source, target = store(3), store()
    newer = ChangedRecord("owners", "o00001", 1_000, Owner("o00001", name="newer"))
    grave = ChangedRecord("owners", "o00002", 1_000, None)
    target.apply([newer, grave])

    report = backfill(source, target)

    assert target.collection(Owner).get("o00001") == newer.record
    assert target.collection(Owner).get("o00002") is None
    assert counts(report) == (3, 1, 2)


def test_what_is_referred_to_comes_first() -> None:
    names = [spec.name for spec in copy_order(SCHEMA)]

    assert names == [
        "legacy_files",
        "owners",
        "notes",
        "quarantine",
        "findings",
        "audit",
    ]


def test_a_circle_of_references_is_ordered_all_the_same() -> None:
    circle = ps.Schema(
        [
            ps.collection("notes", Note, references={"owner": "owners"}),
            ps.collection("owners", Owner, references={"phone": "notes"}),
        ]
    )

    names = {spec.name for spec in copy_order(circle)}

    assert names == {
        "notes",
        "owners",
        "quarantine",
        "legacy_files",
        "findings",
        "audit",
    }


class _Dying(WrapperStore):
    """Fails at its n-th apply, before or after it has taken effect."""

    def __init__(self, inner: ps.Store, at: int, *, after: bool) -> None:
        super().__init__(inner)
        self._calls = itertools.count(1)
        self._at, self._after = at, after

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: ps.Advance | None = None,
    ) -> int:
        dying = next(self._calls) == self._at
        if dying and not self._after:
            raise ps.StoreUnavailable("gone", store="target")
        written = super().apply(records, epoch=epoch, mark=mark)
        if dying:
            raise ps.StoreUnavailable("gone", store="target", outcome_known=False)
        return written


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_interrupted_run_is_continued(at: int, *, after: bool) -> None:
    source, target = store(1_600), store()
    source.collection(Note).put_many([Note(f"n{n}") for n in range(20)])
    with pytest.raises(ps.StoreUnavailable):
        backfill(source, _Dying(target, at, after=after))

    report = backfill(source, target)

    assert rows(target) == rows(source)
    assert report.rows == 1_620
    assert report.resumed is (at > 1 or after)


def test_a_continued_run_does_not_apply_again_what_has_arrived() -> None:
    source, target = store(1_600), store()
    with pytest.raises(ps.StoreUnavailable):
        backfill(source, _Dying(target, 3, after=False))
    arrived = {key for _, key in rows(target)}
    recorder = _Recorder(target)

    backfill(source, recorder)

    assert len(arrived) >= 500
    assert arrived.isdisjoint(recorder.applied)


class _Recorder(WrapperStore):
    """Remembers what was applied, and in which sizes."""

    def __init__(self, inner: ps.Store) -> None:
        super().__init__(inner)
        self.applied: list[str] = []
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: ps.Advance | None = None,
    ) -> int:
        self.applied += [record.key for record in records]
        self.sizes.append(len(records))
        self.threads.add(threading.get_ident())
        return super().apply(records, epoch=epoch, mark=mark)


def test_what_was_written_behind_the_cursor_arrives_when_it_is_continued() -> None:
    source, target = store(1_600), store()
    with pytest.raises(ps.StoreUnavailable):
        backfill(source, _Dying(target, 3, after=False))
    source.collection(Owner).put(Owner("o00000", name="changed meanwhile"))
    source.collection(Owner).delete("o00001")
    source.collection(Owner).put(Owner("a new one, before the cursor"))

    backfill(source, target)

    assert rows(target) == rows(source)


def test_a_cursor_of_another_source_is_not_followed() -> None:
    target = store()
    with pytest.raises(ps.StoreUnavailable):
        backfill(store(1_600), _Dying(target, 3, after=False))
    other = store()
    other.collection(Owner).put_many(
        [Owner(f"o{n:05}", name="of the other") for n in range(1_600)]
    )
    recorder = _Recorder(target)

    report = backfill(other, recorder)

    assert not report.resumed
    assert set(recorder.applied) >= {f"o{n:05}" for n in range(1_600)}


def test_a_cursor_of_another_copying_order_is_not_followed() -> None:
    """Before, ``legacy_files`` came later: the cursor passed over none of them."""
    source, target = store(10), store()
    source.collection(LegacyFile).put(LegacyFile(file="a.json"))
    fresh = Cursor.begin(source, target)
    older: Any = replace(fresh, collection="owners", after="o00004", step=1).to_meta()
    del older["order"]
    assert target.compare_and_set_meta(BACKFILL_META, None, older)

    report = backfill(source, target)

    assert rows(target) == rows(source)
    assert not report.resumed


def test_a_cursor_that_makes_no_sense_is_begun_anew() -> None:
    source, target = store(10), store()
    target.compare_and_set_meta(BACKFILL_META, None, {"a": "later version"})

    report = backfill(source, target)

    assert rows(target) == rows(source)
    assert not report.resumed


def test_a_target_that_is_primary_refuses() -> None:
    source, target = store(10), store()
    target.compare_and_set_meta(ROLE_META, None, {"role": "primary", "epoch": 1})

    with pytest.raises(ps.StaleEpoch):
        backfill(source, target)

    assert rows(target) == {}


def test_the_epoch_is_the_one_that_the_target_must_have() -> None:
    source, target = store(10), store()
    target.compare_and_set_meta(ROLE_META, None, {"role": "secondary", "epoch": 4})

    with pytest.raises(ps.StaleEpoch):
        backfill(source, target, epoch=3)
    report = backfill(source, target, epoch=4)

    assert report.written == 10


def test_progress_grows_to_the_whole() -> None:
    seen: list[tuple[int, int]] = []

    backfill(store(2_000), store(), progress=lambda *pair: seen.append(pair))

    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (2_000, 2_000)
    assert len(seen) > 2


def test_a_rate_is_kept() -> None:
    report = backfill(store(700), store(), rate=2_000)

    assert report.seconds >= 0.3


class _Notes:
    """Records the progress of a backfill."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.paces: list[Pace] = []
        self.counts: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.counts.append((done, total))

    def pace(self, pace: Pace) -> None:
        self.paces.append(pace)


def test_why_it_waits_is_told_once_counted_and_in_the_pace() -> None:
    notes = _Notes()

    report = backfill(
        store(700), store(), rate=400, progress=notes, hook=notes.events.append
    )

    assert [event.name for event in notes.events] == ["backfill-throttled"]
    assert "(rate)" in notes.events[0].message
    assert set(report.throttled) == {"rate"}
    assert 0.05 <= report.throttled["rate"] <= report.seconds
    assert notes.paces[-1].throttled["rate"] > 0
    assert notes.paces[-1].seconds_left == 0.0
    assert notes.paces[0].rate > 0
    assert len(notes.paces) == len(notes.counts)


def test_it_waits_while_there_is_a_reason() -> None:
    notes = _Notes()
    reasons = iter(["lag", "lag", None])

    report = backfill(
        store(10), store(), hold=lambda: next(reasons, None), hook=notes.events.append
    )

    assert report.rows == 10
    assert set(report.throttled) == {"lag"}
    assert report.throttled["lag"] >= 0.1
    assert ["(lag)" in event.message for event in notes.events] == [True]


def test_no_reason_holds_it_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pend_storage.backfill._pacing._LONGEST_HOLD", 0.1)

    report = backfill(store(1_600), store(), hold=lambda: "lag")

    assert report.rows == 1_600
    assert report.throttled["lag"] >= 0.3


def test_a_slow_target_is_given_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_SMALLEST", 500), ("_LARGEST", 500)):
        monkeypatch.setattr(f"pend_storage.backfill._pacing.{name}", value)
    monkeypatch.setattr("pend_storage.backfill._pacing._SECONDS_PER_CHUNK", 0.01)
    slow = SlowStore(store(), {"apply": 0.05})

    report = backfill(store(1_000), slow)

    assert set(report.throttled) == {"slow-target"}
    assert report.throttled["slow-target"] >= 0.1


def test_nothing_holds_it_back_without_a_reason() -> None:
    notes = _Notes()

    report = backfill(store(700), store(), hook=notes.events.append)

    assert report.throttled == {}
    assert notes.events == []


def test_a_write_between_reading_and_applying_wins() -> None:
    """Also a deletion: an earlier read must not restore the record."""
    source, target = store(3), store()

    class Overtaken(WrapperStore):
        """Writes go to both stores as soon as its rows have been read."""

        @override
        def scan(self, collection: str, **options: Any) -> Iterator[Row]:
            yield from list(super().scan(collection, **options))
            if collection == "owners":
                people = source.collection(Owner)
                people.put(Owner("o00000", name="newer"))
                people.delete("o00001")
                target.apply([r for c in source.changes(3) for r in c.records])

    backfill(Overtaken(source), target)

    assert rows(target) == rows(source)
    assert target.collection(Owner).get("o00000") == Owner("o00000", name="newer")
    assert target.collection(Owner).get("o00001") is None


def test_chunks_grow_step_by_step_and_have_a_limit() -> None:
    recorder = _Recorder(store())

    backfill(store(12_000), recorder)

    pairs = itertools.pairwise(recorder.sizes)
    assert recorder.sizes[0] == 500
    assert all(later <= 2 * earlier for earlier, later in pairs)
    assert max(recorder.sizes) <= 5_000
    assert recorder.threads == {threading.get_ident()}


class _Endless(WrapperStore):
    """Gives rows without end, and counts them."""

    given = 0

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        for number in itertools.count():
            self.given = number
            yield Row(f"{number:09}", 1, Owner(f"{number:09}"))


def test_only_a_few_chunks_are_read_ahead_of_a_target_that_fails() -> None:
    source = _Endless(store())

    with pytest.raises(ps.StoreUnavailable):
        backfill(source, _Dying(store(), 4, after=False))

    assert source.given < 500 + 1_000 + 2_000 + 4_000 + 5_000 + 5_000


def test_a_failing_source_ends_the_run() -> None:
    source = store(10)
    broken = _Breaking(source)

    with pytest.raises(ps.CorruptFile):
        backfill(broken, store())


class _Breaking(WrapperStore):
    @override
    def scan(self, collection: str, **options: Any) -> Iterator[Row]:
        raise ps.CorruptFile("damaged", path="somewhere")


def test_the_end_is_durable_before_it_is_reported() -> None:
    target = store()
    complete: list[Any] = []

    def look(point: str) -> None:
        if point == "backfill.complete":
            complete.append(target.meta(BACKFILL_META))

    with crashpoints.handled(look):
        backfill(store(1), target)

    assert complete[0]["complete"] is True


class _Strict(WrapperStore):
    """Judges uniqueness at the end of every apply, as a database does."""

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: ps.Advance | None = None,
    ) -> int:
        wanted = {row.key: row.record for row in self.inner.scan("owners")}
        wanted |= {r.key: r.record for r in records if r.collection == "owners"}
        seen: dict[str, str] = {}
        for key, record in wanted.items():
            if record is None or record.phone is None:
                continue
            if record.phone in seen:
                late = next(
                    r.key for r in records if r.key in {key, seen[record.phone]}
                )
                raise ps.UniqueViolation(
                    collection="owners", fields=("phone",), key=late
                )
            seen[record.phone] = key
        return super().apply(records, epoch=epoch, mark=mark)


def test_a_swap_that_two_chunks_share_goes_through() -> None:
    source, target = store(1_000), store()
    people = source.collection(Owner)
    people.put_many([Owner("o00000", phone="1"), Owner("o00999", phone="2")])
    backfill(source, _Strict(target))
    people.put_many([Owner("o00000", phone=None), Owner("o00999", phone=None)])
    people.put_many([Owner("o00000", phone="2"), Owner("o00999", phone="1")])

    report = backfill(source, _Strict(target))

    assert rows(target) == rows(source)
    assert counts(report) == (1_000, 1, 999)


def test_a_value_held_by_a_record_unknown_to_the_source_is_an_error() -> None:
    source, target = store(2), store()
    source.collection(Owner).put(Owner("o00001", phone="1"))
    target.apply([ChangedRecord("owners", "ghost", 1, Owner("ghost", phone="1"))])

    with pytest.raises(ps.UniqueViolation):
        backfill(source, _Strict(target))


def waiting(identity: str, file: str = "notes.json") -> QuarantinedRecord:
    return QuarantinedRecord(
        id=identity,
        file=file,
        place="3",
        position=3,
        raw=b"{]",
        code="not-json",
        reason="it is not JSON",
        seen_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


class _Owned:
    """As much of a layout as counting needs: owners by the first letter of their key."""

    collection = "owners"

    def __init__(self, file: str, letter: str) -> None:
        self.file, self._letter = file, letter

    def owns(self, record: Any) -> bool:
        return bool(record.id.startswith(self._letter))


def test_records_are_counted_by_the_file_that_they_come_from() -> None:
    source: Any = store(5)
    source.layouts = (_Owned("o.json", "o"), _Owned("p.json", "p"))
    source.collection(Owner).put_many([Owner("p1"), Owner("p2"), Owner("none")])
    source.collection(QuarantinedRecord).put(waiting("1", "p.json"))
    source.collection(QuarantinedRecord).put(
        replace(waiting("2", "r.json"), status="accepted")
    )
    target = store()
    backfill(source, target)
    source.collection(Owner).put(Owner("p2", name="changed"))

    report = backfill(source, target)

    files = {
        name: (t.read, t.written, t.unchanged, t.quarantined)
        for name, t in report.files.items()
    }
    assert files == {
        "o.json": (5, 0, 5, 0),
        "p.json": (3, 1, 1, 1),
        "r.json": (1, 0, 0, 1),
    }
    assert report.quarantined == 2
