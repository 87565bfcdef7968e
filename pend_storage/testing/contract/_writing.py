"""Contract of ``put``, ``put_many`` and ``delete``, and of the versions they return."""

from __future__ import annotations

import pytest

from pend_storage._model.records import Batch
from pend_storage.errors import Conflict, InvalidRecord, UnknownCollection
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, commit, each_case
from pend_storage.testing.domain import Log, Ship, Tally, a_log, a_ship, a_tally

__all__ = ["CommitContract", "DeleteContract", "PutContract", "PutManyContract"]


class PutContract(Harness):
    """Contract of ``Collection.put``."""

    def test_the_record_is_really_stored(self, store: Store) -> None:
        store.collection(Tally).put(a_tally("t1", 7))

        assert self.peek(store, "tallies", "t1") == {"name": "t1", "value": 7}

    def test_a_put_replaces_the_whole_record(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put(a_ship("s1", remark="old", extra={"a": 1}, crew=4))

        ships.put(a_ship("s1", crew=5))

        assert ships.get("s1") == a_ship("s1", crew=5)

    def test_versions_are_positive_and_grow(self, store: Store) -> None:
        logs = store.collection(Log)

        versions = [logs.put(a_log("a", str(n))) for n in range(5)]

        assert versions[0] > 0
        assert versions == sorted(set(versions))

    def test_the_version_grows_even_if_the_record_stays_the_same(
        self, store: Store
    ) -> None:
        logs = store.collection(Log)

        first, second = logs.put(a_log("a")), logs.put(a_log("a"))

        assert second > first
        assert logs.versioned("a") == (a_log("a"), second)

    def test_versions_grow_over_delete_and_put(self, store: Store) -> None:
        logs = store.collection(Log)
        versions = []
        for _ in range(3):
            versions.append(logs.put(a_log("a")))
            logs.delete("a")
            versions.append(store.read("logs", ["a"], deleted=True)["a"].version)

        assert versions == sorted(set(versions))

    def test_a_new_record_may_demand_that_there_is_none(self, store: Store) -> None:
        logs = store.collection(Log)

        version = logs.put(a_log("a"), if_version=0)

        assert logs.versioned("a") == (a_log("a"), version)

    def test_if_version_zero_is_refused_where_there_is_a_record(
        self, store: Store
    ) -> None:
        logs = store.collection(Log)
        version = logs.put(a_log("a", "mine"))

        with pytest.raises(Conflict) as caught:
            logs.put(a_log("a", "yours"), if_version=0)

        error = caught.value
        assert (error.collection, error.key) == ("logs", "a")
        assert (error.expected, error.actual) == (0, version)
        assert logs.versioned("a") == (a_log("a", "mine"), version)

    def test_if_version_zero_holds_again_after_a_delete(self, store: Store) -> None:
        logs = store.collection(Log)
        first = logs.put(a_log("a"))
        logs.delete("a")

        assert logs.put(a_log("a"), if_version=0) > first

    def test_put_at_the_present_version_is_accepted(self, store: Store) -> None:
        logs = store.collection(Log)
        version = logs.put(a_log("a"))

        assert logs.put(a_log("a", "new"), if_version=version) > version

    def test_a_former_version_is_refused(self, store: Store) -> None:
        logs = store.collection(Log)
        old = logs.put(a_log("a"))
        new = logs.put(a_log("a", "new"))

        with pytest.raises(Conflict) as caught:
            logs.put(a_log("a", "late"), if_version=old)

        assert (caught.value.expected, caught.value.actual) == (old, new)
        assert logs.get("a") == a_log("a", "new")

    def test_put_at_a_version_is_refused_where_there_is_no_record(
        self, store: Store
    ) -> None:
        with pytest.raises(Conflict) as caught:
            store.collection(Log).put(a_log("a"), if_version=3)

        assert (caught.value.expected, caught.value.actual) == (3, 0)
        assert store.collection(Log).get("a") is None

    def test_the_version_of_a_deleted_record_is_refused(self, store: Store) -> None:
        logs = store.collection(Log)
        version = logs.put(a_log("a"))
        logs.delete("a")
        dead = store.read("logs", ["a"], deleted=True)["a"].version

        for wrong in (version, dead):
            with pytest.raises(Conflict) as caught:
                logs.put(a_log("a"), if_version=wrong)
            assert (caught.value.expected, caught.value.actual) == (wrong, 0)

    @each_case("version", [-1, 2**62, 2**63 - 1], collection=Log)
    def test_a_version_that_nobody_has_is_refused(
        self, store: Store, version: int
    ) -> None:
        there = store.collection(Log).put(a_log("a"))

        with pytest.raises(Conflict) as caught:
            store.collection(Log).put(a_log("a"), if_version=version)

        assert (caught.value.expected, caught.value.actual) == (version, there)

    def test_an_empty_key_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidRecord) as caught:
            store.collection(Log).put(a_log(""))

        assert (caught.value.collection, caught.value.field) == ("logs", "id")

    def test_a_record_of_another_collection_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidRecord):
            store.collection("logs").put(a_tally())


