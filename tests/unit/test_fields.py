from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, Optional

import msgspec
import pytest

from pend_storage._model.fields import FieldSpec, Kind, Limit, fields_of
from pend_storage.errors import ConfigError
from pend_storage.records import JSON


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(Enum):
    ONE = 1
    TWO = "two"


@dataclass(frozen=True)
class Everything:
    text: str
    number: int
    flag: bool
    ratio: float
    amount: Decimal
    at: datetime
    on: date
    raw: bytes
    colour: Colour
    level: Level
    word: Literal["a", "b"]
    mark: Literal[1, 2]
    anything: JSON
    plain: Any
    members: dict[str, JSON]
    mapping: Mapping[str, JSON]
    bare: dict  # type: ignore[type-arg]
    items: list[JSON]
    maybe: str | None
    old_style: Optional[int]  # noqa: UP045 - people write it
    short: Annotated[str, Limit(max_length=3)]
    both: Annotated[int, Limit(ge=1), msgspec.Meta(le=9), "a remark"]
    inner: Annotated[int, Limit(ge=1)] | None
    outer: Annotated[int | None, Limit(ge=2)]


def specs(record_type: type) -> dict[str, FieldSpec]:
    return {spec.name: spec for spec in fields_of(record_type)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("text", Kind.STR),
        ("number", Kind.INT),
        ("flag", Kind.BOOL),
        ("ratio", Kind.FLOAT),
        ("amount", Kind.DECIMAL),
        ("at", Kind.DATETIME),
        ("on", Kind.DATE),
        ("raw", Kind.BYTES),
        ("colour", Kind.CHOICE),
        ("level", Kind.CHOICE),
        ("word", Kind.CHOICE),
        ("mark", Kind.CHOICE),
        ("anything", Kind.JSON),
        ("plain", Kind.JSON),
        ("members", Kind.OBJECT),
        ("mapping", Kind.OBJECT),
        ("bare", Kind.OBJECT),
        ("items", Kind.LIST),
        ("maybe", Kind.STR),
        ("old_style", Kind.INT),
    ],
)
def test_each_annotation_has_its_kind(name: str, kind: Kind) -> None:
    assert specs(Everything)[name].kind is kind


def test_fields_keep_their_order() -> None:
    assert list(specs(Everything))[:3] == ["text", "number", "flag"]


def test_only_what_may_be_none_is_optional() -> None:
    optional = {name for name, spec in specs(Everything).items() if spec.optional}

    assert optional == {"maybe", "old_style", "inner", "outer"}


def test_json_kinds_are_json() -> None:
    assert {kind for kind in Kind if kind.is_json} == {
        Kind.JSON,
        Kind.OBJECT,
        Kind.LIST,
    }


def test_limits_are_merged_from_whatever_has_their_names() -> None:
    found = specs(Everything)

    assert found["short"].limit == Limit(max_length=3)
    assert found["both"].limit == Limit(ge=1, le=9)
    assert found["inner"].limit == Limit(ge=1)
    assert found["outer"].limit == Limit(ge=2)
    assert found["text"].limit == Limit()


def test_choices_are_plain_values_and_the_enum_is_remembered() -> None:
    found = specs(Everything)

    assert (found["colour"].choices, found["colour"].enum) == (("red", "blue"), Colour)
    assert (found["level"].choices, found["level"].enum) == ((1, 2), Level)
    assert (found["word"].choices, found["word"].enum) == (("a", "b"), None)
    assert found["text"].choices == ()


def test_defaults_are_remembered() -> None:
    @dataclass(frozen=True)
    class Defaults:
        given: int
        zero: int = 0
        none: str | None = None
        empty: dict[str, JSON] = field(default_factory=dict)
        fresh: datetime = field(default_factory=lambda: datetime(1, 1, 1))  # noqa: DTZ001

    # The function's own names are no module's, so the annotations need no lookup.
    found = {spec.name: spec.default for spec in fields_of(Defaults)}

    assert found == {"given": ..., "zero": 0, "none": None, "empty": {}, "fresh": ...}


@dataclass
class NotFrozen:
    id: str


class NoDataclass:
    id: str


@dataclass(frozen=True)
class Unknown:
    id: set[str]


@dataclass(frozen=True)
class Either:
    id: str | int


@dataclass(frozen=True)
class MixedEnum:
    id: Mixed


@dataclass(frozen=True)
class MixedLiteral:
    id: Literal["a", 1]


@dataclass(frozen=True)
class BoolLiteral:
    id: Literal[True, False]


@dataclass(frozen=True)
class NullLiteral:
    id: Literal["a", None]  # noqa: PYI061 - people write it


@pytest.mark.parametrize(
    ("record_type", "part"),
    [
        (NotFrozen, "@dataclass(frozen=True)"),
        (NoDataclass, "@dataclass(frozen=True)"),
        (Unknown, "cannot be stored"),
        (Either, "cannot be stored"),
        (MixedEnum, "all str or all int"),
        (MixedLiteral, "all str or all int"),
        (BoolLiteral, "all str or all int"),
        (NullLiteral, "all str or all int"),
    ],
)
def test_a_type_that_cannot_be_stored_is_refused(record_type: type, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fields_of(record_type)

    assert record_type.__name__ in str(caught.value)
    assert part in str(caught.value)
