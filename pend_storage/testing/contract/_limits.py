"""Contract of limits: what one store refuses, all refuse, with the same error.

The limits are those of :mod:`pend_storage._model.limits`. They are checked before
anything is sent or written, so a store that gets a query can answer it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, Final

import pytest

from pend_storage._model.limits import (
    MAX_CONDITION_DEPTH,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_IN,
    MAX_LIMIT,
    MAX_OPERAND_BYTES,
    MAX_ORDER_BY,
)
from pend_storage.errors import Conflict, InvalidQuery
from pend_storage.query import And, Condition, Or, field
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, each_case
from pend_storage.testing.contract._querying import fill, found
from pend_storage.testing.domain import Log, Ship, a_log

__all__ = ["LimitContract"]

_CREW: Final = field("crew") >= 1
_MILLION: Final = 1_000_000
_MOST_SHOWN: Final = 1_000
"""Characters of an error's text, whatever it refuses."""


def _nested(levels: int) -> Condition:
    """Return a condition of so many levels, none of which can be joined with another."""
    condition = _CREW
    for level in range(levels):
        condition = Or((condition, _CREW)) if level % 2 else And((condition, _CREW))
    return condition


def _beyond(excess: str) -> list[Condition]:
    """Return conditions of which one query has too many, or too large ones."""
    match excess:
        case "conditions":
            return [_CREW] * 70_000
        case "values":
            return [field("crew").in_(range(MAX_IN + 1))]
        case "path":
            return [field("extra", *["a"] * (MAX_DEPTH + 1)).is_null()]
        case "text":
            return [field("name") == "x" * (MAX_OPERAND_BYTES + 1)]
        case _:
            return [field("crew") == 1 << 20_000]


class LimitContract(Harness):
    """Contract of limits of queries, pages and versions."""

    def test_a_query_at_its_limits_is_answered(self, store: Store) -> None:
        fill(store, "crew", [1])
        ships = store.collection(Ship)
        deepest = _nested(MAX_CONDITION_DEPTH)

        assert ships.count(*[_CREW] * MAX_CONDITIONS) == 1
        assert ships.count(field("crew").in_(range(1, 1 + MAX_IN))) == 1
        assert ships.count(field("extra", *["a"] * MAX_DEPTH).is_null()) == 1
        assert found(store, deepest) == "a"

    @each_case("excess", ["conditions", "values", "path", "text", "number"])
    def test_a_query_beyond_them_is_refused_in_few_words(
        self, store: Store, excess: str
    ) -> None:
        where = _beyond(excess)
        ships = store.collection(Ship)

        for call in (ships.find, ships.count):
            with pytest.raises(InvalidQuery) as caught:
                call(*where)
            assert len(str(caught.value)) < _MOST_SHOWN
        with store.transaction() as tx, pytest.raises(InvalidQuery):
            tx.collection(Ship).find(*where)

    def test_chains_of_one_operator_and_double_negations_have_no_depth(
        self, store: Store
    ) -> None:
        fill(store, "crew", [1, 2, 3])
        is_two = field("crew") == 2
        either = functools.reduce(operator.or_, [is_two] * 1_000)
        all_of = functools.reduce(operator.and_, [is_two] * 1_000)
        twice = functools.reduce(lambda made, _: ~made, range(1_000), is_two)

        for condition in (either, all_of, twice):
            assert found(store, condition) == "b"
        assert found(store, ~either) == "ac"

    @each_case("levels", [MAX_CONDITION_DEPTH + 1, 1_000])
    def test_a_condition_that_is_too_deep_is_refused(
        self, store: Store, levels: int
    ) -> None:
        with pytest.raises(InvalidQuery):
            store.collection(Ship).find(_nested(levels))

    @each_case("limit", [MAX_LIMIT, MAX_LIMIT - 1, 2**62, 2**31])
    def test_a_large_page_is_all_there_is(self, store: Store, limit: int) -> None:
        fill(store, "crew", [1, 2])

        page = store.collection(Ship).find(limit=limit)

        assert (len(page.items), page.next) == (2, None)

    @each_case("bits", [63, 64, 20_000])
    def test_a_page_that_no_store_could_count_is_refused(
        self, store: Store, bits: int
    ) -> None:
        ships = store.collection(Ship)

        for limit in (1 << bits, -(1 << bits)):
            with pytest.raises(InvalidQuery) as caught:
                ships.find(limit=limit)
            assert len(str(caught.value)) < _MOST_SHOWN
            with store.transaction() as tx, pytest.raises(InvalidQuery):
                tx.collection(Ship).find(limit=limit)

    def test_as_many_fields_sort_as_an_index_has(self, store: Store) -> None:
        fill(store, "crew", [2, 1])
        ships = store.collection(Ship)

        page = ships.find(order_by=["crew"] * MAX_ORDER_BY, limit=1)
        rest = ships.find(order_by=["crew"] * MAX_ORDER_BY, after=page.next)

        assert [ship.id for ship in (*page.items, *rest.items)] == ["b", "a"]
        for names in (["crew"] * (MAX_ORDER_BY + 1), ["crew"] * 5_000):
            with pytest.raises(InvalidQuery):
                ships.find(order_by=names)

    @each_case("names", [[None], [5], [["crew"]], [b"crew"]])
    def test_an_order_is_made_of_names(self, store: Store, names: Any) -> None:
        with pytest.raises(InvalidQuery):
            store.collection(Ship).find(order_by=names)

    @each_case("bits", [0, 62, 63, 64, 20_000])
    def test_a_version_that_no_record_can_have_is_a_conflict(
        self, store: Store, bits: int
    ) -> None:
        logs = store.collection(Log)
        logs.put(a_log("a", "here"))
        for version in (-(1 << bits), (1 << max(bits, 62)) + 1):
            self._require_conflict(store, version)
        assert logs.get("a") == a_log("a", "here")

    @staticmethod
    def _require_conflict(store: Store, version: int) -> None:
        logs = store.collection(Log)

        calls: tuple[Callable[[], object], ...] = (
            lambda: logs.put(a_log("a"), if_version=version),
            lambda: logs.put(a_log("none"), if_version=version),
            lambda: logs.delete("a", if_version=version),
            lambda: logs.delete("none", if_version=version),
        )
        for call in calls:
            with pytest.raises(Conflict):
                call()
        with pytest.raises(Conflict), store.transaction() as tx:
            tx.collection(Log).put(a_log("a"), if_version=version)

    @each_case("version", [True, 1.0, "1", b"1", [1]])
    def test_a_version_is_an_integer(self, store: Store, version: Any) -> None:
        logs = store.collection(Log)

        calls: tuple[Callable[[], object], ...] = (
            lambda: logs.put(a_log("a"), if_version=version),
            lambda: logs.delete("a", if_version=version),
        )
        for call in calls:
            with pytest.raises(InvalidQuery):
                call()
        with store.transaction() as tx, pytest.raises(InvalidQuery):
            tx.collection(Log).delete("a", if_version=version)
        assert logs.count() == 0

    @each_case("key", [None, 5, 1.5, b"a", _MILLION])
    def test_a_key_that_no_record_can_have_is_absent(
        self, store: Store, key: Any
    ) -> None:
        logs = store.collection(Log)
        logs.put(a_log("a"))
        key = "x" * key if key == _MILLION else key

        assert logs.get(key) is None
        assert logs.versioned(key) is None
        assert logs.get_many([key, "a"]) == {"a": a_log("a")}
        assert logs.delete(key) is False
        with store.transaction() as tx:
            assert tx.collection(Log).get(key) is None
            assert not tx.collection(Log).delete(key)
