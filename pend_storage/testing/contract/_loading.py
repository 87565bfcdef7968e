"""Contract of ``load_snapshot``, ``load_changes`` and ``reserve_numbers``: restoring."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pend_storage._model.records import Change, ChangedRecord
from pend_storage._model.snapshots import StoredChange, StoredRecord, StoredRow
from pend_storage.errors import (
    ConfigError,
    CorruptFile,
    ReferenceViolation,
    UniqueViolation,
    UnknownCollection,
)
from pend_storage.phases import Role
from pend_storage.query import field
from pend_storage.store import Store
from pend_storage.testing.contract import _children as children
from pend_storage.testing.contract._harness import Harness, become, commit, requires
from pend_storage.testing.contract._snapshots import all_stored, fill
from pend_storage.testing.crash import Child
from pend_storage.testing.domain import (
    Log,
    Ship,
    a_berth,
    a_cargo,
    a_log,
    a_ship,
    a_tally,
)

__all__ = ["LoadChangesContract", "LoadSnapshotContract", "ReserveNumbersContract"]

_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rows_of(store: Store) -> list[tuple[str, StoredRow]]:
    """Return all rows of a snapshot, as ``load_snapshot`` takes them."""
    with store.snapshot() as reader:
        return [
            (spec.name, row) for spec in store.schema for row in reader.rows(spec.name)
        ]


def put(store: Store, record: Any, version: int) -> tuple[str, StoredRow]:
    """Build the stored row of a record."""
    spec = store.schema[type(record)]
    row = StoredRow(spec.key_of(record), version, spec.codec.encode(record))
    return spec.name, row


def stored_change(store: Store, change: Change) -> StoredChange:
    """Encode an entry of the change log."""

    def body(record: ChangedRecord) -> bytes | None:
        codec = store.schema[record.collection].codec
        return None if record.record is None else codec.encode(record.record)

    return StoredChange(
        sequence=change.sequence,
        epoch=change.epoch,
        at=change.at,
        records=tuple(StoredRecord(*r[:3], body(r)) for r in change.records),
        token=change.token,
        by=change.by,
        reason=change.reason,
    )


def stored_log(store: Store, after: int = 0) -> Iterator[StoredChange]:
    """Encode the entries of the change log after a sequence number."""
    return (stored_change(store, change) for change in store.changes(after))


class LoadSnapshotContract(Harness):
    """Contract of ``Store.load_snapshot``."""

    @requires("can_load")
    def test_a_loaded_store_equals_its_source(self, store: Store, other: Store) -> None:
        fill(store)
        rows = rows_of(store)

        assert other.load_snapshot(iter(rows)) == len(rows)

        assert all_stored(other) == all_stored(store)
        assert list(other.changes()) == []
        assert rows_of(other) == rows or sorted(rows_of(other)) == sorted(rows)

    @requires("can_load")
    def test_a_loaded_store_takes_commits_above_all_its_versions(
        self, store: Store, other: Store
    ) -> None:
        fill(store)
        top = max(row.version for _, row in rows_of(store)) + 10**12
        rows = [*rows_of(store), ("logs", StoredRow("far", top, None))]

        other.load_snapshot(rows)

        assert min(commit(other, a_log("far"), a_log("new"), a_tally("t"))) > top
        assert [r.key for c in other.changes() for r in c.records] == [
            "far",
            "new",
            "t",
        ]
        assert other.collection(Ship).get("s1") == store.collection(Ship).get("s1")

    @requires("can_load")
    def test_constraints_hold_in_a_loaded_store(
        self, store: Store, other: Store
    ) -> None:
        fill(store)
        other.load_snapshot(rows_of(store))

        with pytest.raises(UniqueViolation):
            commit(other, a_ship("s9", call_sign="AB"))
        with pytest.raises(UniqueViolation):
            commit(other, a_berth("b9", pier="b2", number=0))
        with pytest.raises(ReferenceViolation):
            commit(other, a_cargo("c9", ship_id="nowhere"))
        with pytest.raises(ReferenceViolation):
            commit(other, delete=[("berths", "b1")])
        commit(other, a_cargo("c9", ship_id="s2"), a_ship("s9", call_sign="XY"))

    @requires("can_load")
    def test_loaded_records_are_found(self, store: Store, other: Store) -> None:
        fill(store)
        other.load_snapshot(rows_of(store))

        ships = other.collection(Ship)
        assert ships.get_by("call_sign", "AB") == store.collection(Ship).get("s1")
        assert ships.count(field("berth_id") == "b1") == 1
        assert [s.id for s in ships.find(field("remark").contains("BREAK")).items] == [
            "s2"
        ]

    @requires("can_load")
    def test_collections_may_come_in_any_order(self, store: Store) -> None:
        count = store.load_snapshot(
            [
                put(store, a_cargo("c1", ship_id="s1"), 1),
                put(store, a_ship("s1", berth_id="b1"), 2),
                put(store, a_berth("b1", neighbour_id="b2"), 3),
                put(store, a_berth("b2"), 4),
            ]
        )

        assert count == 4
        assert store.read("cargo", ["c1"])["c1"].version == 1

    @requires("can_load")
    def test_nothing_can_be_loaded(self, store: Store) -> None:
        assert store.load_snapshot([]) == 0
        assert min(commit(store, a_log("a"))) > 0

    @requires("can_load")
    def test_thousands_of_rows_are_loaded_and_counted(self, store: Store) -> None:
        said: list[int] = []
        rows = (put(store, a_log(f"{n:05}", str(n)), n + 1) for n in range(12_000))

        count = store.load_snapshot(rows, progress=lambda done, _: said.append(done))

        assert count == 12_000
        assert said == sorted(said)
        assert said[-1] == 12_000
        assert store.collection(Log).count() == 12_000
        assert store.collection(Log).get("11999") == a_log("11999", "11999")

    @requires("can_load")
    def test_a_store_with_rows_is_refused(self, store: Store, other: Store) -> None:
        commit(store, a_log("a"))
        commit(other, a_log("b"))
        before = all_stored(other)

        with pytest.raises(ConfigError, match="empty"):
            other.load_snapshot(rows_of(store))

        assert all_stored(other) == before

    @requires("can_load")
    def test_a_store_with_a_tombstone_is_refused(
        self, store: Store, other: Store
    ) -> None:
        commit(store, a_log("a"))
        commit(other, a_log("b"))
        commit(other, delete=[("logs", "b")])

        with pytest.raises(ConfigError, match="empty"):
            other.load_snapshot(rows_of(store))

        assert other.collection(Log).get("a") is None

    @requires("can_load", "has_role")
    @pytest.mark.parametrize("role", list(Role))
    def test_a_store_with_a_role_is_refused(self, store: Store, role: Role) -> None:
        become(store, role, 1)

        with pytest.raises(ConfigError, match="role"):
            store.load_snapshot([put(store, a_log("a"), 1)])

        assert store.read("logs", ["a"], deleted=True) == {}

    @requires("can_load")
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id":1}', b'{"text":"x"}'])
    def test_a_body_that_is_no_record_is_refused(
        self, store: Store, body: bytes
    ) -> None:
        rows = [put(store, a_log("a"), 1), ("logs", StoredRow("b", 2, body))]

        with pytest.raises(CorruptFile):
            store.load_snapshot(rows)

    @requires("can_load")
    def test_rows_of_an_unknown_collection_cannot_be_loaded(self, store: Store) -> None:
        with pytest.raises(UnknownCollection):
            store.load_snapshot([("nothing", StoredRow("a", 1, b"{}"))])

    @requires("can_load", "durable")
    def test_what_was_loaded_is_there_after_reopening(
        self, store: Store, other: Store
    ) -> None:
        fill(store)
        wanted = all_stored(store)
        other.load_snapshot(rows_of(store))

        again = self.reopen(other)
        try:
            assert all_stored(again) == wanted
            top = max(row.version for rows in wanted.values() for row in rows)
            assert min(commit(again, a_log("new"))) > top
        finally:
            again.close()


class LoadChangesContract(Harness):
    """Contract of ``Store.load_changes``."""

    @requires("can_load", "has_role")
    def test_a_snapshot_and_the_log_after_it_give_the_source(
        self, store: Store, other: Store
    ) -> None:
        fill(store)
        with store.snapshot() as reader:
            after = reader.point.sequence
            rows = [(s.name, r) for s in store.schema for r in reader.rows(s.name)]
        commit(store, a_ship("s1", call_sign="NEW"), a_ship("s3", call_sign="AB"))
        commit(store, a_tally("t", 3), delete=[("logs", "ü")])
        commit(store, a_log("gone", "back"), delete=[("cargo", "c1")])
        commit(store, delete=[("ships", "s2"), ("tallies", "t")])

        other.load_snapshot(rows)
        assert other.load_changes(stored_log(store, after)) == 4

        assert all_stored(other) == all_stored(store)
        assert list(other.changes()) == []
        with pytest.raises(UniqueViolation):
            commit(other, a_ship("s9", call_sign="AB"))

    @requires("can_load", "has_role")
    def test_a_whole_log_gives_the_source(self, store: Store, other: Store) -> None:
        fill(store)
        for n in range(10):
            commit(store, a_ship("s5", call_sign=f"A{n}"), a_tally("u", n))
            commit(store, delete=[("ships", "s5")])

        log = list(stored_log(store))
        assert other.load_changes(iter(log)) == len(log)

        assert all_stored(other) == all_stored(store)

    @requires("can_load")
    def test_only_what_is_newer_is_loaded(self, store: Store) -> None:
        store.load_snapshot(
            [put(store, a_log("a", "ten"), 10), put(store, a_log("b"), 9)]
        )

        store.load_changes(
            [
                changed(store, 8, ("a", "late"), ("c", "new")),
                changed(store, 11, ("b", None)),
                changed(store, 10, ("a", "same"), ("b", "late")),
            ]
        )

        rows = store.read("logs", "abc", deleted=True)
        assert {k: (r.version, r.record) for k, r in rows.items()} == {
            "a": (10, a_log("a", "ten")),
            "b": (11, None),
            "c": (8, a_log("c", "new")),
        }

    @requires("can_load")
    def test_the_same_changes_may_be_loaded_again(self, store: Store) -> None:
        changes = [changed(store, n, (f"{n % 7}", str(n))) for n in range(1, 40)]
        store.load_changes(changes)
        before = all_stored(store)

        assert store.load_changes(changes) == len(changes)
        assert all_stored(store) == before

    @requires("can_load")
    def test_thousands_of_changes_are_loaded(self, store: Store) -> None:
        changes = (
            changed(store, n, (f"{n % 1500:05}", str(n))) for n in range(1, 12_001)
        )

        assert store.load_changes(changes) == 12_000

        assert store.collection(Log).count() == 1500
        assert store.collection(Log).get("00000") == a_log("00000", "12000")
        assert min(commit(store, a_log("new"))) > 12_000

    @requires("can_load")
    def test_nothing_changes_nothing(self, store: Store) -> None:
        assert store.load_changes([]) == 0

    @requires("can_load", "has_role")
    @pytest.mark.parametrize("role", list(Role))
    def test_a_store_with_a_role_takes_no_changes(
        self, store: Store, role: Role
    ) -> None:
        become(store, role, 1)

        with pytest.raises(ConfigError, match="role"):
            store.load_changes([changed(store, 1, ("a", "x"))])

        assert store.read("logs", ["a"], deleted=True) == {}

    @requires("can_load")
    def test_a_change_that_is_no_record_is_refused(self, store: Store) -> None:
        good = changed(store, 1, ("a", "x"))
        bad = StoredRecord("logs", "b", 2, b'{"id":1}')

        with pytest.raises(CorruptFile):
            store.load_changes(
                [StoredChange(sequence=2, epoch=0, at=good.at, records=(bad,))]
            )

    @requires("can_load", "durable")
    def test_changes_are_there_after_reopening(self, store: Store) -> None:
        store.load_changes(
            [changed(store, 5, ("a", "x")), changed(store, 6, ("b", None))]
        )
        before = all_stored(store)

        again = self.reopen(store)
        try:
            assert all_stored(again) == before
        finally:
            again.close()


def changed(store: Store, sequence: int, *logs: tuple[str, str | None]) -> StoredChange:
    """Build an entry of a change log: logs with their text; None deletes."""
    records = [
        ChangedRecord("logs", key, sequence, None if text is None else a_log(key, text))
        for key, text in logs
    ]
    change = Change(sequence, 0, _AT, tuple(records))
    return stored_change(store, change)


class ReserveNumbersContract(Harness):
    """Contract of ``Store.reserve_numbers``."""

    @requires("can_reserve")
    def test_no_number_up_to_it_is_given_again(self, store: Store) -> None:
        last = max(commit(store, a_log("a"), a_tally("t")))
        above = last + 10**9

        store.reserve_numbers(above)

        versions = commit(store, a_log("a", "2"), a_log("b"), delete=[("tallies", "t")])
        assert min(versions) > above
        assert list(store.changes())[-1].sequence > above
        assert store.head() > above

    @requires("can_reserve")
    def test_a_feed_sees_later_commits_from_every_position(self, store: Store) -> None:
        last = max(commit(store, a_log("a")))
        above = last + 10**9

        store.reserve_numbers(above)
        commit(store, a_log("b"))
        commit(store, a_log("c"))

        assert keys_after(store, 0) == ["a", "b", "c"]
        for after in (last, last + 1, above - 1, above):
            assert keys_after(store, after) == ["b", "c"]
        assert store.pending(above).commits == store.pending(last + 1).commits == 2

    @requires("can_reserve")
    def test_a_lower_number_changes_nothing(self, store: Store) -> None:
        commit(store, a_log("a"))
        store.reserve_numbers(10**9)
        (first,) = commit(store, a_log("b"))

        for above in (0, 1, 10**9, first):
            store.reserve_numbers(above)

        assert min(commit(store, a_log("c"))) > first
        assert keys_after(store, 0) == ["a", "b", "c"]

    @requires("can_reserve")
    def test_it_can_be_repeated_and_raised(self, store: Store) -> None:
        for above in (10**9, 10**9, 10**12, 10**10):
            store.reserve_numbers(above)

        assert min(commit(store, a_log("a"))) > 10**12
        assert all_stored(store)["logs"][0].key == "a"
        assert len([r for rows in all_stored(store).values() for r in rows]) == 1

    @requires("can_reserve", "has_role")
    @pytest.mark.parametrize("role", list(Role))
    def test_numbers_are_reserved_in_every_role(self, store: Store, role: Role) -> None:
        become(store, role, 3)

        store.reserve_numbers(10**9)
        become(store, Role.PRIMARY, 5)

        assert min(commit(store, a_log("a"))) > 10**9

    @requires("can_reserve", "can_load", "has_role")
    def test_a_restored_store_gives_no_number_twice(
        self, store: Store, other: Store
    ) -> None:
        fill(store)
        rows = rows_of(store)
        after = store.head()
        for n in range(5):
            commit(store, a_log("lost", str(n)), a_tally(f"lost{n}", n))
        lost = {r.version for c in store.changes(after) for r in c.records}
        read_upto = max(lost)

        other.load_snapshot(rows)
        other.reserve_numbers(store.head())
        versions = [
            v for n in range(5) for v in commit(other, a_log(f"{n}"), a_tally("t", n))
        ]

        assert not lost & set(versions)
        assert min(versions) > read_upto
        assert keys_after(other, read_upto) == [
            "0",
            "t",
            "1",
            "t",
            "2",
            "t",
            "3",
            "t",
            "4",
            "t",
        ]

    @requires("can_reserve", "durable")
    def test_reserved_numbers_stay_reserved_after_reopening(self, store: Store) -> None:
        last = max(commit(store, a_log("a")))
        store.reserve_numbers(10**12)

        again = self.reopen(store)
        try:
            assert min(commit(again, a_log("b"))) > 10**12
            assert keys_after(again, last) == ["b"]
        finally:
            again.close()

    @requires("can_reserve", "multi_process")
    def test_another_process_has_reserved_numbers_too(self, store: Store) -> None:
        function, arguments = self.opener(store)
        with Child(children.commit_before_and_after, function, arguments) as child:
            (first,) = child.wait_for_reports(1)
            store.reserve_numbers(first + 10**9)
            store.collection(Log).put(a_log("go"))
            outcome = child.finish()

        assert outcome.reports[1] > first + 10**9

    def test_what_cannot_reserve_says_so(self, store: Store) -> None:
        if self.can_reserve:
            pytest.skip(f"{type(self).__name__}.can_reserve is True")
        with pytest.raises(ConfigError, match="number"):
            store.reserve_numbers(1)


def keys_after(store: Store, after: int) -> list[str]:
    """Return the keys of the records in the change log after a sequence number."""
    return [record.key for change in store.changes(after) for record in change.records]
