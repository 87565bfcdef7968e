"""Contract of ``meta``, roles and epochs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from threading import Barrier, Semaphore, Thread
from typing import Any

import pytest

from pend_storage._model.records import Advance, ChangedRecord
from pend_storage.errors import StaleEpoch
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.query import And, Query
from pend_storage.store import Store
from pend_storage.testing.contract._harness import (
    Harness,
    become,
    commit,
    each_case,
    requires,
)
from pend_storage.testing.domain import Log, a_log

__all__ = ["EpochContract", "MetaContract"]

APPLIED = [ChangedRecord("logs", "z", 99, a_log("z"))]

READS: dict[str, Callable[[Store, int | None], object]] = {
    "read": lambda store, epoch: store.read("logs", ["a"], epoch=epoch),
    "query": lambda store, epoch: store.query("logs", Query(), epoch=epoch),
    "count": lambda store, epoch: store.count("logs", And(()), epoch=epoch),
    "scan": lambda store, epoch: list(store.scan("logs", epoch=epoch)),
}


class MetaContract(Harness):
    """Contract of ``Store.meta`` and ``compare_and_set_meta``."""

    def test_what_was_never_set_is_none(self, store: Store) -> None:
        assert store.meta("nothing") is None

    @each_case(
        "value",
        [0, False, "", [], {}, 1.5, 2**70, "é\U0001f6a2", {"a": [1, {"b": None}]}],
    )
    def test_a_meta_value_comes_back_equal(self, store: Store, value: Any) -> None:
        assert store.compare_and_set_meta("m", None, value)

        found = store.meta("m")
        assert found == value
        assert type(found) is type(value)
        assert store.compare_and_set_meta("m", value, None)

    def test_it_is_set_only_if_it_is_what_was_expected(self, store: Store) -> None:
        assert store.compare_and_set_meta("m", None, {"n": 1})

        assert not store.compare_and_set_meta("m", None, {"n": 2})
        assert not store.compare_and_set_meta("m", {"n": 3}, {"n": 2})
        assert not store.compare_and_set_meta("m", {}, {"n": 2})
        assert store.meta("m") == {"n": 1}
        assert store.compare_and_set_meta("m", {"n": 1}, {"n": 2})
        assert store.meta("m") == {"n": 2}

    def test_values_are_compared_by_value(self, store: Store) -> None:
        store.compare_and_set_meta("m", None, {"a": 1, "b": [2]})

        assert not store.compare_and_set_meta("m", {"a": True, "b": [2]}, 0)
        assert not store.compare_and_set_meta("m", {"a": "1", "b": [2]}, 0)
        assert store.compare_and_set_meta("m", {"b": [2.0], "a": 1.0}, "new")

    def test_a_tuple_is_compared_as_the_array_that_it_is_stored_as(
        self, store: Store
    ) -> None:
        value: Any = {"a": (), "b": [(1, "x")]}
        other: Any = {"a": (0,), "b": [(1, "x")]}
        change = store.compare_and_set_meta
        assert change("a", None, value)
        assert change("m", None, 1, given={"a": value})

        assert not change("m", 1, 2, given={"a": other})
        assert not change("a", other, 2)
        assert change("m", 1, 2, given={"a": value})
        assert change("a", value, value, given={"m": 2})
        assert change("a", {"a": [], "b": [[1, "x"]]}, None, given={"a": value})
        assert (store.meta("m"), store.meta("a")) == (2, None)

    def test_none_removes_it(self, store: Store) -> None:
        store.compare_and_set_meta("m", None, 1)

        assert store.compare_and_set_meta("m", 1, None)

        assert store.meta("m") is None
        assert store.compare_and_set_meta("m", None, 2)

    def test_to_leave_it_unset_is_to_compare(self, store: Store) -> None:
        assert store.compare_and_set_meta("m", None, None)
        assert not store.compare_and_set_meta("m", 1, None)
        assert store.meta("m") is None

    def test_other_entries_may_be_a_condition(self, store: Store) -> None:
        store.compare_and_set_meta("a", None, {"n": 1})

        change = store.compare_and_set_meta
        assert not change("m", None, 1, given={"a": {"n": 2}})
        assert not change("m", None, 1, given={"a": None})
        assert not change("m", None, 1, given={"a": {"n": 1}, "b": 0})
        assert not change("m", 1, 2, given={"a": {"n": 1}})
        assert store.meta("m") is None
        assert change("m", None, 1, given={"a": {"n": 1.0}, "b": None})
        assert change("m", 1, None, given={"a": {"n": 1}})
        assert not change("m", None, None, given={"a": None})
        assert change("m", None, None, given={"a": {"n": 1}})
        assert (store.meta("m"), store.meta("a")) == (None, {"n": 1})

    @requires("has_role")
    def test_a_role_changes_only_at_the_position_that_was_seen(
        self, store: Store
    ) -> None:
        become(store, Role.SECONDARY, 1)
        store.apply([], epoch=1, mark=Advance("mark", None, 5))
        before, after = (
            RoleState(role, epoch).to_meta()
            for role, epoch in ((Role.SECONDARY, 1), (Role.PRIMARY, 2))
        )

        change = store.compare_and_set_meta
        assert not change(ROLE_META, before, after, given={"mark": 4})
        assert store.role() == RoleState(Role.SECONDARY, 1)
        assert change(ROLE_META, before, after, given={"mark": 5})
        assert store.role() == RoleState(Role.PRIMARY, 2)

    def test_names_are_independent(self, store: Store) -> None:
        store.compare_and_set_meta("a", None, 1)
        store.compare_and_set_meta("A", None, 2)

        assert (store.meta("a"), store.meta("A"), store.meta("")) == (1, 2, None)

    def test_it_is_not_in_the_change_log(self, store: Store) -> None:
        store.compare_and_set_meta("m", None, 1)

        assert list(store.changes()) == []

    def test_changing_a_value_does_not_change_the_store(self, store: Store) -> None:
        value: Any = {"a": [1]}
        store.compare_and_set_meta("m", None, value)

        value["a"].append(2)
        found = store.meta("m")
        assert isinstance(found, dict)
        found["b"] = 3

        assert store.meta("m") == {"a": [1]}

    def test_a_store_has_an_identity_of_its_own(
        self, store: Store, other: Store
    ) -> None:
        name = store.identity()

        assert name
        assert store.identity() == name
        assert other.identity() != name

    def test_of_many_who_set_it_at_once_one_wins(self, store: Store) -> None:
        threads, rounds = 4, 10
        barrier, wins = Barrier(threads), []

        def work() -> None:
            for n in range(rounds):
                barrier.wait()
                if store.compare_and_set_meta("m", n or None, n + 1):
                    wins.append(n)
                barrier.wait()

        workers = [Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

        assert wins == list(range(rounds))
        assert store.meta("m") == rounds


class EpochContract(Harness):
    """Contract of roles, epochs and ``StaleEpoch``."""

    def test_a_new_store_stands_alone(self, store: Store) -> None:
        assert store.meta(ROLE_META) is None
        assert store.role() == RoleState(Role.PRIMARY, 0)
        commit(store, a_log("a"))

    def test_a_new_store_may_follow(self, store: Store) -> None:
        assert store.apply(APPLIED) == 1

    def test_a_role_is_what_was_set(self, store: Store) -> None:
        become(store, Role.FENCED, 3)

        assert store.role() == RoleState(Role.FENCED, 3)

    @pytest.mark.parametrize("role", list(Role))
    def test_only_a_primary_takes_commits(self, store: Store, role: Role) -> None:
        become(store, role, 4)

        if role is Role.PRIMARY:
            commit(store, a_log("a"))
            commit(store, a_log("b"), epoch=4)
            assert store.collection(Log).count() == 2
            return
        for epoch in (None, 4):
            with pytest.raises(StaleEpoch) as caught:
                commit(store, a_log("a"), epoch=epoch)
            assert (caught.value.role, caught.value.epoch) == (role, 4)
        assert list(store.scan("logs", deleted=True)) == []
        assert list(store.changes()) == []

    @pytest.mark.parametrize("role", list(Role))
    def test_only_a_secondary_follows(self, store: Store, role: Role) -> None:
        become(store, role, 4)

        if role is Role.SECONDARY:
            assert store.apply(APPLIED) == 1
            assert store.apply(APPLIED, epoch=4) == 0
            return
        for epoch in (None, 4):
            with pytest.raises(StaleEpoch) as caught:
                store.apply(APPLIED, epoch=epoch, mark=Advance("m", store.meta("m"), 1))
            assert (caught.value.role, caught.value.epoch) == (role, 4)
        assert store.meta("m") is None
        assert list(store.scan("logs", deleted=True)) == []

    @pytest.mark.parametrize("role", list(Role))
    def test_only_a_primary_answers_those_who_name_an_epoch(
        self, store: Store, role: Role, subtests: pytest.Subtests
    ) -> None:
        commit(store, a_log("a"))
        become(store, role, 4)

        for verb, read in READS.items():
            with subtests.test(verb):
                plain = read(store, None)
                if role is Role.PRIMARY:
                    assert read(store, 4) == plain
                    continue
                with pytest.raises(StaleEpoch) as caught:
                    read(store, 4)
                assert (caught.value.role, caught.value.epoch) == (role, 4)

    def test_a_read_at_another_epoch_is_refused(
        self, store: Store, subtests: pytest.Subtests
    ) -> None:
        become(store, Role.PRIMARY, 4)

        for verb, epoch in itertools.product(READS, (0, 3, 5)):
            with subtests.test(f"{verb} at {epoch}"):
                with pytest.raises(StaleEpoch) as caught:
                    READS[verb](store, epoch)
                assert (caught.value.role, caught.value.epoch) == (Role.PRIMARY, 4)

    @pytest.mark.parametrize("epoch", [0, 3, 5])
    def test_a_commit_at_another_epoch_is_refused(
        self, store: Store, epoch: int
    ) -> None:
        become(store, Role.PRIMARY, 4)

        with pytest.raises(StaleEpoch):
            commit(store, a_log("a"), epoch=epoch)

        assert store.collection(Log).get("a") is None

    @pytest.mark.parametrize("epoch", [0, 3, 5])
    def test_an_apply_at_another_epoch_is_refused(
        self, store: Store, epoch: int
    ) -> None:
        become(store, Role.SECONDARY, 4)

        with pytest.raises(StaleEpoch):
            store.apply(APPLIED, epoch=epoch)

        assert store.collection(Log).get("z") is None

    def test_a_store_that_stands_alone_is_primary_at_epoch_zero(
        self, store: Store
    ) -> None:
        commit(store, a_log("a"), epoch=0)

        for read in READS.values():
            read(store, 0)
            with pytest.raises(StaleEpoch):
                read(store, 1)
        with pytest.raises(StaleEpoch):
            commit(store, a_log("b"), epoch=1)
        with pytest.raises(StaleEpoch):
            store.apply(APPLIED, epoch=0)

    def test_a_stale_epoch_is_told_before_a_conflict(self, store: Store) -> None:
        become(store, Role.PRIMARY, 1)

        with pytest.raises(StaleEpoch):
            commit(store, a_log("a"), checks={("logs", "a"): 9}, epoch=2)

    def test_a_commit_without_operations_asks_for_the_epoch_too(
        self, store: Store
    ) -> None:
        become(store, Role.SECONDARY, 1)

        with pytest.raises(StaleEpoch):
            commit(store, checks={("logs", "a"): 0})

    def test_a_secondary_answers_reads_that_name_no_epoch(self, store: Store) -> None:
        become(store, Role.SECONDARY, 1)
        store.apply(APPLIED)

        assert store.collection(Log).get("z") == a_log("z")
        assert store.collection(Log).find().items == (a_log("z"),)
        assert store.collection(Log).count() == 1

    def test_no_commit_slips_through_a_change_of_roles(self, store: Store) -> None:
        become(store, Role.PRIMARY, 1)
        threads, written, under_way = 3, [], Semaphore(0)

        def work(me: int) -> None:
            try:
                for n in range(10_000):
                    commit(store, a_log(f"{me}-{n}"), epoch=1)
                    written.append(f"{me}-{n}")
                    under_way.release()
            except StaleEpoch:
                pass

        workers = [Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for _ in range(4 * threads):
            assert under_way.acquire(timeout=60)
        become(store, Role.FENCED, 1)
        at_the_fence = {log.id for log in store.collection(Log).scan()}
        for worker in workers:
            worker.join()

        assert {log.id for log in store.collection(Log).scan()} == at_the_fence
        assert set(written) == at_the_fence
