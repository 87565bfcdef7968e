"""The cheap test of records never says yes where a check would say anything else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage._model.fast_path import PlainRecords, plain_json
from pend_storage._model.fields import Limit, fields_of
from pend_storage.codec import value_checker
from pend_storage.records import JSON


class Word(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


class Text(str):
    """Not plain."""

    __slots__ = ()


@dataclass(frozen=True)
class Everything:
    a: str
    b: Annotated[str, Limit(max_length=2)]
    c: Annotated[str, Limit(pattern=r"\A[a-z]+\Z", max_length=3)]
    d: Annotated[str, Limit(min_length=1)]
    e: int
    f: Annotated[int, Limit(ge=0, le=9)]
    g: Annotated[int, Limit(gt=0)]
    h: bool
    i: Decimal
    j: Annotated[Decimal, Limit(digits=4, places=2)]
    k: Annotated[Decimal, Limit(digits=3, places=0, ge=0)]
    l: datetime  # noqa: E741 - one letter a field
    m: Word
    n: Literal["a", "b"]
    o: Literal[1, 2]
    p: JSON
    q: dict[str, JSON]
    r: list[JSON]
    s: float
    t: bytes
    u: str | None
    v: dict[str, JSON] | None


SPECS = fields_of(Everything)
scalars: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            *("", "a", "ab", "abc", "abcd", "é", "a\x00", "\ud800", "a\n", Text("a")),
            *(0, 1, 9, 10, -1, 2**63, 10**4_200, True, False, Number.ONE, None),
            *(0.0, -0.0, 1.5, float("nan"), float("inf"), b"", b"a", bytearray(b"a")),
            *(
                Decimal(0),
                Decimal("-0"),
                Decimal("1.25"),
                Decimal("1.250"),
                Decimal(100),
            ),
            *(Decimal("NaN"), Decimal("Infinity"), Decimal("0.001"), Decimal("1e3")),
            datetime(2025, 1, 1),  # noqa: DTZ001 - a naive time is the point
            datetime(2025, 1, 1, tzinfo=UTC),
            datetime(2025, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            Word.A,
        ]
    ),
    st.text(max_size=3),
    st.integers(),
    st.decimals(),
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=2) | st.sampled_from([1, "\x00"]), inner)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@given(value=anything)
def test_what_is_called_plain_is_accepted_as_it_is(spec: Any, value: Any) -> None:
    record = type("Record", (), {spec.name: value})()

    plain = PlainRecords((spec,))(record)

    if plain and not (value is None and spec.optional):
        assert value_checker(spec)(value) is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("a", "text"),
            ("b", "ab"),
            ("c", "abc"),
            ("e", 2**63),
            ("f", 9),
            ("h", True),
        ),
        *(
            ("j", Decimal("12.25")),
            ("l", datetime(2025, 1, 1, tzinfo=UTC)),
            ("m", Word.A),
        ),
        *(
            ("n", "b"),
            ("o", 2),
            ("p", {"a": [1, 0.5, None, "x", {}]}),
            ("q", {}),
            ("r", []),
        ),
        *(("u", None), ("u", "a"), ("v", None)),
    ],
)
def test_usual_values_are_plain(name: str, value: Any) -> None:
    spec = next(spec for spec in SPECS if spec.name == name)

    assert PlainRecords((spec,))(type("Record", (), {name: value})())


def test_more_shapes_than_can_be_remembered_do_no_harm() -> None:
    specs = tuple(spec for spec in SPECS if spec.name in {"u", "v"})
    test = PlainRecords(specs)

    for number in range(1_500):
        odd = type(f"Odd{number}", (), {})()
        assert not test(type("Record", (), {"u": odd, "v": None})())
    assert test(type("Record", (), {"u": "a", "v": {}})())


def test_json_is_plain_down_to_the_depth_that_may_be_stored() -> None:
    nest: Any = "bottom"
    for _ in range(200):
        nest = [nest]

    assert plain_json(nest)
    assert not plain_json([nest])
    assert not plain_json({"a": nest})
