from __future__ import annotations

import copy
import functools
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import override

from pend_storage._model import limits
from pend_storage.errors import InvalidQuery
from pend_storage.query import (
    And,
    Comparison,
    Condition,
    Not,
    Operator,
    Or,
    Query,
    SortKey,
    field,
    fold_case,
    make_query,
    matches,
    select,
    sort_key,
)
from pend_storage.records import Row
from pend_storage.testing.domain import SCHEMA, Alarm, Class, a_ship

SHIPS = SCHEMA["ships"]


def holds(condition: Condition, **fields: Any) -> bool:
    return matches(make_query(SHIPS, [condition]).where, a_ship(**fields))


def rows(**letters: dict[str, Any]) -> list[Row]:
    return [Row(key, 1, a_ship(key, **fields)) for key, fields in letters.items()]


def letters(found: list[Row]) -> str:
    return "".join(row.key for row in found)


def test_conditions_are_built_with_operators() -> None:
    is_a, is_b = field("name") == "a", field("name") == "b"

    assert is_a == Comparison(("name",), Operator.EQ, "a")
    assert (field("name") != "a") == Not(is_a)
    assert (is_a & is_b) == And((is_a, is_b))
    assert (is_a | is_b) == Or((is_a, is_b))
    assert ~is_a == Not(is_a)
    assert field("extra", "a", "b").path == ("extra", "a", "b")


def test_a_condition_has_no_truth() -> None:
    with pytest.raises(InvalidQuery, match="combine conditions with &"):
        bool(field("name") == "a")
    with pytest.raises(InvalidQuery, match="combine conditions with &"):
        _ = (field("name") == "a") and (field("crew") == 1)


def test_forgotten_parentheses_are_pointed_out() -> None:
    is_a: Any = field("name") == "a"

    mistakes: list[Callable[[], object]] = [
        lambda: is_a & field("crew") == 1,
        lambda: is_a | field("crew") == 1,
        lambda: field("crew") == 1 & is_a,
        lambda: field("crew") == 1 | is_a,
        lambda: is_a & True,
    ]
    for mistake in mistakes:
        with pytest.raises(InvalidQuery, match="parentheses"):
            mistake()


def test_a_field_path_cannot_be_a_key_of_a_dict() -> None:
    with pytest.raises(TypeError):
        hash(field("name"))


@pytest.mark.parametrize("limit", [-1, True, 1.5, "1"])
def test_a_limit_must_be_a_natural_number(limit: Any) -> None:
    with pytest.raises(InvalidQuery, match="limit"):
        make_query(SHIPS, limit=limit)


def test_an_order_must_be_a_list_of_fields_that_have_one() -> None:
    assert make_query(SHIPS, order_by=["crew", "-name"]).order_by == (
        SortKey("crew"),
        SortKey("name", descending=True),
    )
    with pytest.raises(InvalidQuery, match="a list of names"):
        make_query(SHIPS, order_by="crew")
    with pytest.raises(InvalidQuery, match="cannot sort by the JSON field 'tags'"):
        make_query(SHIPS, order_by=["tags"])
    with pytest.raises(InvalidQuery, match="has no field 'nothing'; it has: id, name"):
        make_query(SHIPS, order_by=["nothing"])


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        ("name = 'a'", "is not a condition"),
        (True, "is not a condition"),
        (field("name"), "is not a condition"),
        (And((field("name"),)), "is not a condition"),  # type: ignore[arg-type]
        (field("name", "a") == 1, "ships.name is not a JSON object"),
        (field("crew").contains("1"), "crew is not text"),
        (field("draft_mark").starts_with("1"), "draft_mark is not text"),
        (field("extra", "a") == None, "use is_null"),  # noqa: E711
        (field("crew") == "one", r"ships.crew == 'one': str given"),
        (field("alarm") == True, "bool given"),  # noqa: E712
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(
    condition: Any, part: str
) -> None:
    with pytest.raises(InvalidQuery, match=part):
        make_query(SHIPS, [condition])


def test_operands_are_stored_as_values_are() -> None:
    def operand(condition: Condition) -> Any:
        checked = make_query(SHIPS, [condition]).where
        assert isinstance(checked, And)
        (comparison,) = checked.conditions
        assert isinstance(comparison, Comparison)
        return comparison.value

    assert operand(field("built_for") == Class.TUG) == "tug"
    assert operand(field("alarm").in_([Alarm.WATCH, 7])) == (1, 7)
    assert operand(field("speed") == 3) == 3.0
    assert type(operand(field("speed") == 3)) is float
    assert operand(field("anything") == (1, 2)) == [1, 2]


