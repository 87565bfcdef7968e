"""Contract of constraints: uniqueness and references."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pend_storage.errors import Conflict, ReferenceViolation, UniqueViolation
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, commit
from pend_storage.testing.domain import (
    Berth,
    Cargo,
    Ship,
    a_berth,
    a_cargo,
    a_log,
    a_ship,
)

__all__ = ["ReferenceContract", "UniqueContract"]


class UniqueContract(Harness):
    """Contract of unique fields: two records never share a unique value or group."""

    def test_a_taken_value_is_refused(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put(a_ship("s1", call_sign="AB"))

        with pytest.raises(UniqueViolation) as caught:
            ships.put(a_ship("s2", call_sign="AB"))

        error = caught.value
        assert (error.collection, error.fields) == ("ships", ("call_sign",))
        assert error.key == "s2"
        assert ships.get("s2") is None

    def test_a_record_keeps_its_own_value(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put(a_ship("s1", call_sign="AB"))

        ships.put(a_ship("s1", call_sign="AB", crew=2))

        assert ships.get("s1") == a_ship("s1", call_sign="AB", crew=2)

    def test_nulls_are_never_taken(self, store: Store) -> None:
        ships = store.collection(Ship)

        ships.put_many([a_ship("s1"), a_ship("s2")])
        ships.put(a_ship("s3", call_sign=None))

        assert ships.count() == 3

    def test_a_value_that_was_changed_or_deleted_is_free(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put_many([a_ship("s1", call_sign="AB"), a_ship("s2", call_sign="CD")])
        ships.put(a_ship("s1", call_sign=None))
        ships.delete("s2")

        ships.put_many([a_ship("s3", call_sign="AB"), a_ship("s4", call_sign="CD")])

        assert ships.count() == 3

    def test_two_records_of_one_commit_may_not_share(self, store: Store) -> None:
        ships = store.collection(Ship)

        with pytest.raises(UniqueViolation) as caught:
            ships.put_many([a_ship("s2", call_sign="AB"), a_ship("s1", call_sign="AB")])

        assert caught.value.key == "s1"
        assert ships.count() == 0

    def test_two_records_may_swap_their_values_in_one_commit(
        self, store: Store
    ) -> None:
        ships = store.collection(Ship)
        ships.put_many([a_ship("s1", call_sign="AB"), a_ship("s2", call_sign="CD")])

        ships.put_many([a_ship("s1", call_sign="CD"), a_ship("s2", call_sign="AB")])

        assert ships.get_by("call_sign", "AB") == a_ship("s2", call_sign="AB")
        assert ships.get_by("call_sign", "CD") == a_ship("s1", call_sign="CD")

    def test_a_ring_of_records_may_pass_their_values_on(self, store: Store) -> None:
        ships, signs = store.collection(Ship), ["AA", "BB", "CC", "DD"]
        ships.put_many(a_ship(f"s{n}", call_sign=signs[n]) for n in range(4))

        ships.put_many(a_ship(f"s{n}", call_sign=signs[n - 1]) for n in range(4))

        found = [ships.get_by("call_sign", sign) for sign in signs]
        assert [ship and ship.id for ship in found] == ["s1", "s2", "s3", "s0"]

    def test_a_value_freed_by_a_delete_may_be_taken_in_the_same_commit(
        self, store: Store
    ) -> None:
        commit(store, a_ship("s1", call_sign="AB"))

        commit(store, a_ship("s2", call_sign="AB"), delete=[("ships", "s1")])

        assert store.collection(Ship).get_by("call_sign", "AB") == a_ship(
            "s2", call_sign="AB"
        )

    def test_a_value_taken_from_one_that_stays_is_refused_in_a_larger_commit(
        self, store: Store
    ) -> None:
        ships = store.collection(Ship)
        ships.put_many([a_ship("s1", call_sign="AB"), a_ship("s2", call_sign="CD")])

        with pytest.raises(UniqueViolation) as caught:
            ships.put_many([a_ship("s1", call_sign="CD"), a_ship("s3", call_sign="AB")])

        assert caught.value.key == "s1"
        assert ships.get("s3") is None

    def test_fields_that_are_unique_together_may_each_occur_again(
        self, store: Store
    ) -> None:
        berths = store.collection(Berth)

        berths.put(a_berth("b1", pier="north", number=1))
        berths.put(a_berth("b2", pier="north", number=2))
        berths.put(a_berth("b3", pier="south", number=1))
        with pytest.raises(UniqueViolation) as caught:
            berths.put(a_berth("b4", pier="south", number=1))

        assert caught.value.fields == ("pier", "number")
        assert caught.value.key == "b4"

    def test_a_null_among_fields_that_are_unique_together_is_exempt(
        self, store: Store
    ) -> None:
        berths = store.collection(Berth)

        berths.put_many([a_berth("b1", pier="north"), a_berth("b2", pier="north")])

        assert berths.count() == 2

    def test_case_and_accents_make_a_difference(self, store: Store) -> None:
        berths = store.collection(Berth)
        piers = ["north", "North", "n\u00f6rth", "no\u0308rth", "north ", ""]

        berths.put_many(a_berth(f"b{p}", pier=p, number=1) for p in piers)

        assert berths.count() == len(piers)

    def test_a_conflict_is_told_before_a_taken_value(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put(a_ship("s1", call_sign="AB"))

        with pytest.raises(Conflict):
            ships.put(a_ship("s2", call_sign="AB"), if_version=7)

    def test_the_first_field_that_is_taken_is_told(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put(a_ship("s1", call_sign="AB", fingerprint=b"12"))

        with pytest.raises(UniqueViolation) as caught:
            ships.put(a_ship("s2", call_sign="AB", fingerprint=b"12"))

        assert caught.value.fields == ("call_sign",)


class ReferenceContract(Harness):
    """Contract of references: a reference is null, or its target exists."""

    def test_a_reference_to_nothing_is_refused(self, store: Store) -> None:
        with pytest.raises(ReferenceViolation) as caught:
            store.collection(Ship).put(a_ship("s1", berth_id="b1"))

        error = caught.value
        assert (error.collection, error.field) == ("ships", "berth_id")
        assert (error.target, error.value) == ("berths", "b1")
        assert store.collection(Ship).get("s1") is None

    def test_a_reference_to_a_record_and_a_null_are_accepted(
        self, store: Store
    ) -> None:
        store.collection(Berth).put(a_berth("b1"))

        store.collection(Ship).put_many([a_ship("s1", berth_id="b1"), a_ship("s2")])

        assert store.collection(Ship).count() == 2

    def test_a_reference_to_a_deleted_record_is_refused(self, store: Store) -> None:
        store.collection(Berth).put(a_berth("b1"))
        store.collection(Berth).delete("b1")

        with pytest.raises(ReferenceViolation):
            store.collection(Ship).put(a_ship("s1", berth_id="b1"))

    @pytest.mark.parametrize("value", ["", "\U0001f6a2"])
    def test_a_reference_that_is_not_null_must_be_a_key(
        self, store: Store, value: str
    ) -> None:
        with pytest.raises(ReferenceViolation) as caught:
            store.collection(Ship).put(a_ship("s1", berth_id=value))

        assert caught.value.value == value

    def test_what_is_referred_to_is_not_deleted(self, store: Store) -> None:
        commit(store, a_berth("b1"), a_ship("s1", berth_id="b1"))

        with pytest.raises(ReferenceViolation) as caught:
            store.collection(Berth).delete("b1")

        error = caught.value
        assert (error.collection, error.field) == ("ships", "berth_id")
        assert (error.target, error.value) == ("berths", "b1")
        assert store.collection(Berth).get("b1") == a_berth("b1")

    def test_what_is_no_longer_referred_to_may_be_deleted(self, store: Store) -> None:
        ships, berths = store.collection(Ship), store.collection(Berth)
        commit(store, a_berth("b1"), a_berth("b2", number=2))
        ships.put_many([a_ship("s1", berth_id="b1"), a_ship("s2", berth_id="b2")])
        ships.put(a_ship("s1"))
        ships.delete("s2")

        assert berths.delete("b1")
        assert berths.delete("b2")

    @pytest.mark.parametrize("order", [1, -1])
    def test_target_and_referrer_may_be_written_in_one_commit_in_any_order(
        self, store: Store, order: int
    ) -> None:
        records = [a_berth("b1"), a_ship("s1", berth_id="b1"), a_cargo("c1")]

        commit(store, *records[::order])

        assert store.collection(Cargo).get("c1") == a_cargo("c1", ship_id="s1")

    @pytest.mark.parametrize("order", [1, -1])
    def test_target_and_referrer_may_be_deleted_in_one_commit_in_any_order(
        self, store: Store, order: int
    ) -> None:
        commit(store, a_berth("b1"), a_ship("s1", berth_id="b1"))

        commit(store, delete=[("berths", "b1"), ("ships", "s1")][::order])

        assert store.collection(Berth).count() == 0

    def test_a_referrer_may_move_away_in_the_commit_that_deletes_its_target(
        self, store: Store
    ) -> None:
        commit(store, a_berth("b1"), a_ship("s1", berth_id="b1"))

        commit(
            store,
            a_ship("s1", berth_id="b2"),
            a_berth("b2"),
            delete=[("berths", "b1")],
        )

        assert store.collection(Ship).get("s1") == a_ship("s1", berth_id="b2")

    def test_a_target_may_not_be_deleted_by_the_commit_that_refers_to_it(
        self, store: Store
    ) -> None:
        commit(store, a_berth("b1"))

        with pytest.raises(ReferenceViolation):
            commit(store, a_ship("s1", berth_id="b1"), delete=[("berths", "b1")])

        assert store.collection(Berth).count() == 1
        assert store.collection(Ship).count() == 0

    def test_a_record_may_refer_to_itself(self, store: Store) -> None:
        berths = store.collection(Berth)

        berths.put(a_berth("b1", neighbour_id="b1"))
        berths.put(a_berth("b1", neighbour_id="b1", number=4))

        assert berths.delete("b1")

    def test_two_records_may_refer_to_each_other(self, store: Store) -> None:
        berths = store.collection(Berth)

        berths.put_many(
            [a_berth("b1", neighbour_id="b2"), a_berth("b2", neighbour_id="b1")]
        )
        with pytest.raises(ReferenceViolation) as caught:
            berths.delete("b1")

        assert caught.value.collection == "berths"
        assert caught.value.field == "neighbour_id"

    def test_a_long_chain_may_be_written_and_deleted_at_once(
        self, store: Store
    ) -> None:
        chain = [a_berth("b0"), *(a_berth(f"b{n}") for n in range(1, 50))]
        chain = [replace(b, neighbour_id=f"b{n // 2}") for n, b in enumerate(chain)]

        commit(store, *reversed(chain))
        commit(store, delete=[("berths", berth.id) for berth in chain])

        assert store.collection(Berth).count() == 0

    def test_a_taken_value_is_told_before_a_missing_target(self, store: Store) -> None:
        commit(store, a_ship("s1", call_sign="AB"))

        with pytest.raises(UniqueViolation):
            commit(store, a_ship("s2", call_sign="AB", berth_id="nowhere"))

    def test_nothing_of_a_refused_commit_is_written(self, store: Store) -> None:
        with pytest.raises(ReferenceViolation):
            commit(store, a_log("a"), a_berth("b1"), a_cargo("c1", ship_id="nowhere"))

        assert store.collection("logs").count() == 0
        assert store.collection("berths").count() == 0
        assert list(store.changes()) == []

    def test_the_first_operation_that_breaks_a_reference_is_told(
        self, store: Store
    ) -> None:
        with pytest.raises(ReferenceViolation) as caught:
            commit(store, a_ship("s2", berth_id="x"), a_cargo("c1", ship_id="y"))

        assert (caught.value.target, caught.value.value) == ("berths", "x")
