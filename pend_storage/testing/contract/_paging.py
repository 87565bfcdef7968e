"""Contract of ``find``: order, limits, cursors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from pend_storage._cursor import MAX_CURSOR, CursorKey
from pend_storage._model.records import Page
from pend_storage.errors import InvalidQuery
from pend_storage.query import Condition, field
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, each_case
from pend_storage.testing.contract._querying import fill
from pend_storage.testing.domain import Alarm, Class, Ship, a_berth, a_log, a_ship

__all__ = ["OrderContract", "PageContract"]


def pages(
    store: Store, *where: Condition, order_by: Sequence[str] = (), limit: int
) -> list[str]:
    """Return the letters of each page, to the end."""
    ships, cursor, letters = store.collection(Ship), None, []
    while True:
        page = ships.find(*where, order_by=order_by, limit=limit, after=cursor)
        letters.append("".join(ship.id for ship in page.items))
        cursor = page.next
        if cursor is None:
            return letters


def ordered(store: Store, *order_by: str) -> str:
    """Return the letters in an order; paging must give the same order."""
    letters = "".join(
        ship.id for ship in store.collection(Ship).find(order_by=order_by).items
    )
    for limit in (1, 2):
        assert "".join(pages(store, order_by=order_by, limit=limit)) == letters
    return letters


class OrderContract(Harness):
    """Contract of ``order_by``."""

    def test_without_an_order_records_come_by_key(self, store: Store) -> None:
        keys = ["b", "A", "\U0001f6a2", "a", "\uffff", "10", "9"]
        store.collection("logs").put_many(a_log(key) for key in keys)

        found = [log.id for log in store.collection("logs").find().items]

        assert found == sorted(keys)

    @each_case(
        ("name", "values"),
        [
            ("crew", [10, 9, 100, 0]),
            ("cargo_grams", [10**30, -1, None, 2**64, 2**63]),
            ("registered", [True, False, True]),
            ("insured", [True, None, False]),
            ("speed", [1e300, -1e300, 0.0, 1e-300, 0.1]),
            ("heading", [359.9, None, 0.0]),
            ("price", [Decimal("10.5"), Decimal("9.75"), Decimal(-1)]),
            ("draught", [Decimal("1.1"), None, Decimal("1." + "0" * 40 + "1")]),
            (
                "docked_at",
                [
                    datetime(2020, 1, 1, 0, 0, 0, 2, tzinfo=UTC),
                    None,
                    datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
                    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
                    datetime(1, 1, 1, tzinfo=UTC),
                ],
            ),
            ("scrapped", [date(9999, 12, 31), None, date(1, 1, 1)]),
            ("seal", [b"b", b"", b"\xff", b"\x00", b"ab"]),
            ("built_for", [Class.TUG, Class.FERRY, Class.TANKER]),
            ("alarm", [Alarm.DANGER, None, Alarm.WATCH, Alarm.NONE]),
            ("draft_mark", [3, None, 1]),
            (
                "remark",
                ["b", None, "B", "", "a", "\U0001f6a2", "\uffff", "é", "z", " ", "-"],
            ),
        ],
    )
    def test_each_kind_sorts_both_ways_with_nulls_last(
        self, store: Store, name: str, values: list[Any]
    ) -> None:
        fill(store, name, values)
        letters = "abcdefghijk"
        there = [
            (v.value if isinstance(v, Class) else v, letter)
            for v, letter in zip(values, letters, strict=False)
            if v is not None
        ]
        nulls = "".join(x for v, x in zip(values, letters, strict=False) if v is None)

        rising = sorted(there)
        falling = sorted(there, key=lambda pair: pair[1])
        falling.sort(key=lambda pair: pair[0], reverse=True)

        assert ordered(store, name) == "".join(x for _, x in rising) + nulls
        assert ordered(store, f"-{name}") == "".join(x for _, x in falling) + nulls

    def test_ties_go_by_key_upwards_in_either_direction(self, store: Store) -> None:
        fill(store, "crew", [1, 0, 1, 0, 1])

        assert ordered(store, "crew") == "bdace"
        assert ordered(store, "-crew") == "acebd"

    def test_several_fields_each_have_their_direction(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put_many(
            [
                a_ship("a", flag="red", crew=1, remark="x"),
                a_ship("b", flag="blue", crew=2),
                a_ship("c", flag="red", crew=2, remark="y"),
                a_ship("d", flag="blue", crew=2, remark="z"),
                a_ship("e", flag="red", crew=2),
            ]
        )

        assert ordered(store, "flag", "-crew", "remark") == "dbcea"
        assert ordered(store, "-flag", "crew", "-remark") == "acedb"
        assert ordered(store, "-crew", "flag") == "bdcea"

    def test_one_may_sort_by_the_key(self, store: Store) -> None:
        fill(store, "crew", [1, 1, 2])

        assert ordered(store, "-id") == "cba"
        assert ordered(store, "crew", "-id") == "bac"

    @each_case("order_by", [["nonsense"], ["extra"], ["--crew"], [""], ["-"], "crew"])
    def test_an_order_that_makes_no_sense_is_refused(
        self, store: Store, order_by: Sequence[str]
    ) -> None:
        with pytest.raises(InvalidQuery):
            store.collection(Ship).find(order_by=order_by)


class PageContract(Harness):
    """Contract of ``limit`` and ``after``."""

    def test_limit_zero_gives_nothing(self, store: Store) -> None:
        fill(store, "crew", [1, 2])

        assert store.collection(Ship).find(limit=0) == Page((), None)

    def test_a_page_that_holds_all_is_the_last(self, store: Store) -> None:
        fill(store, "crew", [1, 2, 3])

        assert pages(store, limit=3) == ["abc"]
        assert pages(store, limit=2) == ["ab", "c"]
        assert pages(store, limit=1) == ["a", "b", "c"]
        assert store.collection(Ship).find().next is None

    def test_an_empty_answer_is_the_last_page(self, store: Store) -> None:
        assert store.collection(Ship).find(limit=5) == Page((), None)

    @each_case("limit", [-1, True, 1.5, "1"])
    def test_a_limit_that_makes_no_sense_is_refused(
        self, store: Store, limit: Any
    ) -> None:
        with pytest.raises(InvalidQuery):
            store.collection(Ship).find(limit=limit)

    def test_conditions_hold_on_every_page(self, store: Store) -> None:
        fill(store, "crew", [0, 5, 1, 6, 2, 7, 3])

        found = pages(store, field("crew") < 5, order_by=["-crew"], limit=2)

        assert found == ["ge", "ca"]

    def test_pages_of_thousands_give_each_record_once(self, store: Store) -> None:
        ships = store.collection(Ship)
        ships.put_many(a_ship(f"{n:04}", crew=n * 7 % 100) for n in range(1500))

        cursor: str | None = None
        seen: list[tuple[int, str]] = []
        while cursor is not None or not seen:
            page = ships.find(order_by=["-crew"], limit=400, after=cursor)
            seen += [(-ship.crew, ship.id) for ship in page.items]
            cursor = page.next

        assert seen == sorted(seen)
        assert len(set(seen)) == 1500

    def test_a_page_may_end_among_nulls(self, store: Store) -> None:
        fill(store, "remark", [None, "x", None, None])

        assert pages(store, order_by=["remark"], limit=2) == ["ba", "cd"]
        assert pages(store, order_by=["-remark"], limit=2) == ["ba", "cd"]

    def test_the_next_page_follows_even_if_its_border_was_deleted(
        self, store: Store
    ) -> None:
        fill(store, "crew", [1, 2, 3])
        ships = store.collection(Ship)
        first = ships.find(order_by=["crew"], limit=2)
        ships.delete("b")

        second = ships.find(order_by=["crew"], limit=2, after=first.next)

        assert second == Page((a_ship("c", crew=3),), None)

    def test_a_cursor_works_with_another_limit(self, store: Store) -> None:
        fill(store, "crew", [1, 2, 3, 4])
        ships = store.collection(Ship)
        cursor = ships.find(limit=1).next

        assert [s.id for s in ships.find(limit=2, after=cursor).items] == ["b", "c"]
        assert [s.id for s in ships.find(after=cursor).items] == ["b", "c", "d"]

    def test_a_cursor_of_another_query_is_refused(self, store: Store) -> None:
        fill(store, "crew", [1, 2])
        store.collection("berths").put_many([a_berth("a"), a_berth("b")])
        ships = store.collection(Ship)
        cursor = ships.find(order_by=["crew"], limit=1).next

        for order_by in ([], ["-crew"], ["crew", "name"], ["speed"]):
            with pytest.raises(InvalidQuery):
                ships.find(order_by=order_by, limit=1, after=cursor)
        with pytest.raises(InvalidQuery):
            store.collection("berths").find(limit=1, after=ships.find(limit=1).next)

    @each_case("cursor", ["", "x", "é", "bnVsbA", "W10", "\x00"])
    def test_what_is_no_cursor_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(InvalidQuery):
            store.collection(Ship).find(limit=1, after=cursor)

    def test_with_a_key_only_signed_cursors_are_taken(self, store: Store) -> None:
        fill(store, "crew", [1, 2, 3])
        unsigned = store.collection(Ship).find(limit=1).next
        store.cursor_key = CursorKey("k" * 32)
        ships = store.collection(Ship)
        cursor = ships.find(limit=1).next
        assert cursor is not None

        assert [s.id for s in ships.find(after=cursor).items] == ["b", "c"]
        with store.transaction() as tx:
            found = tx.collection(Ship).find(after=cursor)
            assert [s.id for s in found.items] == ["b", "c"]
        for forged in (unsigned, cursor[:-1], cursor[1:], cursor.rpartition(".")[0]):
            with pytest.raises(InvalidQuery):
                ships.find(after=forged)

    def test_a_cursor_that_is_too_long_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidQuery, match="at most"):
            store.collection(Ship).find(limit=1, after="x" * (MAX_CURSOR + 1))
