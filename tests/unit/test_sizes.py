from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pend_storage._model import sizes
from pend_storage._model.sizes import (
    SizeLimits,
    TooLargeError,
    check_value,
    jsonb_bytes,
)
from pend_storage.codec import dump_json
from pend_storage.errors import InvalidRecord
from pend_storage.testing.domain import SCHEMA, a_log, a_ship

REAL_LOOK = sizes.CLOSER_LOOK
SMALL = SizeLimits(record=9_000, commit=20_000, value=4_000, items=300, members=200)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "STORABLE", SMALL)
    monkeypatch.setattr(sizes, "CLOSER_LOOK", 1_000)


def deep(levels: int, inside: Any) -> Any:
    value: Any = inside
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        pytest.param("anything", "x" * 4_001, "a text of 4,001 bytes", id="text"),
        pytest.param("anything", "\u00e9" * 2_001, "a text of 4,002 bytes", id="utf-8"),
        pytest.param("anything", {"k" * 4_001: 1}, "a member name of 4,001", id="name"),
        pytest.param("tags", [0] * 301, "a list of 301 items", id="items"),
        pytest.param("tags", deep(50, [0] * 301), "a list of 301 items", id="inside"),
        pytest.param(
            "extra", {f"{n}": n for n in range(201)}, "an object of 201", id="members"
        ),
        pytest.param("tags", ["x" * 99] * 40, "a list of 4,", id="together"),
        pytest.param("tags", [[0] * 200, [0] * 200], "a list of 4,", id="numbers"),
        pytest.param("extra", {"a": ["x" * 2_000] * 2}, "a list of 4,", id="member"),
        pytest.param("signals", deep(199, "x" * 3_000), "a list of 4,", id="depth"),
    ],
)
def test_a_value_that_jsonb_cannot_hold_is_refused_by_name(
    field: str, value: Any, words: str
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        SCHEMA.put("ships", a_ship("s1", **{field: value}))

    error = caught.value
    assert (error.key, error.field, error.code) == ("s1", field, "too-large")
    assert words in error.reason
    assert str(error).startswith(f"ships['s1'].{field}: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("anything", "x" * 3_900),
        ("tags", [None] * 300),
        ("extra", {f"{n}": True for n in range(200)}),
        ("remark", "x" * 8_000),
    ],
)
def test_what_jsonb_can_hold_passes(field: str, value: Any) -> None:
    assert len(SCHEMA.put("ships", a_ship("s1", **{field: value})).body) > 1_000


def test_values_that_are_too_large_together_are_refused() -> None:
    texts = {"remark": "x" * 4_000, "seal": b"x" * 3_000}
    SCHEMA.put("ships", a_ship("s1", **texts))

    with pytest.raises(InvalidRecord) as caught:
        SCHEMA.put("ships", a_ship("s1", **texts, anything="x" * 1_500))

    assert (caught.value.field, caught.value.code) == (None, "too-large")
    assert caught.value.key == "s1"


def test_one_commit_is_refused_where_its_records_are_too_large_together() -> None:
    puts = [SCHEMA.put("logs", a_log(f"l{n}", "x" * (6_000 + n))) for n in range(4)]
    assert len(SCHEMA.batch(puts[:3]).operations) == 3

    with pytest.raises(InvalidRecord) as caught:
        SCHEMA.batch(puts)

    assert (caught.value.key, caught.value.code) == ("l3", "too-large")
    assert len(SCHEMA.batch(puts, limited=False).operations) == 4


def test_shorter_records_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: Any) -> None:
        raise AssertionError("looked at")

    monkeypatch.setattr(sizes, "check_value", look)
    monkeypatch.setattr(sizes, "CLOSER_LOOK", 3_000)

    SCHEMA.put("ships", a_ship("s1", anything="x" * 2_000))
    with pytest.raises(AssertionError):
        SCHEMA.put("ships", a_ship("s1", anything="x" * 3_000))


@pytest.mark.parametrize(
    "item", [0, -1.5, [], {}, {"": 0}, "", None, 5e-324, 12_345, [[[1]]], 10**16]
)
def test_a_record_that_is_not_looked_at_passes_every_limit(item: Any) -> None:
    real = SizeLimits()

    often = REAL_LOOK // (len(dump_json(item)) + 1)

    assert often <= real.items
    assert often * (jsonb_bytes([item] * 100, real) / 100) <= real.value


def test_a_quick_count_is_enough_for_one_long_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure(*_: Any) -> int:
        raise AssertionError("measured")

    monkeypatch.setattr(sizes, "jsonb_bytes", measure)
    text = b'"' + b"x" * 3_000 + b'"'

    check_value("x" * 3_000, text, SMALL)


def test_measuring_names_what_is_too_large() -> None:
    with pytest.raises(TooLargeError, match=r"^a list of 5 items; 4 can be stored$"):
        jsonb_bytes({"a": [1, 2, 3, 4, 5]}, replace(SMALL, items=4))
