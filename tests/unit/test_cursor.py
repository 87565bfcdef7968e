from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage import _cursor
from pend_storage._cursor import MAX_CURSOR, CursorKey, decode_cursor, encode_cursor
from pend_storage.errors import ConfigError, InvalidQuery
from pend_storage.query import SortKey, sort_values
from pend_storage.schema import CollectionSpec
from pend_storage.testing.domain import SCHEMA
from pend_storage.testing.strategies import keys_for, records

SHIPS = SCHEMA["ships"]
SORTABLE = [spec.name for spec in SHIPS.fields.values() if not spec.kind.is_json]


@given(
    ship=records(SCHEMA, "ships", keys_for(SCHEMA)),
    names=st.lists(st.sampled_from(SORTABLE), max_size=4),
    descending=st.booleans(),
)
def test_values_of_every_kind_come_back_equal_and_of_their_type(
    ship: Any, names: list[str], *, descending: bool
) -> None:
    orders = [SortKey(name, descending) for name in names]
    checked = SCHEMA.put("ships", ship).record
    values = sort_values(orders, checked)

    cursor = encode_cursor(SHIPS, orders, values, checked.id)
    found, key = decode_cursor(SHIPS, orders, cursor)

    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]
    assert key == checked.id


def forged(*content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "a",
        "é",
        "\ud800",
        "====",
        None,
        7,
        forged(),
        forged("ships,crew", [1]),
        forged("ships,crew", [1], 7),
        forged("ships,crew", [], "k"),
        forged("ships,crew", [1, 2], "k"),
        forged("ships,crew", ["one"], "k"),
        forged("ships,crew", [[]], "k"),
        forged("ships,crew", [1], "k\x00"),
        base64.urlsafe_b64encode(
            b'["ships,crew",' + b"[" * 5000 + b"]" * 5000 + b',"k"]'
        ).decode(),
    ],
)
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    with pytest.raises(InvalidQuery, match="not a cursor"):
        decode_cursor(SHIPS, [SortKey("crew")], cursor)


@pytest.mark.parametrize(
    ("spec", "orders"),
    [
        (SHIPS, [SortKey("crew", descending=True)]),
        (SHIPS, [SortKey("draft_mark")]),
        (SCHEMA["cargo"], [SortKey("tonnes")]),
    ],
)
def test_a_cursor_of_another_query_is_refused(
    spec: CollectionSpec, orders: list[SortKey]
) -> None:
    cursor = encode_cursor(SHIPS, [SortKey("crew")], [3], "s1")

    with pytest.raises(InvalidQuery, match="belongs to a query of 'ships,crew'"):
        decode_cursor(spec, orders, cursor)


# -- signed cursors -----------------------------------------------------------------------

CREW = [SortKey("crew")]
KEY = CursorKey("k" * 32)


@given(
    ship=records(SCHEMA, "ships", keys_for(SCHEMA)),
    names=st.lists(st.sampled_from(SORTABLE), max_size=4),
)
def test_a_signed_cursor_comes_back_equal(ship: Any, names: list[str]) -> None:
    orders = [SortKey(name) for name in names]
    checked = SCHEMA.put("ships", ship).record
    values = sort_values(orders, checked)

    cursor = encode_cursor(SHIPS, orders, values, checked.id, signed_by=KEY)

    assert decode_cursor(SHIPS, orders, cursor, signed_by=KEY) == (values, checked.id)


@given(st.data())
def test_no_change_of_a_signed_cursor_is_taken(data: st.DataObject) -> None:
    cursor = encode_cursor(SHIPS, CREW, [3], "s1", signed_by=KEY)
    place = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.sampled_from("ABCabc019-_.é"))
    changed = f"{cursor[:place]}{letter}{cursor[place + 1 :]}"

    try:
        found = decode_cursor(SHIPS, CREW, changed, signed_by=KEY)
    except InvalidQuery:
        return
    # The last digit of the signature has bits that mean nothing.
    assert found == ((3,), "s1")
    assert changed.rpartition(".")[0] == cursor.rpartition(".")[0]


@pytest.mark.parametrize(
    "cursor",
    [
        encode_cursor(SHIPS, CREW, [3], "s1"),
        encode_cursor(SHIPS, CREW, [3], "s1", signed_by=CursorKey("o" * 32)),
        "",
        "..",
        "x" * 100,
        None,
        7,
        "\ud800.a.b",
    ],
    # Not by the cursors: one has the time at which it was made.
    ids=[
        "unsigned",
        "another key",
        "empty",
        "dots",
        "text",
        "none",
        "number",
        "surrogate",
    ],
)
def test_what_the_key_has_not_signed_is_refused(cursor: Any) -> None:
    with pytest.raises(InvalidQuery, match="not a cursor"):
        decode_cursor(SHIPS, CREW, cursor, signed_by=KEY)


def test_a_signed_cursor_is_none_of_a_store_without_a_key() -> None:
    cursor = encode_cursor(SHIPS, CREW, [3], "s1", signed_by=KEY)

    with pytest.raises(InvalidQuery, match="not a cursor"):
        decode_cursor(SHIPS, CREW, cursor)


def test_a_cursor_key_is_replaced_without_refused_cursors() -> None:
    old, new = "o" * 32, "n" * 32
    both = CursorKey(f"{new},{old}")

    for key, other in ((CursorKey(old), both), (both, CursorKey(new))):
        cursor = encode_cursor(SHIPS, CREW, [3], "s1", signed_by=key)
        assert decode_cursor(SHIPS, CREW, cursor, signed_by=other) == ((3,), "s1")


def test_a_cursor_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    key = CursorKey("k" * 32, lifetime=60)
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    cursor = encode_cursor(SHIPS, CREW, [3], "s1", signed_by=key)

    now[0] += 60
    assert decode_cursor(SHIPS, CREW, cursor, signed_by=key) == ((3,), "s1")
    now[0] += 1
    with pytest.raises(InvalidQuery, match="expired"):
        decode_cursor(SHIPS, CREW, cursor, signed_by=key)
    assert decode_cursor(SHIPS, CREW, cursor, signed_by=KEY) == ((3,), "s1")


@pytest.mark.parametrize(
    "settings", [{"key": "short"}, {"key": "k" * 32, "lifetime": 0}]
)
def test_a_cursor_key_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        CursorKey(**settings)

    assert "short" not in str(caught.value).replace("shorter", "")


def test_a_page_whose_cursor_would_be_too_long_says_so() -> None:
    with pytest.raises(InvalidQuery, match="shorter values"):
        encode_cursor(SHIPS, [SortKey("name")], ["x" * MAX_CURSOR], "s1")


def test_a_long_text_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_cursor, "_bytes", lambda _: pytest.fail("it was decoded"))

    with pytest.raises(InvalidQuery, match="at most") as caught:
        decode_cursor(SHIPS, CREW, "x" * (MAX_CURSOR + 1))

    assert len(str(caught.value)) < 500
