"""Contract of isolation: two transactions, step by step."""

from __future__ import annotations

import pytest

from pend_storage._transaction import Transaction
from pend_storage.errors import Conflict
from pend_storage.query import field
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, commit
from pend_storage.testing.domain import Log, Ship, Tally, a_log, a_ship, a_tally

__all__ = ["IsolationContract"]


class IsolationContract(Harness):
    """Contract of isolation between two transactions."""

    def conflicts(self, *transactions: Transaction) -> int:
        """Commit transactions; return the number of conflicts."""
        count = 0
        for tx in transactions:
            try:
                tx.commit()
            except Conflict:
                count += 1
        return count

    @pytest.mark.parametrize("there", [True, False])
    def test_write_skew_ends_in_exactly_one_conflict(
        self, store: Store, *, there: bool
    ) -> None:
        if there:
            commit(store, a_tally("x"), a_tally("y"))
        one, two = store.transaction(), store.transaction()

        assert (one.collection(Tally).get("x") is not None) is there
        assert (two.collection(Tally).get("y") is not None) is there
        one.collection(Tally).put(a_tally("y", 1))
        two.collection(Tally).put(a_tally("x", 2))

        assert self.conflicts(one, two) == 1
        values = store.collection(Tally).get_many(["x", "y"])
        assert {key: tally.value for key, tally in values.items() if tally.value} == {
            "y": 1
        }

    def test_what_was_read_and_changed_since_is_a_conflict(self, store: Store) -> None:
        (old,) = commit(store, a_log("a"))
        tx = store.transaction()
        tx.collection(Log).get("a")
        tx.collection(Log).put(a_log("b"))
        (new,) = commit(store, a_log("a", "changed"))

        with pytest.raises(Conflict) as caught:
            tx.commit()

        error = caught.value
        assert (error.collection, error.key) == ("logs", "a")
        assert (error.expected, error.actual) == (old, new)
        assert store.collection(Log).get("b") is None

    def test_what_was_read_only_is_checked_too(self, store: Store) -> None:
        commit(store, a_log("a"))
        tx = store.transaction()
        tx.collection(Log).get("a")
        store.collection(Log).delete("a")

        with pytest.raises(Conflict):
            tx.commit()

    def test_what_was_missing_and_appeared_since_is_a_conflict(
        self, store: Store
    ) -> None:
        tx = store.transaction()
        assert tx.collection(Log).get_many(["a", "b"]) == {}
        tx.collection(Log).put(a_log("c"))
        commit(store, a_log("b"))

        with pytest.raises(Conflict) as caught:
            tx.commit()

        assert (caught.value.key, caught.value.expected) == ("b", 0)

    def test_what_was_deleted_and_written_again_is_a_conflict(
        self, store: Store
    ) -> None:
        commit(store, a_log("a"))
        tx = store.transaction()
        tx.collection(Log).get("a")
        store.collection(Log).delete("a")
        commit(store, a_log("a"))

        assert self.conflicts(tx) == 1

    def test_a_delete_of_nothing_conflicts_with_what_appeared_since(
        self, store: Store
    ) -> None:
        tx = store.transaction()
        assert tx.collection(Log).delete("a") is False
        commit(store, a_log("a"))

        assert self.conflicts(tx) == 1
        assert store.collection(Log).get("a") == a_log("a")

    @pytest.mark.parametrize("verb", ["find", "count", "get_by"])
    def test_what_a_query_found_is_checked(self, store: Store, verb: str) -> None:
        commit(store, a_ship("s1", call_sign="AB"), a_ship("s2", call_sign="CD"))
        tx = store.transaction()
        ships = tx.collection(Ship)
        match verb:
            case "find":
                assert len(ships.find(field("call_sign") == "AB").items) == 1
            case "count":
                assert ships.count(field("call_sign") == "AB") == 1
            case _:
                assert ships.get_by("call_sign", "AB") is not None
        tx.collection(Log).put(a_log("a"))
        commit(store, a_ship("s1", call_sign="AB", crew=3))

        assert self.conflicts(tx) == 1
        assert store.collection(Log).count() == 0

    def test_what_it_did_not_read_may_change(self, store: Store) -> None:
        commit(store, a_log("a"), a_log("b"))
        tx = store.transaction()
        tx.collection(Log).get("a")
        tx.collection(Log).put(a_log("c", "blind"))
        commit(store, a_log("b", "other"), a_log("c", "other"))

        assert self.conflicts(tx) == 0
        assert store.collection(Log).get("c") == a_log("c", "blind")

    def test_two_readings_of_one_key_that_differ_are_a_conflict(
        self, store: Store
    ) -> None:
        commit(store, a_log("a"))
        tx = store.transaction()
        tx.collection(Log).get("a")
        commit(store, a_log("a", "new"))

        with pytest.raises(Conflict):
            tx.collection(Log).get("a")
