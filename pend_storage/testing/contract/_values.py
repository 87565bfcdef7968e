"""Contract of values: those that are stored exactly, and those that are refused."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from typing_extensions import override

from pend_storage.errors import InvalidRecord
from pend_storage.query import field
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, each_case
from pend_storage.testing.domain import (
    Alarm,
    Berth,
    Class,
    Log,
    Ship,
    a_berth,
    a_log,
    a_ship,
)

__all__ = ["AcceptedContract", "RefusedContract"]


class Word(str, Enum):  # noqa: UP042 - a StrEnum would be an ordinary text
    """Text of a subclass of ``str``."""

    ONE = "one"


class LoudInt(int):
    """Integer of a subclass of ``int``, printed in another way."""

    @override
    def __str__(self) -> str:
        return "LOUD"


class Moment(datetime):
    """Time of a subclass of ``datetime``."""


def nested(depth: int) -> Any:
    """Build lists and objects, nested to a depth."""
    value: Any = "deep"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


STORED: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "\x01\x1f\x7f\x80\ufeff\ufffe\uffff"),
    ("name", "e\u0301 is not \u00e9"),
    ("name", "\U0001f6a2" * 40),
    ("name", "'; drop table ships; -- \\ \" %s {} $1"),
    ("remark", None),
    ("remark", ""),
    ("remark", " \n\r\n\t "),
    ("remark", "\u2028\u2029\x85"),
    ("remark", "x" * 100_000),
    ("crew", 0),
    ("crew", 9_999),
    ("cargo_grams", 2**31),
    ("cargo_grams", -(2**63) - 1),
    ("cargo_grams", 10**77),
    ("cargo_grams", -(10**3999)),
    ("cargo_grams", 0),
    ("registered", True),
    ("insured", False),
    ("insured", None),
    ("speed", 0.1),
    ("speed", 5e-324),
    ("speed", 1.7976931348623157e308),
    ("speed", -1e23),
    ("speed", 123456789012345680.0),
    ("speed", 0.30000000000000004),
    ("heading", 0.0),
    ("price", Decimal("1234567890123456.7891")),
    ("price", Decimal("-0.0001")),
    ("draught", Decimal("0." + "123456789" * 100)),
    ("draught", Decimal("9" * 2000 + ".5")),
    ("draught", Decimal("1E+100")),
    ("draught", Decimal("1E-1000")),
    ("draught", Decimal(0)),
    ("seen_at", datetime(1, 1, 1, tzinfo=UTC)),
    ("seen_at", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ("seen_at", datetime(2024, 2, 29, 23, 59, 59, 1, tzinfo=UTC)),
    ("seen_at", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ("seen_at", datetime(1582, 10, 10, tzinfo=UTC)),
    ("docked_at", None),
    ("built", date(1, 1, 1)),
    ("built", date(9999, 12, 31)),
    ("scrapped", date(2024, 2, 29)),
    ("seal", b""),
    ("seal", bytes(range(256))),
    ("seal", b"\\x00\\000''"),
    ("seal", b"\xff" * 100_000),
    ("fingerprint", b"\x00\x00"),
    ("built_for", Class.TUG),
    ("alarm", Alarm.NONE),
    ("alarm", Alarm.DANGER),
    ("flag", "red"),
    ("draft_mark", 3),
    ("extra", {}),
    ("extra", {"": ""}),
    ("extra", {"a": None, "b": [], "c": {}, "d": "", "e": 0, "f": False}),
    ("extra", {"1": 1, "01": 2, "é": 3, "e\u0301": 4, "\U0001f6a2": 5}),
    ("extra", {"z": 1, "a": 2, "m": 3}),
    ("extra", {"'": 1, '"': 2, "\\": 3, "\n": 4, "a.b": 5, "$.x": 6, "{}": 7}),
    ("papers", None),
    ("papers", {}),
    ("tags", []),
    ("tags", [None, [], [[]], {}, "", 0, False]),
    ("signals", []),
    ("signals", None),
    ("anything", None),
    ("anything", ""),
    ("anything", "null"),
    ("anything", False),
    ("anything", 0),
    ("anything", 2**64),
    ("anything", -(10**40)),
    ("anything", 10**3999),
    ("anything", 1.5),
    ("anything", 1e23),
    ("anything", -1e300),
    ("anything", 1.7976931348623157e308),
    ("anything", 5e-324),
    ("anything", 1e16),
    ("anything", 123456789012345680.0),
    ("anything", [1e22, {"a": 1e23}, -1e-7]),
    ("anything", "1e23"),
    ("anything", "\x01\x7f\uffff\U0010ffff"),
    ("anything", {"1e5": "1E5"}),
    ("anything", nested(200)),
    ("anything", [{"n": n} for n in range(2000)]),
]


class AcceptedContract(Harness):
    """Contract of accepted values: they come back equal, by value and by type."""

    @each_case(("name", "value"), STORED)
    def test_a_value_comes_back_equal(
        self, store: Store, name: str, value: Any
    ) -> None:
        ship = a_ship("s1", **{name: value})
        before = store.head()
        store.collection(Ship).put(ship)

        found = store.collection(Ship).get("s1")

        assert found == ship
        stored = getattr(found, name)
        assert type(stored) is type(value)
        assert types(stored) == types(value)
        (change,) = store.changes(before)
        assert change.records[0].record == ship

    def test_all_values_come_back_from_one_commit(self, store: Store) -> None:
        ships = [
            a_ship(f"{n:03}", **{name: value}) for n, (name, value) in enumerate(STORED)
        ]

        store.collection(Ship).put_many(ships)

        assert list(store.collection(Ship).scan()) == ships

    @each_case(
        ("name", "given", "stored"),
        [
            ("speed", -0.0, 0.0),
            ("heading", -0.0, 0.0),
            ("price", Decimal("-0.00"), Decimal(0)),
            ("draught", Decimal("1.50"), Decimal("1.5")),
            ("anything", -0.0, 0.0),
            ("anything", [{"a": -0.0}], [{"a": 0.0}]),
            ("speed", 3, 3.0),
            ("price", 3, Decimal(3)),
            ("seal", bytearray(b"ab"), b"ab"),
            ("seal", memoryview(b"ab"), b"ab"),
            ("tags", (1, (2,)), [1, [2]]),
            ("name", Word.ONE, "one"),
            ("anything", {Word.ONE: Word.ONE}, {"one": "one"}),
            ("crew", LoudInt(3), 3),
            ("anything", [LoudInt(3), Alarm.DANGER], [3, 10]),
            (
                "seen_at",
                datetime(2020, 1, 1, 5, 45, tzinfo=timezone(timedelta(hours=5.75))),
                datetime(2020, 1, 1, tzinfo=UTC),
            ),
            (
                "seen_at",
                Moment(2020, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
                datetime(2020, 1, 1, tzinfo=UTC),
            ),
        ],
    )
    def test_what_is_equal_by_value_is_stored_plainly(
        self, store: Store, name: str, given: Any, stored: Any
    ) -> None:
        store.collection(Ship).put(a_ship("s1", **{name: given}))

        found = getattr(store.collection(Ship).get("s1"), name)

        assert found == stored
        assert types(found) == types(stored)
        if isinstance(stored, float):
            assert math.copysign(1, found) == 1

    def test_the_longest_values_that_an_index_holds_are_stored(
        self, store: Store
    ) -> None:
        dice = random.Random(1)  # noqa: S311 - so that nothing can be compressed
        text = "".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(213)) + "x"
        number = dice.randrange(10**998, 10**999)
        berth = a_berth(text[:200], pier=text, number=number)

        store.collection(Log).put(a_log(text))
        store.collection(Berth).put(berth)

        assert store.collection(Log).get(text) == a_log(text)
        assert store.collection(Berth).find(field("pier") == text).items == (berth,)

    def test_times_come_back_in_utc(self, store: Store) -> None:
        east = timezone(timedelta(hours=14))
        store.collection(Ship).put(a_ship("s1", docked_at=datetime.now(east)))

        ship = store.collection(Ship).get("s1")

        assert ship is not None
        assert ship.docked_at is not None
        assert ship.docked_at.tzinfo is UTC


class RefusedContract(Harness):
    """Contract of refused values: ``InvalidRecord``, before anything is written."""

    @each_case(
        ("name", "value"),
        [
            ("name", None),
            ("name", 1),
            ("name", b"x"),
            ("name", "x" * 41),
            ("name", "a\x00"),
            ("name", "\ud800"),
            ("name", "\udc80a"),
            ("remark", "\x00"),
            ("remark", "\ud83d"),
            ("call_sign", "ab"),
            ("call_sign", ""),
            ("call_sign", "\x00"),
            ("berth_id", "\x00"),
            ("crew", -1),
            ("crew", 10_000),
            ("crew", 1.0),
            ("crew", "1"),
            ("crew", True),
            ("crew", None),
            ("cargo_grams", 1e5),
            ("cargo_grams", 10**4001),
            ("registered", 1),
            ("registered", "true"),
            ("registered", None),
            ("speed", math.nan),
            ("speed", math.inf),
            ("speed", -math.inf),
            ("speed", "1"),
            ("speed", True),
            ("speed", 10**400),
            ("speed", 2**53 + 1),
            ("heading", 360.0),
            ("heading", -0.1),
            ("price", 1.5),
            ("price", "1.5"),
            ("price", Decimal("0.00001")),
            ("price", Decimal(10**16)),
            ("price", Decimal("NaN")),
            ("price", Decimal("sNaN")),
            ("draught", Decimal("Infinity")),
            ("draught", Decimal("1E+131072")),
            ("draught", Decimal("1E-16384")),
            ("draught", False),
            ("seen_at", datetime(2020, 1, 1)),  # noqa: DTZ001
            ("seen_at", "2020-01-01T00:00:00Z"),
            ("seen_at", date(2020, 1, 1)),
            ("seen_at", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
            (
                "seen_at",
                datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=2))),
            ),
            ("built", datetime(2020, 1, 1, tzinfo=UTC)),
            ("built", "2020-01-01"),
            ("seal", "text"),
            ("seal", None),
            ("fingerprint", b"1"),
            ("fingerprint", b"1" * 33),
            ("built_for", "tug"),
            ("built_for", Alarm.NONE),
            ("alarm", 10),
            ("flag", "yellow"),
            ("flag", "BLUE"),
            ("flag", None),
            ("draft_mark", 4),
            ("draft_mark", True),
            ("draft_mark", 1.0),
            ("extra", None),
            ("extra", []),
            ("extra", "x"),
            ("extra", {1: "x"}),
            ("extra", {"a": {2}}),
            ("extra", {"a\x00": 1}),
            ("extra", {"\ud800": 1}),
            ("extra", {"a": [{"b": "\x00"}]}),
            ("extra", {"a": [{"b": "\udfff"}]}),
            ("extra", {"a": math.nan}),
            ("extra", {"a": [-math.inf]}),
            ("papers", []),
            ("tags", {}),
            ("tags", None),
            ("tags", "text"),
            ("tags", [b"x"]),
            ("tags", [Decimal(1)]),
            ("tags", [datetime(2020, 1, 1, tzinfo=UTC)]),
            ("anything", object()),
            ("anything", 10**4001),
            ("anything", math.inf),
            ("anything", nested(201)),
        ],
    )
    def test_a_value_is_refused_with_its_place(
        self, store: Store, name: str, value: Any
    ) -> None:
        with pytest.raises(InvalidRecord) as caught:
            store.collection(Ship).put(a_ship("s1", **{name: value}))

        error = caught.value
        assert (error.collection, error.field) == ("ships", name)
        assert error.reason
        assert store.collection(Ship).count() == 0

    @each_case("key", ["", "\x00", "a\x00", "\ud800"])
    def test_a_key_is_refused(self, store: Store, key: str) -> None:
        with pytest.raises(InvalidRecord) as caught:
            store.collection("logs").put(a_log(key))

        assert caught.value.field == "id"

    def test_what_no_index_holds_is_refused(self, store: Store) -> None:
        for record, name in (
            (a_log("x" * 641), "id"),
            (a_log("\U0001f6a2" * 161), "id"),
            (a_berth("b1", pier="x" * 641), "pier"),
            (a_berth("b1", number=10**1000), "number"),
            (a_berth("b1", neighbour_id="x" * 641), "neighbour_id"),
        ):
            with pytest.raises(InvalidRecord) as caught:
                store.collection(type(record)).put(record)
            assert caught.value.field == name

    def test_a_key_that_no_index_holds_can_be_asked_for(self, store: Store) -> None:
        logs = store.collection(Log)

        assert logs.get("x" * 10_000) is None
        assert logs.count(field("id") == "x" * 10_000) == 0
        assert logs.delete("x" * 10_000) is False
        assert list(logs.scan(after="x" * 10_000)) == []

    def test_a_list_that_holds_itself_is_refused(self, store: Store) -> None:
        loop: list[Any] = []
        loop.append(loop)

        with pytest.raises(InvalidRecord):
            store.collection(Ship).put(a_ship("s1", tags=loop))


def types(value: Any) -> Any:
    """Return the types of a value and of all values in it, because 1 == 1.0."""
    if isinstance(value, dict):
        return {name: types(item) for name, item in value.items()}
    if isinstance(value, list):
        return [types(item) for item in value]
    return type(value)
