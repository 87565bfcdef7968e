"""Contract of ``find`` and ``count``: conditions."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from pend_storage.errors import InvalidQuery
from pend_storage.query import Condition, field
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, commit, each_case
from pend_storage.testing.domain import Alarm, Class, Ship, a_berth, a_ship

__all__ = ["ConditionContract", "JsonConditionContract"]


def found(store: Store, *where: Condition) -> str:
    """Return the letters of the ships that are found; ``count`` must agree."""
    ships = store.collection(Ship)
    letters = "".join(ship.id for ship in ships.find(*where).items)
    assert ships.count(*where) == len(letters)
    return letters


def fill(store: Store, name: str, values: list[Any]) -> None:
    """Put ships a, b, c, ... with values in a field."""
    letters = "abcdefghijklmnopqrstuvwxyz"[: len(values)]
    store.collection(Ship).put_many(
        a_ship(letter, **{name: value})
        for letter, value in zip(letters, values, strict=True)
    )


class ConditionContract(Harness):
    """Contract of conditions on typed fields."""

    def test_no_condition_finds_all(self, store: Store) -> None:
        fill(store, "crew", [1, 2, 3])

        assert found(store) == "abc"

    def test_several_conditions_must_all_hold(self, store: Store) -> None:
        fill(store, "crew", [1, 2, 3])

        assert found(store, field("crew") > 1, field("crew") < 3) == "b"

    @each_case(
        ("name", "values"),
        [
            ("crew", [1, 2, 3]),
            ("cargo_grams", [-(10**30), 2**63, 10**40]),
            ("registered", [False, True]),
            ("speed", [-1.5, 0.0, 1e300]),
            ("price", [Decimal("-0.5"), Decimal("0.4999"), Decimal(10**15)]),
            ("draught", [Decimal("1.00000000000000000000000001"), Decimal("1.1")]),
            (
                "docked_at",
                [
                    datetime(1, 1, 1, tzinfo=UTC),
                    datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
                    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
                ],
            ),
            ("scrapped", [date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)]),
            ("seal", [b"", b"\x00", b"\x00\x00", b"a", b"\xff"]),
            ("built_for", [Class.FERRY, Class.TANKER, Class.TUG]),
            ("alarm", [Alarm.NONE, Alarm.WATCH, Alarm.DANGER]),
            ("flag", ["blue", "green", "red"]),
            ("draft_mark", [1, 2, 3]),
            ("remark", ["", "A", "B", "a", "é", "\uffff", "\U0001f6a2"]),
        ],
    )
    def test_each_comparison_of_each_kind(
        self, store: Store, name: str, values: list[Any]
    ) -> None:
        fill(store, name, values)
        letters = "abcdefg"[: len(values)]
        if name in {"cargo_grams", "draught", "docked_at", "scrapped", "alarm"}:
            store.collection(Ship).put(a_ship("z"))

        for n, value in enumerate(values):
            assert found(store, field(name) == value) == letters[n]
            assert found(store, ~(field(name) != value)) == letters[n]
            assert found(store, field(name) < value) == letters[:n]
            assert found(store, field(name) <= value) == letters[: n + 1]
            assert found(store, field(name) > value) == letters[n + 1 :]
            assert found(store, field(name) >= value) == letters[n:]
        assert found(store, field(name).in_(values[1:])) == letters[1:]

    def test_an_enum_is_compared_by_its_value(self, store: Store) -> None:
        fill(store, "built_for", [Class.FERRY, Class.TUG])

        assert found(store, field("built_for") == "tug") == "b"
        assert found(store, field("built_for") == Class.TUG) == "b"
        assert found(store, field("built_for") < "g") == "a"

    def test_numbers_are_equal_by_value(self, store: Store) -> None:
        fill(store, "price", [Decimal("1.50"), Decimal("1.5000"), Decimal(1)])

        assert found(store, field("price") == Decimal("1.5")) == "ab"
        assert found(store, field("price") == 1) == "c"

    def test_an_operand_may_lie_outside_of_the_limits_of_its_field(
        self, store: Store
    ) -> None:
        fill(store, "crew", [1, 9_999])

        assert found(store, field("crew") < 10**30) == "ab"
        assert found(store, field("crew") > -(10**30)) == "ab"
        assert found(store, field("crew") == 2**63) == ""
        assert found(store, field("price") < Decimal("0.000000000001")) == "ab"
        assert found(store, field("name") == "x" * 1000) == ""
        assert found(store, field("call_sign") != "not a call sign") == "ab"

    def test_times_of_other_zones_are_the_same_instants(self, store: Store) -> None:
        east = timezone(timedelta(hours=5, minutes=45))
        fill(store, "docked_at", [datetime(2020, 1, 1, 12, tzinfo=UTC)])

        noon = datetime(2020, 1, 1, 17, 45, tzinfo=east)
        assert found(store, field("docked_at") == noon) == "a"

    def test_a_comparison_with_a_null_is_false_and_its_opposite_true(
        self, store: Store
    ) -> None:
        fill(store, "remark", ["x", None, "y"])

        assert found(store, field("remark") == "x") == "a"
        assert found(store, field("remark") != "x") == "bc"
        assert found(store, field("remark") < "z") == "ac"
        assert found(store, ~(field("remark") < "z")) == "b"
        assert found(store, ~field("remark").in_(["x"])) == "bc"
        assert found(store, ~field("remark").contains("x")) == "bc"
        assert found(store, ~field("remark").starts_with("x")) == "bc"

    def test_is_null_and_its_opposite(self, store: Store) -> None:
        fill(store, "cargo_grams", [0, None])

        assert found(store, field("cargo_grams").is_null()) == "b"
        assert found(store, ~field("cargo_grams").is_null()) == "a"

    def test_and_or_and_not_mean_what_they_say(self, store: Store) -> None:
        fill(store, "remark", ["x", None, "y", "z"])
        is_x, is_y = field("remark") == "x", field("remark") == "y"

        assert found(store, is_x | is_y) == "ac"
        assert found(store, is_x & is_y) == ""
        assert found(store, ~(is_x | is_y)) == "bd"
        assert found(store, ~is_x & ~is_y) == "bd"
        assert found(store, ~(is_x & is_y)) == "abcd"
        assert found(store, ~~is_x) == "a"
        assert found(store, (is_x | (field("crew") == 0)) & ~is_y) == "abd"

    def test_in_none_of_them_finds_nothing(self, store: Store) -> None:
        fill(store, "crew", [0, 1])

        assert found(store, field("crew").in_([])) == ""
        assert found(store, ~field("crew").in_([])) == "ab"

    def test_in_takes_any_iterable_and_many_values(self, store: Store) -> None:
        fill(store, "crew", [0, 4999, 5000])

        assert found(store, field("crew").in_(n for n in range(5000))) == "ab"

    def test_empty_values_are_values(self, store: Store) -> None:
        fill(store, "remark", ["", None, " "])

        assert found(store, field("remark") == "") == "a"
        assert found(store, field("remark").starts_with("")) == "ac"
        assert found(store, field("remark").contains("")) == "ac"
        assert found(store, field("seal") == b"") == "abc"
        assert found(store, field("cargo_grams") == 0) == ""

    def test_starts_with_counts_case_and_takes_every_character_as_it_is(
        self, store: Store
    ) -> None:
        fill(store, "remark", ["50%_\\x", "50%", "5", "a*b", "A*b", "\U0001f6a2s"])

        assert found(store, field("remark").starts_with("50%")) == "ab"
        assert found(store, field("remark").starts_with("50%_\\")) == "a"
        assert found(store, field("remark").starts_with("_")) == ""
        assert found(store, field("remark").starts_with("%")) == ""
        assert found(store, field("remark").starts_with("a*")) == "d"
        assert found(store, field("remark").starts_with("\U0001f6a2")) == "f"

    def test_contains_folds_the_case_of_ascii_letters_only(self, store: Store) -> None:
        fill(
            store, "remark", ["HeLLo", "\u00c9t\u00e9", "\u0130stanbul", "\u212a", "ß"]
        )

        assert found(store, field("remark").contains("LlO")) == "a"
        assert found(store, field("remark").contains("\u00e9T")) == ""
        assert found(store, field("remark").contains("\u00c9T")) == "b"
        assert found(store, field("remark").contains("i")) == ""
        assert found(store, field("remark").contains("STAN")) == "c"
        assert found(store, field("remark").contains("k")) == ""
        assert found(store, field("remark").contains("ss")) == ""

    def test_contains_takes_every_character_as_it_is(self, store: Store) -> None:
        fill(store, "name", ["100%", "100", "a_b", "aXb", "back\\slash", "(x)"])

        assert found(store, field("name").contains("%")) == "a"
        assert found(store, field("name").contains("_")) == "c"
        assert found(store, field("name").contains("\\")) == "e"
        assert found(store, field("name").contains("(X)")) == "f"
        assert found(store, field("name").contains(".*")) == ""

    def test_text_may_be_searched_in_choices(self, store: Store) -> None:
        fill(store, "flag", ["blue", "green", "red"])

        assert found(store, field("flag").contains("RE")) == "bc"
        assert found(store, field("flag").starts_with("gr")) == "b"

    def test_a_reference_and_a_key_are_fields_like_others(self, store: Store) -> None:
        commit(store, a_berth("b1"), a_ship("a", berth_id="b1"), a_ship("b"))

        assert found(store, field("berth_id") == "b1") == "a"
        assert found(store, field("id") >= "b") == "b"
        assert found(store, field("id").in_(["a", "x"])) == "a"

    @each_case(
        "condition",
        [
            field("nonsense") == 1,
            field("crew") == "1",
            field("crew") == 1.0,
            field("crew") == True,  # noqa: E712
            field("crew") == None,  # noqa: E711
            field("crew").in_([1, None]),
            field("registered") == 1,
            field("name") == 1,
            field("name") == b"x",
            field("speed") == math.nan,  # noqa: PLW0177 - to be refused
            field("speed") < math.inf,
            field("price") == 1.5,
            field("price") == Decimal("NaN"),
            field("seen_at") > datetime(2020, 1, 1),  # noqa: DTZ001
            field("seen_at") > date(2020, 1, 1),
            field("built") > datetime(2020, 1, 1, tzinfo=UTC),
            field("seal") == "x",
            field("built_for") == 3,
            field("alarm") == "none",
            field("crew").contains("1"),
            field("speed").starts_with("1"),
            field("alarm").contains("1"),
            field("draft_mark").starts_with(""),
            field("name", "inside") == 1,
            field("tags", "inside") == 1,
            field("extra", "a") == None,  # noqa: E711
            field("anything") == object(),
        ],
    )
    def test_a_condition_that_makes_no_sense_is_refused(
        self, store: Store, condition: Condition
    ) -> None:
        store.collection(Ship).put(a_ship())

        with pytest.raises(InvalidQuery):
            store.collection(Ship).find(condition)
        with pytest.raises(InvalidQuery):
            store.collection(Ship).count(condition)


class JsonConditionContract(Harness):
    """Contract of conditions on JSON values, and inside of them."""

    def test_numbers_are_equal_by_value_and_booleans_are_no_numbers(
        self, store: Store
    ) -> None:
        fill(store, "anything", [1, 1.0, True, "1", None, 0, False, [], {}])

        assert found(store, field("anything") == 1) == "ab"
        assert found(store, field("anything") == 1.0) == "ab"
        assert found(store, field("anything") == True) == "c"  # noqa: E712
        assert found(store, field("anything") == "1") == "d"
        assert found(store, field("anything") == 0) == "f"
        assert found(store, field("anything") == False) == "g"  # noqa: E712
        assert found(store, field("anything") == []) == "h"
        assert found(store, field("anything") == {}) == "i"
        assert found(store, field("anything").in_([1, "1", []])) == "abdh"
        assert found(store, field("anything").is_null()) == "e"
        assert found(store, field("anything") != 1) == "cdefghi"

    def test_large_numbers_are_compared_exactly(self, store: Store) -> None:
        fill(store, "anything", [2**53, 2**53 + 1, 2.0**53, 10**40, 1e40, 1e23])

        assert found(store, field("anything") == 2**53) == "ac"
        assert found(store, field("anything") == 2**53 + 1) == "b"
        assert found(store, field("anything") == 10**40) == "d"
        assert found(store, field("anything") == 1e40) == "e"
        assert found(store, field("anything") > 2**53) == "bdef"

    def test_objects_and_lists_are_equal_by_value(self, store: Store) -> None:
        values = [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, {"a": 1}, {"a": [1, 2]}]
        fill(store, "extra", values)

        assert found(store, field("extra") == {"b": [2], "a": 1.0}) == "ab"
        assert found(store, field("extra", "a") == [1, 2]) == "d"
        assert found(store, field("extra", "a") == [2, 1]) == ""
        assert found(store, field("extra", "a") == 1) == "abc"

    def test_a_missing_member_is_null(self, store: Store) -> None:
        fill(store, "extra", [{}, {"a": None}, {"a": 0}, {"a": {"b": 1}}, {"a": "b"}])

        assert found(store, field("extra", "a").is_null()) == "ab"
        assert found(store, field("extra", "a", "b").is_null()) == "abce"
        assert found(store, field("extra", "a", "b") == 1) == "d"
        assert found(store, field("extra", "a") != 0) == "abde"
        assert found(store, ~(field("extra", "a") < 1)) == "abde"

    def test_a_path_leads_through_objects_only(self, store: Store) -> None:
        fill(store, "anything", [["x"], {"0": "x"}, {"a": ["x"]}, "0", None])

        assert found(store, field("anything", "0") == "x") == "b"
        assert found(store, field("anything", "a", "0").is_null()) == "abcde"

    def test_a_null_object_has_no_members(self, store: Store) -> None:
        fill(store, "papers", [None, {}, {"a": 1}])

        assert found(store, field("papers").is_null()) == "a"
        assert found(store, field("papers", "a").is_null()) == "ab"
        assert found(store, field("papers", "a") == 1) == "c"
        assert found(store, field("papers") == {}) == "b"

    def test_order_holds_between_two_numbers_or_two_texts(self, store: Store) -> None:
        values = [1, 2.5, "1", "B", "a", True, None, [3], {"x": 9}, -(10**30)]
        fill(store, "anything", values)

        assert found(store, field("anything") < 2) == "aj"
        assert found(store, field("anything") >= 2.5) == "b"
        assert found(store, field("anything") > "A") == "de"
        assert found(store, field("anything") <= "B") == "cd"
        assert found(store, ~(field("anything") <= "B")) == "abefghij"

    @each_case("operand", [True, [1], {"a": 1}])
    def test_order_with_anything_else_never_holds(
        self, store: Store, operand: Any
    ) -> None:
        fill(store, "anything", [True, False, [1], {"a": 1}, 0, "x"])

        assert found(store, field("anything") <= operand) == ""
        assert found(store, field("anything") >= operand) == ""
        assert found(store, ~(field("anything") < operand)) == "abcdef"

    def test_text_is_found_in_texts_only(self, store: Store) -> None:
        fill(store, "anything", ["Hello", ["hello"], {"a": "hello"}, 5, None, "%"])

        assert found(store, field("anything").contains("hell")) == "a"
        assert found(store, field("anything").starts_with("H")) == "a"
        assert found(store, field("anything").starts_with("h")) == ""
        assert found(store, field("anything").contains("%")) == "f"
        assert found(store, field("anything").contains("")) == "af"

    @each_case(
        "name",
        ["", " ", "a.b", "a,b", '"', "'", "\\", "{}", "$", "%s", ":x", "é", "0", "\n"],
    )
    def test_a_member_may_have_any_name(self, store: Store, name: str) -> None:
        fill(store, "extra", [{name: 1}, {name + "x": 1}, {"z": {name: "t"}}])

        assert found(store, field("extra", name) == 1) == "a"
        assert found(store, field("extra", "z", name).contains("T")) == "c"

    def test_a_list_is_compared_as_a_whole(self, store: Store) -> None:
        fill(store, "tags", [[], [1], [1, [2, {"a": None}]]])

        assert found(store, field("tags") == []) == "a"
        assert found(store, field("tags") == [1.0, [2, {"a": None}]]) == "c"
        assert found(store, field("tags") == [1, [2, {}]]) == ""
