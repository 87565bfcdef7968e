"""Contract of the life cycle: close, reopen, other processes, crashes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pend_storage._model.records import Advance
from pend_storage.errors import (
    ReferenceViolation,
    StoreUnavailable,
    UniqueViolation,
)
from pend_storage.phases import Role, RoleState
from pend_storage.query import And, Query, field
from pend_storage.store import Store
from pend_storage.testing.contract import _children as children
from pend_storage.testing.contract._feeding import all_rows
from pend_storage.testing.contract._harness import Harness, become, commit, requires
from pend_storage.testing.crash import Child, kill_at_random
from pend_storage.testing.domain import (
    Log,
    Ship,
    Tally,
    a_berth,
    a_log,
    a_ship,
    a_tally,
)

__all__ = ["CloseContract", "ProcessContract", "ReopenContract"]

VERBS: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read("logs", ["a"]),
    "query": lambda store: store.query("logs", Query()),
    "count": lambda store: store.count("logs", And(())),
    "scan": lambda store: list(store.scan("logs")),
    "commit": lambda store: commit(store, a_log("a")),
    "apply": lambda store: store.apply([]),
    "changes": lambda store: list(store.changes()),
    "meta": lambda store: store.meta("m"),
    "head": lambda store: store.head(),
    "compare_and_set_meta": lambda store: store.compare_and_set_meta("m", None, 1),
}


class CloseContract(Harness):
    """Contract of ``Store.close``."""

    def test_closing_twice_is_closing_once(self, store: Store) -> None:
        store.close()
        store.close()

    @pytest.mark.parametrize("verb", VERBS)
    def test_a_closed_store_says_so(self, store: Store, verb: str) -> None:
        commit(store, a_log("a"))
        store.close()

        with pytest.raises(StoreUnavailable, match="closed"):
            VERBS[verb](store)

    def test_a_with_block_closes(self, store: Store) -> None:
        with store as inside:
            assert inside is store
            commit(inside, a_log("a"))

        with pytest.raises(StoreUnavailable, match="closed"):
            store.read("logs", ["a"])

    def test_stores_are_independent(self, store: Store, other: Store) -> None:
        commit(store, a_log("a"))
        other.close()

        assert store.collection(Log).get("a") == a_log("a")

    def test_a_fresh_store_is_empty(self, store: Store, other: Store) -> None:
        commit(store, a_log("a"))

        assert all_rows(other) == {spec.name: [] for spec in other.schema}
        assert list(other.changes()) == []


class ReopenContract(Harness):
    """Contract of reopening: data after a store was closed and opened again."""

    @requires("durable")
    def test_everything_is_as_it_was(self, store: Store) -> None:
        commit(store, a_berth("b1"), a_ship("s1", berth_id="b1", extra={"a": [None]}))
        commit(store, a_log("a"), a_log("b"))
        commit(store, a_log("a", "new"), delete=[("logs", "b")])
        store.compare_and_set_meta("m", None, {"n": 2**70})
        rows, changes, name = all_rows(store), list(store.changes()), store.identity()

        store = self.reopen(store)

        assert all_rows(store) == rows
        assert list(store.changes()) == changes
        assert store.meta("m") == {"n": 2**70}
        assert store.identity() == name
        assert store.collection(Ship).find(field("berth_id") == "b1").items == (
            a_ship("s1", berth_id="b1", extra={"a": [None]}),
        )
        store.close()

    @requires("durable", "has_role")
    def test_its_role_is_what_it_was(self, store: Store) -> None:
        become(store, Role.PRIMARY, 3)

        store = self.reopen(store)

        assert store.role() == RoleState(Role.PRIMARY, 3)
        store.close()

    @requires("durable")
    def test_an_empty_store_is_empty_again(self, store: Store) -> None:
        store = self.reopen(store)

        assert all_rows(store) == {spec.name: [] for spec in store.schema}
        store.close()

    @requires("durable")
    def test_versions_and_sequences_go_on_growing(self, store: Store) -> None:
        versions = list(commit(store, a_log("a")))
        commit(store, a_log("gone"))
        commit(store, delete=[("logs", "gone")])
        grave = store.read("logs", ["gone"], deleted=True)["gone"].version
        for n in range(3):
            store = self.reopen(store)
            versions += commit(store, a_log("a", str(n)))
        (revived,) = commit(store, a_log("gone"))

        assert versions == sorted(set(versions))
        assert revived > grave
        sequences = [change.sequence for change in store.changes()]
        assert sequences == sorted(set(sequences))
        assert len(sequences) == 7
        store.close()

    @requires("durable", "has_role")
    def test_what_was_applied_is_there(self, store: Store, other: Store) -> None:
        become(store, Role.SECONDARY, 1)
        commit(other, a_log("a"), a_log("b"))
        commit(other, delete=[("logs", "a")])
        for change in other.changes():
            store.apply(
                change.records,
                mark=Advance("mark", store.meta("mark"), change.sequence),
            )
        rows, mark = all_rows(store), store.meta("mark")

        store = self.reopen(store)

        assert all_rows(store) == rows == all_rows(other)
        assert store.meta("mark") == mark
        store.close()

    @requires("durable")
    def test_rules_still_hold(self, store: Store) -> None:
        commit(store, a_berth("b1"), a_ship("s1", berth_id="b1", call_sign="AB"))

        store = self.reopen(store)

        with pytest.raises(UniqueViolation):
            commit(store, a_ship("s2", call_sign="AB"))
        with pytest.raises(ReferenceViolation):
            commit(store, a_ship("s2", berth_id="nowhere"))
        with pytest.raises(ReferenceViolation):
            commit(store, delete=[("berths", "b1")])
        store.close()


class ProcessContract(Harness):
    """Contract of several processes on the same data, and of killed processes."""

    @requires("multi_process")
    def test_another_process_sees_what_was_written(self, store: Store) -> None:
        commit(store, a_tally("t", 7))

        with Child(children.get, *self.opener(store), "t") as child:
            assert child.finish().reports == (7,)

    @requires("multi_process")
    def test_what_another_process_wrote_is_seen(self, store: Store) -> None:
        assert store.collection(Tally).get("t") is None

        with Child(children.increment, *self.opener(store), "t", 3) as child:
            child.finish()

        assert store.collection(Tally).get("t") == a_tally("t", 3)
        assert store.collection(Tally).count(field("value") == 3) == 1
        assert len(list(store.changes())) == 3

    @requires("multi_process")
    def test_increments_by_many_processes_lose_nothing(self, store: Store) -> None:
        opened = self.opener(store)
        workers = [Child(children.increment, *opened, "t", 20) for _ in range(3)]
        try:
            for worker in workers:
                worker.start()
            for _ in range(20):
                store.run(lambda tx: children.add(tx, "t"), attempts=1000)
            for worker in workers:
                worker.finish()
        finally:
            for worker in workers:
                worker.kill()

        assert store.collection(Tally).get("t") == a_tally("t", 80)
        assert len(list(store.changes())) == 80

    @requires("multi_process", "has_role")
    def test_a_change_of_roles_is_seen_by_other_processes(self, store: Store) -> None:
        become(store, Role.PRIMARY, 1)

        with Child(children.write_until_stale, *self.opener(store), 1) as child:
            child.wait_for_reports(3)
            become(store, Role.FENCED, 1)
            at_the_fence = {log.id for log in store.collection(Log).scan()}
            outcome = child.finish()

        assert outcome.reports[-1] == "stale"
        assert {log.id for log in store.collection(Log).scan()} == at_the_fence
        assert set(outcome.reports[:-1]) == at_the_fence

    @requires("multi_process")
    @pytest.mark.parametrize("seed", range(3))
    def test_a_killed_process_loses_nothing_that_it_was_told_is_done(
        self, store: Store, seed: int
    ) -> None:
        outcome = kill_at_random(
            children.write_pairs, *self.opener(store), seed=seed, within=0.3
        )

        done = max(outcome.reports, default=0)
        pairs = store.collection(Tally).get_many(["x", "y"])
        values = {tally.value for tally in pairs.values()}
        assert outcome.killed
        assert len(values) == 1
        # The last commit may have happened without its report.
        assert values <= {done, done + 1}
        assert len(list(store.changes())) == values.pop()
