"""Round trip of values: all that the codec accepts come back equal, on every write path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pend_storage.errors import InvalidRecord
from pend_storage.query import Condition, make_query, select
from pend_storage.records import ChangedRecord, Row
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.databases import Databases
from pend_storage.testing.domain import SCHEMA, Log, Ship, a_ship
from pend_storage.testing.strategies import conditions, orders, records, values

SHIPS = SCHEMA["ships"]
KEYS = {"ships": ["s1"]}
Write = Callable[[PostgresStore, Sequence[Any]], None]

everything = st.builds(
    Ship,
    **{
        name: values(field)
        for name, field in SHIPS.fields.items()
        if name not in {"id", "berth_id"}
    },
    id=st.just("s1"),
    berth_id=st.none(),
)


@pytest.fixture(scope="module")
def store(databases: Databases) -> Iterator[PostgresStore]:
    url = databases.lend(SCHEMA)
    with PostgresStore(SCHEMA, url) as store:
        yield store
    databases.give_back(url)


@pytest.fixture
def emptied(store: PostgresStore) -> PostgresStore:
    with psycopg.connect(**store.address.settings) as connection:
        connection.execute("truncate ships, cargo, berths, changes, tombstones")
    return store


def empty(store: PostgresStore) -> None:
    with psycopg.connect(**store.address.settings) as connection:
        connection.execute("truncate ships, cargo, berths, changes, tombstones")


def one_by_one(store: PostgresStore, ships: Sequence[Any]) -> None:
    for ship in ships:
        store.collection(Ship).put(ship)


def in_one_batch(store: PostgresStore, ships: Sequence[Any]) -> None:
    store.collection(Ship).put_many(ships)


def by_apply(store: PostgresStore, ships: Sequence[Any]) -> None:
    store.apply([ChangedRecord("ships", s.id, 1, SHIPS.codec.check(s)) for s in ships])


def by_copy(store: PostgresStore, ships: Sequence[Any]) -> None:
    """So many more that COPY is worth it."""
    checked = [SHIPS.codec.check(ship) for ship in ships]
    filling = [a_ship(f"filling {number}") for number in range(300)]
    store.apply([ChangedRecord("ships", s.id, 1, s) for s in (*filling, *checked)])


@pytest.mark.parametrize("write", [one_by_one, in_one_batch, by_apply, by_copy])
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(ships=st.lists(everything, min_size=1, max_size=6))
def test_records_come_back_equal(
    store: PostgresStore, write: Write, ships: list[Ship]
) -> None:
    empty(store)
    apart = [
        replace(s, id=f"s{i}", call_sign=None, fingerprint=None)
        for i, s in enumerate(ships)
    ]

    write(store, apart)

    found = store.collection(Ship).get_many([ship.id for ship in apart])
    assert found == {ship.id: SHIPS.codec.check(ship) for ship in apart}
    for record in found.values():
        assert repr(SHIPS.codec.check(record)) == repr(record)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(ship=everything)
def test_the_change_log_holds_what_was_written(
    store: PostgresStore, ship: Ship
) -> None:
    empty(store)
    before = store.head()
    version = store.collection(Ship).put(ship)

    (change,) = store.changes(before)

    assert change.records == (
        ChangedRecord("ships", "s1", version, SHIPS.codec.check(ship)),
    )


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    ships=st.lists(records(SCHEMA, "ships", KEYS), min_size=5, max_size=25),
    asked=st.lists(
        st.tuples(conditions(SHIPS, KEYS), orders(SHIPS)), min_size=1, max_size=10
    ),
    size=st.integers(1, 4),
)
def test_queries_answer_as_the_model_does(
    store: PostgresStore,
    ships: list[Ship],
    asked: list[tuple[Condition, list[str]]],
    size: int,
) -> None:
    empty(store)
    apart = [
        replace(s, id=f"s{i}", call_sign=None, fingerprint=None, berth_id=None)
        for i, s in enumerate(ships)
    ]
    in_one_batch(store, apart)
    rows = [Row(s.id, 0, SHIPS.codec.check(s)) for s in apart]

    for where, order_by in asked:
        query = make_query(SHIPS, [where], order_by)
        expected = [row.key for row in select(query, rows)]
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = store.collection(Ship).find(
                where, order_by=order_by, limit=size, after=cursor
            )
            found += [ship.id for ship in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert found == expected
        assert store.collection(Ship).count(where) == len(expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"cargo_grams": 10**40, "draught": Decimal("1E+100")},
        {"cargo_grams": -(10**3_999), "draught": Decimal("0." + "7" * 1_000)},
        {"draught": Decimal("1.50"), "price": Decimal("1.5000")},
        {"draught": Decimal("1E-16383")},
        {"speed": 5e-324, "anything": 1.7976931348623157e308},
        {"speed": -0.0, "anything": [-0.0, 1e23, 1e16, 10**23, 2**53 + 1]},
        {"name": "\x01\t\r\n\\.\\N\"'%$1{}", "remark": "\u0080\uffff\U0010ffff\\"},
        {"seal": bytes(range(256)) * 3, "fingerprint": b"\xff\\x"},
        {"seen_at": datetime(1, 1, 1, tzinfo=UTC), "built": date(1, 1, 1)},
        {"seen_at": datetime.max.replace(tzinfo=UTC), "built": date.max},
        {"anything": {"": {"\\": "\x7f", "é": [None, True, 1, 1.0, "1"]}}},
        {"anything": None, "papers": None, "signals": None},
        {"anything": "null", "papers": {}, "signals": []},
    ],
)
@pytest.mark.parametrize("write", [one_by_one, in_one_batch, by_apply, by_copy])
def test_what_is_hard_to_keep_is_kept(
    emptied: PostgresStore, write: Write, fields: dict[str, Any]
) -> None:
    ship = SHIPS.codec.check(a_ship(**fields))

    write(emptied, [ship])

    assert emptied.collection(Ship).get("s1") == ship


def test_a_decimal_keeps_the_zeros_that_were_written(emptied: PostgresStore) -> None:
    emptied.collection(Ship).put(a_ship(price=Decimal("100.0")))

    found = emptied.collection(Ship).get("s1")

    assert found is not None
    assert str(found.price) == "100.0"


def test_a_list_of_very_many_values_is_one_parameter(emptied: PostgresStore) -> None:
    from pend_storage import field

    emptied.collection(Ship).put(a_ship(cargo_grams=10**30))
    wanted = [*range(70_000), 10**30]

    assert emptied.collection(Ship).count(field("cargo_grams").in_(wanted)) == 1
    assert emptied.collection(Ship).count(field("id").in_(map(str, wanted))) == 0


def test_a_text_too_long_for_an_index_is_refused_with_its_reason(
    emptied: PostgresStore,
) -> None:
    import random

    long = "".join(
        chr(random.Random(7).randrange(0x4E00, 0x9FFF)) for _ in range(9_000)
    )
    key = "".join(random.Random(n).choice(long) for n in range(9_000))

    with pytest.raises(InvalidRecord, match="index"):
        emptied.collection(Log).put(Log(id=key))