class PutManyContract(Harness):
    """Contract of ``Collection.put_many``."""

    def test_all_are_written_and_each_version_is_given(self, store: Store) -> None:
        logs = store.collection(Log)

        versions = logs.put_many([a_log("b"), a_log("a")])

        assert [logs.versioned(key) for key in ("b", "a")] == [
            (a_log("b"), versions[0]),
            (a_log("a"), versions[1]),
        ]

    def test_no_records_are_no_commit(self, store: Store) -> None:
        assert store.collection(Log).put_many([]) == []
        assert list(store.changes()) == []

    def test_of_one_key_the_last_record_counts(self, store: Store) -> None:
        logs = store.collection(Log)

        versions = logs.put_many([a_log("a", "1"), a_log("b"), a_log("a", "2")])

        assert logs.versioned("a") == (a_log("a", "2"), versions[0])
        assert versions[2] == versions[0]

    def test_one_bad_record_keeps_all_out(self, store: Store) -> None:
        logs = store.collection(Log)

        with pytest.raises(InvalidRecord):
            logs.put_many([a_log("a"), a_log("b", "\x00")])

        assert logs.count() == 0

    def test_thousands_are_written_in_one_commit(self, store: Store) -> None:
        store.collection(Log).put_many(a_log(f"{n:05}") for n in range(3000))

        assert store.collection(Log).count() == 3000
        assert len(list(store.changes())) == 1


class DeleteContract(Harness):
    """Contract of ``Collection.delete``."""

    def test_a_deleted_record_is_gone(self, store: Store) -> None:
        tallies = store.collection(Tally)
        tallies.put(a_tally("t1"))

        assert tallies.delete("t1") is True

        assert tallies.get("t1") is None
        assert tallies.count() == 0
        assert self.peek(store, "tallies", "t1") is None

    def test_deleting_a_missing_record_is_false(self, store: Store) -> None:
        logs = store.collection(Log)
        logs.put(a_log("a"))
        logs.delete("a")

        assert logs.delete("a") is False
        assert logs.delete("never") is False

    @each_case("key", ["", "\x00", "\ud800"])
    def test_deleting_a_key_that_cannot_exist_is_false(
        self, store: Store, key: str
    ) -> None:
        assert store.collection(Log).delete(key) is False

    def test_a_delete_of_nothing_does_not_change_the_tombstone(
        self, store: Store
    ) -> None:
        logs = store.collection(Log)
        logs.put(a_log("a"))
        logs.delete("a")
        before = store.read("logs", ["a"], deleted=True)

        logs.delete("a")

        assert store.read("logs", ["a"], deleted=True) == before

    def test_delete_at_the_present_version_is_accepted(self, store: Store) -> None:
        logs = store.collection(Log)
        version = logs.put(a_log("a"))

        assert logs.delete("a", if_version=version) is True

    def test_another_version_is_refused(self, store: Store) -> None:
        logs = store.collection(Log)
        old, new = logs.put(a_log("a")), logs.put(a_log("a", "new"))

        for wrong in (old, 0):
            with pytest.raises(Conflict) as caught:
                logs.delete("a", if_version=wrong)
            assert (caught.value.expected, caught.value.actual) == (wrong, new)
        assert logs.get("a") == a_log("a", "new")

    def test_delete_at_a_version_is_refused_where_there_is_no_record(
        self, store: Store
    ) -> None:
        with pytest.raises(Conflict) as caught:
            store.collection(Log).delete("a", if_version=1)

        assert (caught.value.expected, caught.value.actual) == (1, 0)

    def test_if_version_zero_holds_where_there_is_nothing(self, store: Store) -> None:
        assert store.collection(Log).delete("a", if_version=0) is False


class CommitContract(Harness):
    """Contract of ``Store.commit``."""

    def test_several_collections_are_written_at_once(self, store: Store) -> None:
        versions = commit(store, a_log("a"), a_tally("a"), a_log("b"))

        assert store.collection(Log).versioned("a") == (a_log("a"), versions[0])
        assert store.collection(Tally).versioned("a") == (a_tally("a"), versions[1])
        assert store.collection(Log).versioned("b") == (a_log("b"), versions[2])

    def test_a_delete_gives_its_version_or_zero(self, store: Store) -> None:
        commit(store, a_log("a"))

        versions = commit(store, delete=[("logs", "never"), ("logs", "a")])

        assert versions == (0, store.read("logs", ["a"], deleted=True)["a"].version)
        assert versions[1] > 0

    def test_an_empty_batch_does_nothing(self, store: Store) -> None:
        assert store.commit(Batch()) == ()
        assert list(store.changes()) == []

    def test_checks_alone_are_checked(self, store: Store) -> None:
        (version,) = commit(store, a_log("a"))

        commit(store, checks={("logs", "a"): version, ("tallies", "x"): 0})
        with pytest.raises(Conflict) as caught:
            commit(store, checks={("logs", "a"): version, ("tallies", "x"): 9})

        assert (caught.value.collection, caught.value.key) == ("tallies", "x")

    def test_one_failed_check_keeps_all_out(self, store: Store) -> None:
        with pytest.raises(Conflict):
            commit(store, a_log("a"), a_tally("t"), checks={("logs", "z"): 1})

        assert store.collection(Log).get("a") is None
        assert store.collection(Tally).get("t") is None

    def test_the_first_check_that_fails_is_told(self, store: Store) -> None:
        checks = {("logs", "c"): 0, ("logs", "b"): 2, ("tallies", "a"): 3}

        with pytest.raises(Conflict) as caught:
            commit(store, a_log("n"), checks=checks)

        error = caught.value
        assert (error.collection, error.key, error.expected) == ("logs", "b", 2)

    def test_a_check_of_a_record_that_the_batch_writes_is_of_the_state_before(
        self, store: Store
    ) -> None:
        commit(store, a_log("a"), checks={("logs", "a"): 0})

        with pytest.raises(Conflict):
            commit(store, a_log("a"), checks={("logs", "a"): 0})

    def test_a_check_in_an_unknown_collection_is_refused(self, store: Store) -> None:
        with pytest.raises(UnknownCollection):
            commit(store, checks={("nonsense", "a"): 0})
