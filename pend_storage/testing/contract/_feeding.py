"""Contract of ``apply``: following the change log of another store."""

from __future__ import annotations

from typing import Any

import pytest

from pend_storage._model.records import JSON, Advance, ChangedRecord, Row
from pend_storage.errors import StaleEpoch, StalePosition
from pend_storage.phases import Role
from pend_storage.query import field
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, become, commit
from pend_storage.testing.domain import (
    Log,
    Ship,
    a_berth,
    a_log,
    a_ship,
    a_tally,
)

__all__ = ["ApplyContract", "FollowContract"]


def put(key: str, version: int, text: str = "") -> ChangedRecord:
    """Build a change that puts a log."""
    return ChangedRecord("logs", key, version, a_log(key, text))


def deleted(key: str, version: int) -> ChangedRecord:
    """Build a change that deletes a log."""
    return ChangedRecord("logs", key, version, None)


def all_rows(store: Store) -> dict[str, list[Row]]:
    """Return all rows of a store by collection, tombstones included."""
    return {
        spec.name: list(store.scan(spec.name, deleted=True)) for spec in store.schema
    }


class ApplyContract(Harness):
    """Contract of ``Store.apply``."""

    def test_rows_keep_the_versions_that_they_come_with(self, secondary: Store) -> None:
        count = secondary.apply([put("a", 41), deleted("b", 42)])

        assert count == 2
        assert secondary.read("logs", ["a", "b"], deleted=True) == {
            "a": Row("a", 41, a_log("a")),
            "b": Row("b", 42, None),
        }

    def test_nothing_is_nothing(self, secondary: Store) -> None:
        assert secondary.apply([]) == 0

    def test_only_what_is_newer_is_written(self, secondary: Store) -> None:
        secondary.apply([put("a", 10, "ten"), put("b", 10, "ten")])

        count = secondary.apply(
            [put("a", 9, "late"), put("b", 11, "new"), put("a", 10, "same")]
        )

        assert count == 1
        assert secondary.read("logs", ["a", "b"]) == {
            "a": Row("a", 10, a_log("a", "ten")),
            "b": Row("b", 11, a_log("b", "new")),
        }

    def test_a_tombstone_keeps_older_records_out(self, secondary: Store) -> None:
        secondary.apply([deleted("a", 10)])

        assert secondary.apply([put("a", 9)]) == 0
        assert secondary.apply([put("a", 10)]) == 0
        assert secondary.collection(Log).get("a") is None
        assert secondary.apply([put("a", 11)]) == 1
        assert secondary.collection(Log).get("a") == a_log("a")

    def test_a_late_delete_does_not_remove_a_newer_record(
        self, secondary: Store
    ) -> None:
        secondary.apply([put("a", 10)])

        assert secondary.apply([deleted("a", 9)]) == 0
        assert secondary.apply([deleted("a", 10)]) == 0
        assert secondary.collection(Log).get("a") == a_log("a")

    def test_of_one_key_the_newest_counts_in_whatever_order(
        self, secondary: Store
    ) -> None:
        count = secondary.apply(
            [
                put("a", 1, "1"),
                put("b", 5, "5"),
                put("a", 3, "3"),
                put("b", 4, "4"),
                put("a", 2, "2"),
                put("c", 1),
                deleted("c", 2),
                deleted("d", 1),
                put("d", 2, "2"),
            ]
        )

        assert count == 4
        rows = secondary.read("logs", "abcd", deleted=True)
        assert {key: row.version for key, row in rows.items()} == {
            "a": 3,
            "b": 5,
            "c": 2,
            "d": 2,
        }
        assert rows["a"].record == a_log("a", "3")
        assert rows["b"].record == a_log("b", "5")
        assert rows["c"].record is None
        assert rows["d"].record == a_log("d", "2")

    def test_it_may_be_repeated_without_harm(self, secondary: Store) -> None:
        batch = [put("a", 1), put("a", 2, "new"), deleted("b", 3)]
        secondary.apply(batch)
        before = all_rows(secondary)

        assert secondary.apply(batch) == 0
        assert all_rows(secondary) == before

    def test_it_does_not_enter_the_change_log(self, secondary: Store) -> None:
        secondary.apply([put("a", 5)])

        assert list(secondary.changes()) == []

    def test_the_mark_is_set_with_the_data(self, secondary: Store) -> None:
        secondary.apply([put("a", 5)], mark=Advance("mark:json", None, {"sequence": 5}))

        assert secondary.meta("mark:json") == {"sequence": 5}

    def test_the_mark_is_set_even_if_nothing_was_newer(self, secondary: Store) -> None:
        secondary.apply([put("a", 5)], mark=Advance("m", None, 5))

        assert secondary.apply([put("a", 4)], mark=Advance("m", 5, 6)) == 0
        assert secondary.meta("m") == 6
        assert secondary.apply([], mark=Advance("m", 6, 7)) == 0
        assert secondary.meta("m") == 7

    @pytest.mark.parametrize("expected", [None, 4, 6, {"sequence": 5}])
    def test_a_position_moves_only_on_top_of_what_was_read(
        self, secondary: Store, expected: JSON
    ) -> None:
        secondary.apply([put("a", 5)], mark=Advance("m", None, 5))

        with pytest.raises(StalePosition) as caught:
            secondary.apply([put("b", 6)], mark=Advance("m", expected, 7))

        assert caught.value.name == "m"
        assert secondary.meta("m") == 5
        assert secondary.read("logs", ["b"], deleted=True) == {}

    def test_a_position_that_was_never_set_is_not_zero(self, secondary: Store) -> None:
        nothings: tuple[JSON, ...] = (0, "", False, {}, [])
        for expected in nothings:
            with pytest.raises(StalePosition):
                secondary.apply([put("b", 6)], mark=Advance("m", expected, 7))

        assert secondary.meta("m") is None
        assert secondary.read("logs", ["b"]) == {}

    def test_a_mark_that_was_set_from_a_tuple_is_expected_as_one(
        self, secondary: Store
    ) -> None:
        value: Any = {"at": (1, ())}
        stale: Any = {"at": (1,)}
        secondary.apply([put("a", 5)], mark=Advance("m", None, value))

        with pytest.raises(StalePosition):
            secondary.apply([put("b", 6)], mark=Advance("m", stale, 7))
        secondary.apply([put("b", 6)], mark=Advance("m", value, 7))

        assert secondary.meta("m") == 7

    def test_a_position_is_compared_for_thousands_of_rows_too(
        self, secondary: Store
    ) -> None:
        rows = [put(f"{n:05}", n + 1) for n in range(1500)]
        secondary.apply([], mark=Advance("m", None, 1))

        with pytest.raises(StalePosition):
            secondary.apply(rows, mark=Advance("m", 2, 3))
        assert secondary.collection(Log).count() == 0

        assert secondary.apply(rows, mark=Advance("m", 1, 2)) == 1500
        assert secondary.meta("m") == 2

    def test_a_position_may_be_removed(self, secondary: Store) -> None:
        secondary.apply([], mark=Advance("m", None, {"a": [1, None]}))
        secondary.apply([], mark=Advance("m", {"a": [1, None]}, None))

        assert secondary.meta("m") is None

    def test_the_role_is_looked_at_before_the_position(self, secondary: Store) -> None:
        become(secondary, Role.PRIMARY, 2)

        with pytest.raises(StaleEpoch):
            secondary.apply([], epoch=1, mark=Advance("m", 1, 2))

    def test_uniqueness_is_not_judged_on_the_way(self, secondary: Store) -> None:
        one, two = a_ship("s1", call_sign="AB"), a_ship("s2", call_sign="CD")
        secondary.apply(
            [ChangedRecord("ships", "s1", 1, one), ChangedRecord("ships", "s2", 2, two)]
        )

        secondary.apply(
            [
                ChangedRecord("ships", "s1", 3, a_ship("s1", call_sign="CD")),
                ChangedRecord("ships", "s2", 3, a_ship("s2", call_sign="AB")),
            ]
        )

        found = secondary.collection(Ship).get_by("call_sign", "AB")
        assert found == a_ship("s2", call_sign="AB")

    def test_references_may_come_in_any_order(self, secondary: Store) -> None:
        secondary.apply(
            [
                ChangedRecord("ships", "s1", 1, a_ship("s1", berth_id="b1")),
                ChangedRecord("berths", "b1", 2, a_berth("b1", neighbour_id="b2")),
                ChangedRecord("berths", "b2", 3, a_berth("b2")),
            ]
        )
        secondary.apply(
            [
                ChangedRecord("berths", "b2", 4, None),
                ChangedRecord("berths", "b1", 5, None),
                ChangedRecord("ships", "s1", 6, None),
            ]
        )

        assert secondary.collection(Ship).count() == 0

    def test_later_commits_grow_the_versions_that_were_applied(
        self, secondary: Store
    ) -> None:
        secondary.apply([put("a", 10**12), deleted("b", 10**12 + 1)])
        become(secondary, Role.PRIMARY, 2)

        versions = commit(secondary, a_log("a", "mine"), a_log("b"))

        assert versions[0] > 10**12
        assert versions[1] > 10**12 + 1

    def test_applied_records_can_be_found(self, secondary: Store) -> None:
        secondary.collection(Log).count(field("text") == "x")
        secondary.apply([put("a", 1, "x"), put("b", 2, "y")])
        secondary.apply([put("b", 3, "x"), deleted("a", 4)])

        found = secondary.collection(Log).find(field("text") == "x").items

        assert found == (a_log("b", "x"),)
        assert [log.id for log in secondary.collection(Log).scan()] == ["b"]

    def test_thousands_are_applied_at_once(self, secondary: Store) -> None:
        rows = [put(f"{n % 1500:05}", n + 1, str(n)) for n in range(3000)]

        assert secondary.apply(rows) == 1500
        assert secondary.collection(Log).get("00000") == a_log("00000", "1500")