def test_an_order_inside_json_without_meaning_becomes_what_never_holds() -> None:
    checked = make_query(SHIPS, [field("extra", "a") < [1], ~(field("tags") > True)])

    assert checked.where == And((Or(()), Not(Or(()))))


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        (field("remark") == "a", ["a"], ["b", "A", None]),
        (field("remark") != "a", ["b", None], ["a"]),
        (field("remark") < "b", ["a", "B", ""], ["b", "c", None]),
        (field("remark") <= "b", ["a", "b"], ["c", None]),
        (field("remark") > "b", ["c", "\U0001f6a2"], ["b", "B", None]),
        (field("remark") >= "b", ["c", "b"], ["a", None]),
        (field("remark").in_(["a", "b"]), ["a", "b"], ["c", None]),
        (field("remark").in_([]), [], ["a", None]),
        (field("remark").is_null(), [None], ["", "a"]),
        (field("remark").starts_with("a%"), ["a%", "a%b"], ["ab", "A%", None]),
        (field("remark").contains("Bc"), ["abcd", "aBCd"], ["b c", None, ""]),
        (field("anything") == 1, [1, 1.0], [True, "1", None, [1]]),
        (field("anything") < 2, [1, 1.5, -(10**30)], [2, True, "1", None, [1], {}]),
        (field("anything") >= "b", ["b", "c"], [1, None, ["b"], {"b": 1}]),
        (field("anything").contains("b"), ["abc"], [["b"], {"b": 1}, 1, None]),
        (
            field("anything", "a") == 1,
            [{"a": 1.0}],
            [{}, {"a": True}, ["a"], "a", None],
        ),
        (field("anything", "a").is_null(), [{}, {"a": None}, 1, None], [{"a": 0}]),
        (field("anything") == [], [[]], [{}, None, 0, ""]),
        (~(field("anything") < 2), ["1", None, 2], [1]),
    ],
)
def test_each_operator(condition: Condition, yes: list[Any], no: list[Any]) -> None:
    checked = make_query(SHIPS, [condition])
    for value in yes:
        assert matches(checked.where, a_ship(remark=value, anything=value)), value
    for value in no:
        assert not matches(checked.where, a_ship(remark=value, anything=value)), value


def test_all_of_none_holds_and_one_of_none_does_not() -> None:
    assert holds(And(()))
    assert not holds(Or(()))


def test_and_or_not() -> None:
    low, high = field("crew") > 1, field("crew") < 5

    assert [holds(low & high, crew=n) for n in (1, 3, 5)] == [False, True, False]
    assert [holds(~low | ~high, crew=n) for n in (1, 3, 5)] == [True, False, True]


def test_only_a_condition_can_be_evaluated() -> None:
    with pytest.raises(TypeError, match="not a condition"):
        matches("name = 'a'", a_ship())  # type: ignore[arg-type]


def test_ascii_letters_are_folded_and_no_others() -> None:
    assert fold_case("AZaz[É\u0130\u212a") == "azaz[É\u0130\u212a"


def test_nulls_sort_last_either_way_and_ties_by_key_upwards() -> None:
    found = rows(
        d={"remark": "x"}, a={"remark": None}, c={"remark": "y"}, b={"remark": "x"}
    )

    up = select(make_query(SHIPS, order_by=["remark"]), found)
    down = select(make_query(SHIPS, order_by=["-remark"]), found)

    assert (letters(up), letters(down)) == ("bdca", "cbda")


def test_enums_sort_by_value() -> None:
    found = rows(a={"alarm": Alarm.DANGER}, b={"alarm": Alarm.WATCH}, c={"alarm": None})

    assert letters(select(make_query(SHIPS, order_by=["alarm"]), found)) == "bac"


def test_a_page_begins_after_its_cursor_and_ends_at_its_limit() -> None:
    found = rows(a={"crew": 2}, b={"crew": 1}, c={"crew": 2}, d={"crew": 3})

    query = make_query(SHIPS, order_by=["-crew"], limit=2, after=((3,), "d"))

    assert letters(select(query, found)) == "ac"
    assert letters(select(Query(limit=0), found)) == ""
    assert letters(select(Query(after=((), "b")), found)) == "cd"


def test_sort_keys_compare_descending_values_the_other_way_round() -> None:
    down = [SortKey("crew", descending=True)]

    assert sort_key(down, [2], "a") < sort_key(down, [1], "a")
    assert sort_key(down, [2], "a") == sort_key(down, [2], "a")
    assert sort_key(down, [2], "a") < sort_key(down, [2], "b")
    assert sort_key(down, [2], "a") < sort_key(down, [None], "a")


CREW = field("crew") >= 1


def nested(levels: int) -> Condition:
    """Return a condition of so many levels, none of which can be joined with another."""
    condition = CREW
    for level in range(levels):
        condition = Or((condition, CREW)) if level % 2 else And((condition, CREW))
    return condition


