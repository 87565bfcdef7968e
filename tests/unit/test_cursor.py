from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage._cursor import decode_cursor, encode_cursor
from pend_storage.errors import InvalidQuery
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
