"""Three-way merges: changes of both sides are kept, and none is undone."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage import MergeConflict
from pend_storage._whole_files.three_way_merge import KeptText, merge, same

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from("abc")
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
        | st.lists(
            st.fixed_dictionaries({"id": st.integers(0, 5), "v": inner}),
            max_size=4,
            unique_by=lambda record: record["id"],
        )
    ),
    max_leaves=12,
)


def merged(base: Any, now: Any, new: Any, key: str | None = None) -> Any:
    return merge(base, now, new, file="a.json", key=key)


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(VALUES, VALUES)
def test_one_who_changes_gets_his_way(base: Any, changed: Any) -> None:
    assert json.dumps(merged(base, base, changed)) == json.dumps(changed)
    assert text(merged(base, changed, base)) == text(changed)


@given(VALUES, VALUES, VALUES)
def test_nothing_is_changed_that_was_given(base: Any, now: Any, new: Any) -> None:
    before = copy.deepcopy((base, now, new))
    with contextlib.suppress(MergeConflict):
        merged(base, now, new)

    assert json.dumps((base, now, new)) == json.dumps(before)


def unordered(value: Any) -> Any:
    """A value without the order of its lists."""
    if isinstance(value, dict):
        return {name: unordered(item) for name, item in value.items()}
    if isinstance(value, list):
        return sorted((unordered(item) for item in value), key=text)
    return value


@given(VALUES, VALUES, VALUES)
def test_it_does_not_matter_who_was_first(base: Any, now: Any, new: Any) -> None:
    """Up to the order of what both have added; a conflict is one for both."""
    try:
        one = merged(base, now, new)
    except MergeConflict:
        with pytest.raises(MergeConflict):
            merged(base, new, now)
        return
    assert text(unordered(one)) == text(unordered(merged(base, new, now)))


@given(
    st.dictionaries(st.sampled_from("abcdef"), SCALARS),
    st.dictionaries(st.sampled_from("abc"), SCALARS | st.just("gone")),
    st.dictionaries(st.sampled_from("def"), SCALARS | st.just("gone")),
)
def test_changes_of_different_members_are_both_kept(
    base: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    def changed(*changes: dict[str, Any]) -> dict[str, Any]:
        result = dict(base)
        for name, value in (item for change in changes for item in change.items()):
            if value == "gone":
                result.pop(name, None)
            else:
                result[name] = value
        return result

    assert text(merged(base, changed(one), changed(other))) == text(changed(one, other))


@given(
    st.lists(SCALARS, max_size=6),
    st.lists(SCALARS, max_size=3),
    st.lists(SCALARS, max_size=3),
)
def test_appends_are_all_kept(
    base: list[Any], one: list[Any], other: list[Any]
) -> None:
    result = merged(base, base + one, base + other)

    assert text(result[: len(base)]) == text(base)
    assert sorted(map(text, result[len(base) :])) == sorted(map(text, one + other))


@given(st.lists(SCALARS, min_size=2, max_size=8), st.data())
def test_a_deletion_and_an_append_are_both_kept(base: list[Any], data: Any) -> None:
    gone = data.draw(st.integers(0, len(base) - 1))
    one = base[:gone] + base[gone + 1 :]

    result = merged(base, one, [*base, "new"])

    assert sorted(map(text, result)) == sorted(map(text, [*one, "new"]))


@given(
    st.lists(st.integers(0, 8), unique=True),
    st.dictionaries(st.integers(0, 3), st.integers()),
    st.dictionaries(st.integers(5, 8), st.integers()),
)
def test_records_are_merged_by_their_keys(
    ids: list[int], one: dict[int, int], other: dict[int, int]
) -> None:
    base = [{"id": key, "v": None} for key in ids]

    def changed(change: dict[int, int]) -> list[dict[str, Any]]:
        known = {record["id"]: dict(record) for record in base}
        known |= {key: {"id": key, "v": value} for key, value in change.items()}
        return list(known.values())

    result = merged(base, changed(one), changed(other))

    expected = dict.fromkeys(ids) | one | other
    assert {record["id"]: record["v"] for record in result} == expected
    assert len(result) == len(expected)


@pytest.mark.parametrize(
    ("base", "now", "new", "path"),
    [
        ({"a": 1}, {"a": 2}, {"a": 3}, ("a",)),
        ({"a": 1}, {}, {"a": 3}, ("a",)),
        ({"a": 1}, {"a": 2}, {}, ("a",)),
        ({}, {"a": 2}, {"a": 3}, ("a",)),
        ({"a": 1}, {"a": True}, {"a": 0}, ("a",)),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, {"a": {"b": [3]}}, ("a", "b", 0)),
        ({"a": {}}, {"a": []}, {"a": 1}, ("a",)),
        ([], [{"id": 7, "n": 1}], [{"id": 7, "n": 2}], (7, "n")),
        (1, 2, 3, ()),
    ],
)
def test_a_conflict_names_the_member(
    base: Any, now: Any, new: Any, path: tuple[Any, ...]
) -> None:
    with pytest.raises(MergeConflict) as info:
        merged(base, now, new)

    assert info.value.member == path


@pytest.mark.parametrize(
    ("base", "now", "new", "result"),
    [
        # the last item changes, and both append
        (
            [{"n": 1}],
            [{"n": 2}, "x"],
            [{"n": 1, "m": 3}, "y"],
            [{"n": 2, "m": 3}, "x", "y"],
        ),
        # at the front
        (["a"], ["x", "a"], ["y", "a"], ["x", "y", "a"]),
        # an order is kept, and what comes is put behind what it stood behind
        ([1, 2, 3], [3, 2, 1], [1, 2, 3, 4], [3, 2, 1, 4]),
        (
            [{"id": 1}, {"id": 2}],
            [{"id": 2}, {"id": 1}],
            [{"id": 1}, {"id": 3}, {"id": 2}],
            [{"id": 2}, {"id": 1}, {"id": 3}],
        ),
        # a key twice: by position
        (
            [{"id": 1}],
            [{"id": 1}, {"id": 1}],
            [{"id": 1}, 5],
            [{"id": 1}, {"id": 1}, 5],
        ),
        # both the same
        ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}),
        ({"a": [1]}, {"a": []}, {"a": []}, {"a": []}),
    ],
)
def test_lists_and_orders(base: Any, now: Any, new: Any, result: Any) -> None:
    assert merged(base, now, new) == result


def test_the_key_that_the_layout_knows() -> None:
    base = [{"sku": "a", "n": 1}, {"sku": "b", "n": 1}]
    now = [{"sku": "b", "n": 1}, {"sku": "a", "n": 2}]
    new = [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]

    assert merged(base, now, new, key="sku") == [
        {"sku": "b", "n": 2},
        {"sku": "a", "n": 2},
    ]


def test_long_lists_that_have_nothing_in_common() -> None:
    base, now = list(range(3000)), list(range(5000, 8000))

    assert merged(base, now, base) == now
    assert merged(base, base, now) == now


def test_texts_that_are_no_values_stay_what_they_are() -> None:
    broken = KeptText(b'"a": {"x": NaN}', {"x": float("nan")})
    now = {"a": broken, "b": 1}
    shown = {"a": {"x": float("nan")}, "b": 1}

    for base in (now, shown):
        assert merged(base, now, {**shown, "b": 2})["a"] is broken
        assert merged(base, now, {**shown, "a": 5})["a"] == 5
    assert merged([broken], [broken, 1], [{"x": float("nan")}])[0] is broken


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ({"a": [1]}, {"a": [True]}, False),
        ("1", 1, False),
        (None, False, False),
        ([], {}, False),
        (float("nan"), float("nan"), True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ],
)
def test_what_says_the_same(left: Any, right: Any, is_same: bool) -> None:
    assert same(left, right) is is_same