BEYOND: list[Callable[[], list[Condition]]] = [
    lambda: [CREW] * (limits.MAX_CONDITIONS + 1),
    lambda: [CREW & Or((CREW,) * (limits.MAX_CONDITIONS // 2))] * 3,
    lambda: [~And((CREW,) * limits.MAX_CONDITIONS), CREW],
    lambda: [Or((CREW,) * (limits.MAX_CONDITIONS + 1))],
    lambda: [functools.reduce(operator.and_, [CREW] * 70_000)],
    lambda: [field("crew").in_(range(limits.MAX_IN + 1))],
    lambda: [Comparison(("crew",), Operator.IN, range(limits.MAX_IN + 1))],
    lambda: [field("extra", *["a"] * (limits.MAX_DEPTH + 1)).is_null()],
    lambda: [field("extra", *["a"] * 100_000) == 1],
    lambda: [field("extra", *["a"] * 100) == 1] * (limits.MAX_CONDITIONS // 100),
    lambda: [field("extra", "x" * (limits.MAX_OPERAND_BYTES + 1)) == 1],
    lambda: [field("name") == "x" * (limits.MAX_OPERAND_BYTES + 1)],
    lambda: [field("name").contains("é" * (limits.MAX_OPERAND_BYTES // 2))],
    lambda: [field("extra") == {"a": ["x" * limits.MAX_OPERAND_BYTES, "y"]}],
    lambda: [field("extra") == {"x" * limits.MAX_OPERAND_BYTES: 1}],
    lambda: [field("id").in_(["x" * (limits.MAX_OPERAND_BYTES // 100)] * 101)],
    lambda: [field("id") == "x" * (limits.MAX_OPERAND_BYTES // 100)] * 101,
    lambda: [field("seal") == b"x" * (limits.MAX_OPERAND_BYTES + 1)],
    lambda: [field("crew") == 10**5_000],
    lambda: [field("anything") == 10**5_000],
    lambda: [Comparison(("crew",), Operator.IN, 5)],
    lambda: [nested(limits.MAX_CONDITION_DEPTH + 1)],
    lambda: [nested(100_000)],
    lambda: [~nested(limits.MAX_CONDITION_DEPTH)],
    lambda: [nested(limits.MAX_CONDITION_DEPTH) & CREW | CREW],
]


@pytest.mark.parametrize("where", BEYOND, ids=map(str, range(len(BEYOND))))
def test_what_is_beyond_a_limit_is_refused_in_few_words(
    where: Callable[[], list[Condition]],
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        make_query(SHIPS, where())

    assert len(str(caught.value)) < 1_000


def test_what_is_at_a_limit_is_taken() -> None:
    for where in (
        [CREW] * limits.MAX_CONDITIONS,
        [Or((CREW,) * limits.MAX_CONDITIONS)],
        [functools.reduce(operator.or_, [CREW] * limits.MAX_CONDITIONS)],
        [field("crew").in_(range(limits.MAX_IN))],
        [field("extra", *["a"] * limits.MAX_DEPTH).is_null()],
        [field("extra", *["a"] * 99) == 1] * (limits.MAX_CONDITIONS // 100),
        [field("name") == "x" * (limits.MAX_OPERAND_BYTES - 4)],
        [~nested(limits.MAX_CONDITION_DEPTH - 1)],
        # An unstorable text makes one more level of its comparison.
        [~functools.reduce(lambda c, _: ~(c & CREW), range(49), field("name") == "\0")],
    ):
        make_query(SHIPS, where)


def test_chains_and_double_negations_are_flat() -> None:
    a, b, c = (field("crew") == number for number in (1, 2, 3))

    assert (a & b) & c == a & (b & c) == And((a, b, c))
    assert (a | b) | c == a | (b | c) == Or((a, b, c))
    assert (a & b) | c == Or((And((a, b)), c))
    assert ~~a == a
    assert And(()) & a == And((a,))
    assert functools.reduce(lambda made, _: ~made, range(1_001), a) == Not(a)


def test_the_deepest_condition_can_be_shown_copied_and_evaluated() -> None:
    deepest = nested(limits.MAX_CONDITION_DEPTH)

    def on_a_long_stack(frames: int) -> bool:
        if frames:
            return on_a_long_stack(frames - 1)
        assert repr(deepest).count("crew") == limits.MAX_CONDITION_DEPTH + 1
        assert pickle.loads(pickle.dumps(deepest)) == deepest  # noqa: S301 - our own
        assert copy.deepcopy(CREW & (CREW | CREW)) == CREW & (CREW | CREW)
        assert hash(deepest) == hash(nested(limits.MAX_CONDITION_DEPTH))
        return holds(deepest, crew=1)

    assert on_a_long_stack(300)


def test_many_texts_are_found_as_fast_as_one() -> None:
    compared: list[object] = []

    class Text(str):
        __slots__ = ()

        @override
        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str(self) == other

        __hash__ = str.__hash__

    where = make_query(SHIPS, [field("name").in_(map(str, range(10_000)))]).where

    assert not matches(where, a_ship("s", name=Text("none")))
    assert len(compared) < 100
    assert holds(field("name").in_(["a", "9999"]), name="9999")
    assert not holds(field("anything").in_(["1"]), anything=1)
    assert holds(field("anything").in_(["1", 1]), anything=1)
