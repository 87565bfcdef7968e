"""Contract of ``commit_each``: commits of many callers in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pend_storage._model.records import Batch, Delete, Outcome, Put
from pend_storage.errors import (
    Conflict,
    ReferenceViolation,
    StaleEpoch,
    UniqueViolation,
    UnknownCollection,
)
from pend_storage.phases import Role
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, become, requires
from pend_storage.testing.domain import (
    Berth,
    Log,
    Ship,
    Tally,
    a_berth,
    a_cargo,
    a_log,
    a_ship,
    a_tally,
)

__all__ = ["CommitEachContract"]


def batch(
    store: Store,
    *records: Any,
    delete: Iterable[tuple[str, str]] = (),
    checks: dict[tuple[str, str], int] | None = None,
) -> Batch:
    """Build a batch of records of any collections, and deletes."""
    schema = store.schema
    operations: list[Put | Delete] = [schema.put(type(r), r) for r in records]
    operations += [schema.delete(*place) for place in delete]
    return schema.batch(operations, checks)


def is_done(outcome: Outcome) -> bool:
    """Return True for the outcome of an acknowledged commit."""
    return isinstance(outcome, tuple)


def kinds(outcomes: Iterable[Outcome]) -> list[type | None]:
    """Return the class of each error; None for a success."""
    return [None if is_done(outcome) else type(outcome) for outcome in outcomes]


class CommitEachContract(Harness):
    """Contract of ``Store.commit_each``."""

    def test_no_batches_have_no_answers(self, store: Store) -> None:
        assert store.commit_each([]) == []

    def test_each_batch_is_written_and_gets_its_versions(self, store: Store) -> None:
        outcomes = store.commit_each(
            [
                batch(store, a_log("a"), a_log("b")),
                batch(store, a_ship("s1")),
                batch(store, delete=[("logs", "missing")]),
                batch(store),
            ]
        )

        rows = store.read("logs", ["a", "b"])
        ship = store.read("ships", ["s1"])["s1"]
        assert outcomes == [
            (rows["a"].version, rows["b"].version),
            (ship.version,),
            (0,),
            (),
        ]

    def test_each_is_an_entry_of_its_own_in_the_change_log(self, store: Store) -> None:
        before = store.head()
        store.commit_each([batch(store, a_log(key), a_tally(key)) for key in "abc"])

        changes = list(store.changes())

        written = [sorted(r[:2] for r in change.records) for change in changes]
        assert written == [[("logs", k), ("tallies", k)] for k in "abc"]
        sequences = [change.sequence for change in changes]
        assert sequences == sorted(set(sequences))
        assert min(sequences) > before
        assert [c.sequence for c in store.changes(sequences[0])] == sequences[1:]
        assert store.head() >= sequences[-1]

    def test_writes_of_one_key_keep_their_order(self, store: Store) -> None:
        outcomes = store.commit_each(
            [batch(store, a_log("a", str(n)), a_log(f"other-{n}")) for n in range(20)]
        )

        versions = [outcome[0] for outcome in outcomes if isinstance(outcome, tuple)]
        assert versions == sorted(set(versions))
        assert len(versions) == 20
        assert store.collection(Log).versioned("a") == (a_log("a", "19"), versions[-1])
        logged = [
            (record.record.text, record.version)
            for change in store.changes()
            for record in change.records
            if record.key == "a"
        ]
        assert logged == list(zip(map(str, range(20)), versions, strict=True))

    def test_puts_and_deletes_of_one_key_keep_their_order(self, store: Store) -> None:
        logs = store.collection(Log)

        def put() -> Batch:
            return batch(store, a_log("a"))

        def gone() -> Batch:
            return batch(store, delete=[("logs", "a")])

        first = store.commit_each([gone(), put(), gone(), gone(), put()])
        assert [o[0] > 0 for o in first if isinstance(o, tuple)] == [
            *(False, True, True, False, True)
        ]
        assert logs.get("a") == a_log("a")

        second = store.commit_each([put(), gone()])
        assert logs.get("a") is None
        versions = [o[0] for o in first + second if isinstance(o, tuple) and o[0]]
        assert versions == sorted(set(versions))
        row = store.read("logs", ["a"], deleted=True)["a"]
        assert row.version == versions[-1]

    def test_a_conflict_is_of_its_own_batch(self, store: Store) -> None:
        version = store.collection(Log).put(a_log("a"))
        at, at_none = {("logs", "a"): version}, {("logs", "b"): 0}

        outcomes = store.commit_each(
            [
                batch(store, a_log("x")),
                batch(store, a_log("y"), checks={("logs", "a"): version + 1}),
                batch(store, a_log("a", "new"), checks=at),
                batch(store, a_log("a", "newer"), checks=at),
                batch(store, a_log("b"), checks=at_none),
                batch(store, a_log("c"), checks=at_none),
                batch(store, a_log("z")),
            ]
        )

        assert kinds(outcomes) == [None, Conflict, None, Conflict, None, Conflict, None]
        late = outcomes[3]
        assert isinstance(late, Conflict)
        assert isinstance(outcomes[2], tuple)
        assert (late.collection, late.key, late.expected, late.actual) == (
            *("logs", "a", version),
            outcomes[2][0],
        )
        found = store.collection(Log).get_many("abcxyz")
        assert {key: log.text for key, log in found.items()} == {
            "a": "new",
            "b": "",
            "x": "",
            "z": "",
        }

    def test_a_check_sees_what_was_committed_before_it(self, store: Store) -> None:
        outcomes = store.commit_each(
            [
                batch(store, a_log("a")),
                batch(store, a_log("b"), checks={("logs", "a"): 0}),
                batch(store, delete=[("logs", "a")]),
                batch(store, a_log("c"), checks={("logs", "a"): 0}),
            ]
        )

        assert kinds(outcomes) == [None, Conflict, None, None]

    def test_write_skew_ends_in_one_conflict(self, store: Store) -> None:
        outcomes = store.commit_each(
            [
                batch(store, a_log("a"), checks={("logs", "b"): 0}),
                batch(store, a_log("b"), checks={("logs", "a"): 0}),
            ]
        )

        assert kinds(outcomes) == [None, Conflict]

    def test_a_violation_is_of_its_own_batch(self, store: Store) -> None:
        store.collection(Ship).put(a_ship("s0", call_sign="ABC"))

        outcomes = store.commit_each(
            [
                batch(store, a_ship("s1", call_sign="DEF")),
                batch(store, a_ship("s2", call_sign="ABC"), a_log("no")),
                batch(store, a_cargo("c1", ship_id="missing"), a_log("no")),
                batch(store, a_ship("s4", call_sign="GHI")),
                batch(store, a_ship("s5", call_sign="GHI")),
                batch(store, a_log("yes")),
            ]
        )

        assert kinds(outcomes) == [
            *(None, UniqueViolation, ReferenceViolation),
            *(None, UniqueViolation, None),
        ]
        unique, reference = outcomes[1], outcomes[2]
        assert isinstance(unique, UniqueViolation)
        assert (unique.collection, unique.fields, unique.key) == (
            *("ships", ("call_sign",), "s2"),
        )
        assert isinstance(reference, ReferenceViolation)
        assert (reference.field, reference.value) == ("ship_id", "missing")
        assert set(store.collection(Ship).get_many(f"s{n}" for n in range(6))) == {
            *("s0", "s1", "s4")
        }
        assert set(store.collection(Log).get_many(["no", "yes"])) == {"yes"}

    def test_one_of_hundreds_fails_alone(self, store: Store) -> None:
        batches = [batch(store, a_cargo(f"c{n}", ship_id="s1")) for n in range(300)]
        batches[77] = batch(store, a_cargo("c77", ship_id="s2"))
        store.collection(Ship).put(a_ship("s1"))

        outcomes = store.commit_each(batches)

        assert [n for n, o in enumerate(outcomes) if not is_done(o)] == [77]
        assert store.collection("cargo").count() == 299

    def test_a_reference_may_lead_to_what_was_committed_before(
        self, store: Store
    ) -> None:
        too_early = batch(store, a_cargo("c1", ship_id="s1"))
        ship = batch(store, a_ship("s1"))
        in_time = batch(store, a_cargo("c2", ship_id="s1"))

        outcomes = store.commit_each([too_early, ship, in_time])

        assert kinds(outcomes) == [ReferenceViolation, None, None]
        assert set(store.collection("cargo").get_many(["c1", "c2"])) == {"c2"}

    def test_a_reference_is_judged_though_it_is_soon_replaced(
        self, store: Store
    ) -> None:
        store.collection(Berth).put(a_berth("b1"))

        outcomes = store.commit_each(
            [
                batch(store, a_ship("s1", berth_id="nowhere")),
                batch(store, a_ship("s1", berth_id="b1")),
                batch(store, a_ship("s1", berth_id="nowhere")),
            ]
        )

        assert kinds(outcomes) == [ReferenceViolation, None, ReferenceViolation]
        assert store.collection(Ship).get("s1") == a_ship("s1", berth_id="b1")

    def test_what_is_referred_to_goes_after_what_refers(self, store: Store) -> None:
        store.commit_each(
            [batch(store, a_ship("s1")), batch(store, a_cargo("c1", ship_id="s1"))]
        )
        ship = batch(store, delete=[("ships", "s1")])
        cargo = batch(store, delete=[("cargo", "c1")])

        outcomes = store.commit_each([ship, cargo, ship])

        assert kinds(outcomes) == [ReferenceViolation, None, None]

    @pytest.mark.parametrize("how", ["put", "delete"])
    def test_a_value_is_free_only_after_it_was_given_up(
        self, store: Store, how: str
    ) -> None:
        store.collection(Ship).put(a_ship("s1", call_sign="ABC"))
        free = (
            batch(store, a_ship("s1", call_sign="DEF"))
            if how == "put"
            else batch(store, delete=[("ships", "s1")])
        )
        take = batch(store, a_ship("s2", call_sign="ABC"))

        outcomes = store.commit_each([take, free, take])

        assert kinds(outcomes) == [UniqueViolation, None, None]

    def test_two_cannot_swap_their_values_one_by_one(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put_many([a_ship("s1", call_sign="ABC"), a_ship("s2", call_sign="DEF")])

        outcomes = store.commit_each(
            [
                batch(store, a_ship("s1", call_sign="DEF")),
                batch(store, a_ship("s2", call_sign="ABC")),
            ]
        )

        assert kinds(outcomes) == [UniqueViolation, UniqueViolation]

    def test_one_batch_may_swap_values_beside_others(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put_many([a_ship("s1", call_sign="ABC"), a_ship("s2", call_sign="DEF")])

        outcomes = store.commit_each(
            [
                batch(store, a_log("a")),
                batch(
                    store,
                    a_ship("s1", call_sign="DEF"),
                    a_ship("s2", call_sign="ABC"),
                ),
                batch(store, a_log("b")),
            ]
        )

        assert kinds(outcomes) == [None, None, None]
        assert ships.get_by("call_sign", "DEF") == a_ship("s1", call_sign="DEF")

    def test_a_batch_with_an_unknown_collection_fails_alone(self, store: Store) -> None:
        strange = Batch((), {("nothing", "x"): 0})

        outcomes = store.commit_each([batch(store, a_log("a")), strange])

        assert kinds(outcomes) == [None, UnknownCollection]

    def test_keys_that_no_record_can_have_fail_nobody(self, store: Store) -> None:
        odd = "\x00"

        outcomes = store.commit_each(
            [
                batch(store, a_log("a")),
                batch(store, delete=[("logs", odd)]),
                batch(store, a_log("b"), checks={("logs", odd): 0}),
                batch(store, a_log("c"), checks={("logs", odd): 5}),
                batch(store, a_log("d"), delete=[("logs", odd)]),
            ]
        )

        assert kinds(outcomes) == [None, None, None, Conflict, None]
        assert outcomes[1] == (0,)
        assert set(store.collection(Log).get_many("abcd")) == {"a", "b", "d"}

    def test_big_batches_go_beside_small_ones(self, store: Store) -> None:
        big = batch(store, *(a_tally(f"big-{n}", n) for n in range(600)))
        small = [batch(store, a_tally(f"small-{n}")) for n in range(40)]

        outcomes = store.commit_each([*small[:20], big, *small[20:]])

        assert all(map(is_done, outcomes))
        assert store.collection(Tally).count() == 640
        sizes = [len(change.records) for change in store.changes()]
        assert sizes == [*[1] * 20, 600, *[1] * 20]

    @requires("has_role")
    @pytest.mark.parametrize("role", [Role.SECONDARY, Role.FENCED, Role.DETACHED])
    def test_only_a_primary_takes_them(self, store: Store, role: Role) -> None:
        become(store, role, 3)

        outcomes = store.commit_each([batch(store, a_log(key)) for key in "ab"])

        assert kinds(outcomes) == [StaleEpoch, StaleEpoch]
        stale = outcomes[1]
        assert isinstance(stale, StaleEpoch)
        assert (stale.role, stale.epoch) == (role.value, 3)

    @requires("has_role")
    def test_at_another_epoch_none_is_taken(self, store: Store) -> None:
        become(store, Role.PRIMARY, 3)
        batches = [batch(store, a_log(key)) for key in "ab"]

        assert kinds(store.commit_each(batches, epoch=2)) == [StaleEpoch, StaleEpoch]
        assert kinds(store.commit_each(batches, epoch=3)) == [None, None]
