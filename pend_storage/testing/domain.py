"""Fictional harbour: a schema with every kind of field and every kind of constraint.

The contract runs on it. Use it for your own tests that need a schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Final, Literal

from pend_storage._model.fields import Limit
from pend_storage._model.records import JSON
from pend_storage.schema import Schema, collection

__all__ = [
    "SCHEMA",
    "Berth",
    "Cargo",
    "Class",
    "Log",
    "Ship",
    "Tally",
    "a_berth",
    "a_cargo",
    "a_log",
    "a_ship",
    "a_tally",
]


class Class(Enum):
    """Purpose of a ship, as an enum of texts."""

    FERRY = "ferry"
    TANKER = "tanker"
    TUG = "tug"


class Alarm(IntEnum):
    """Severity, as an enum of integers: ordered by number, not by name."""

    NONE = 0
    WATCH = 1
    DANGER = 10


@dataclass(frozen=True, kw_only=True)
class Berth:
    """Berth of a harbour; pier and number are unique together."""

    id: Annotated[str, Limit(max_length=200)]
    pier: str
    number: int | None = None
    neighbour_id: str | None = None
    """Reference to another berth, or to itself."""


@dataclass(frozen=True, kw_only=True)
class Ship:
    """Ship: one field of every kind, once required and once optional."""

    id: str
    name: Annotated[str, Limit(max_length=40)]
    call_sign: Annotated[str, Limit(pattern="^[A-Z0-9]{2,8}$")] | None = None
    """Unique, except null."""
    berth_id: str | None = None
    crew: Annotated[int, Limit(ge=0, lt=10_000)] = 0
    cargo_grams: int | None = None
    """Integer of any size."""
    registered: bool = False
    insured: bool | None = None
    speed: float = 0.0
    heading: Annotated[float, Limit(ge=0, lt=360)] | None = None
    price: Annotated[Decimal, Limit(digits=20, places=4)] = Decimal(0)
    draught: Decimal | None = None
    """Decimal with any number of digits."""
    seen_at: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    docked_at: datetime | None = None
    built: date = date(2000, 2, 29)
    scrapped: date | None = None
    seal: bytes = b""
    fingerprint: Annotated[bytes, Limit(min_length=2, max_length=32)] | None = None
    """Unique, except null."""
    built_for: Class = Class.FERRY
    alarm: Alarm | None = None
    flag: Literal["blue", "green", "red"] = "blue"
    draft_mark: Literal[1, 2, 3] | None = None
    remark: str | None = None
    """Field with a search index."""
    extra: dict[str, JSON] = field(default_factory=dict)
    papers: dict[str, JSON] | None = None
    tags: list[JSON] = field(default_factory=list)
    signals: list[JSON] | None = None
    anything: JSON = None


@dataclass(frozen=True, kw_only=True)
class Cargo:
    """Cargo; its reference to a ship is required."""

    id: str
    ship_id: str
    tonnes: int = 0
    loaded_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counter, with a key that is not called ``id``."""

    name: str
    value: int = 0


@dataclass(frozen=True, kw_only=True)
class Log:
    """Log line, without any constraint."""

    id: str
    text: str = ""


SCHEMA: Final = Schema(
    [
        collection(
            "berths",
            Berth,
            unique=[["pier", "number"]],
            references={"neighbour_id": "berths"},
        ),
        collection(
            "ships",
            Ship,
            unique=["call_sign", "fingerprint"],
            references={"berth_id": "berths"},
            indexes=[["built_for", "-crew"], ["flag"], ["-seen_at"]],
            search=["name", "remark"],
        ),
        collection(
            "cargo",
            Cargo,
            references={"ship_id": "ships"},
            indexes=[["ship_id", "-loaded_at"]],
        ),
        collection("tallies", Tally, key="name"),
        collection("logs", Log),
    ]
)


def a_berth(id: str = "b1", **fields: Any) -> Berth:  # noqa: A002 - the field's name
    """Build a berth; its pier defaults to its id."""
    return replace(Berth(id=id, pier=id), **fields)


def a_ship(id: str = "s1", **fields: Any) -> Ship:  # noqa: A002
    """Build a ship; its name defaults to its id."""
    return replace(Ship(id=id, name=id), **fields)


def a_cargo(id: str = "c1", *, ship_id: str = "s1", **fields: Any) -> Cargo:  # noqa: A002
    """Build a cargo on the ship s1, or on another."""
    return replace(Cargo(id=id, ship_id=ship_id), **fields)


def a_tally(name: str = "t1", value: int = 0) -> Tally:
    """Build a counter."""
    return Tally(name=name, value=value)


def a_log(id: str = "l1", text: str = "") -> Log:  # noqa: A002
    """Build a log line."""
    return Log(id=id, text=text)