class FollowContract(Harness):
    """Contract of a secondary that follows the primary's change log."""

    def test_a_follower_becomes_equal(self, store: Store, other: Store) -> None:
        become(other, Role.SECONDARY, 1)
        commit(store, a_berth("b1"), a_ship("s1", berth_id="b1", call_sign="AB"))
        commit(store, a_ship("s2", call_sign="CD", extra={"a": [1, None, "x"]}))
        commit(store, a_ship("s1", call_sign="CD"), a_ship("s2", call_sign="AB"))
        commit(store, delete=[("berths", "b1")])
        commit(store, a_berth("b1", number=0))

        at: JSON = None
        for change in store.changes():
            mark = Advance("mark", at, change.sequence)
            other.apply(change.records, mark=mark)
            at = change.sequence

        assert all_rows(other) == all_rows(store)
        assert other.meta("mark") == list(store.changes())[-1].sequence

    def test_a_follower_may_take_the_whole_log_at_once(
        self, store: Store, other: Store
    ) -> None:
        become(other, Role.SECONDARY, 1)
        for n in range(10):
            commit(store, a_ship("s1", call_sign=f"A{n}"), a_tally("t", n))
            commit(store, delete=[("ships", "s1")])
            commit(store, a_ship("s2", call_sign=f"A{n}"))

        other.apply([record for change in store.changes() for record in change.records])

        assert all_rows(other) == all_rows(store)

    def test_every_later_version_lies_above_the_head(self, store: Store) -> None:
        for n in range(3):
            head = store.head()

            assert min(commit(store, a_log("a", str(n)), a_log(f"{n}"))) > head

    def test_roles_may_be_exchanged_and_versions_go_on_growing(
        self, store: Store, other: Store
    ) -> None:
        become(other, Role.SECONDARY, 1)
        become(store, Role.PRIMARY, 1)
        versions = [commit(store, a_log("a"))[0]]
        for old, new, epoch in ((store, other, 2), (other, store, 3)):
            for change in old.changes():
                new.apply(change.records)
            become(old, Role.SECONDARY, epoch)
            become(new, Role.PRIMARY, epoch)
            versions += commit(new, a_log("a", str(epoch)))

        assert versions == sorted(set(versions))
