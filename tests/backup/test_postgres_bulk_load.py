"""Bulk loading of PostgreSQL: everything is there again, and valid, or nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from pend_storage._model.snapshots import StoredRow
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally, a_berth, a_cargo, a_tally
from tests.backup.postgres_rows import catalogue, content, fill, rows_in
from tests.migration.test_declared_equals_migrated import ODD, Odd, differences
from tests.security.database_roles import new_roles

Rows = list[tuple[str, StoredRow]]


@pytest.fixture
def new_url(new_migrated_database: Callable[[Schema], str]) -> Callable[[], str]:
    return lambda: new_migrated_database(SCHEMA)


@pytest.fixture
def source(new_url: Callable[[], str]) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, new_url()) as store:
        fill(store)
        yield store


@pytest.fixture
def rows(source: PostgresStore) -> Rows:
    with source.snapshot() as snapshot:
        return rows_in(snapshot, source)


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def target(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url) as store:
        yield store


def body(name: str, record: Any) -> bytes:
    return SCHEMA[name].codec.encode(record)


def a_row(key: str, version: int = 7) -> tuple[str, StoredRow]:
    return "tallies", StoredRow(key, version, body("tallies", a_tally(key)))


def test_all_rows_and_rules_are_there_again(
    source: PostgresStore, rows: Rows, target: PostgresStore, url: str
) -> None:
    before = catalogue(url)
    done: list[int] = []

    assert target.load_snapshot(rows, progress=lambda n, _: done.append(n)) == len(rows)

    assert content(target) == content(source)
    assert catalogue(url) == before
    assert all(valid for *_, valid in catalogue(url))
    assert differences(url, SCHEMA) == []
    assert list(target.changes()) == []
    assert done[-1] == len(rows)


def test_it_loads_what_another_store_holds(target: PostgresStore) -> None:
    other: Store = MemoryStore(SCHEMA)
    fill(other, 5)
    rows = [
        (
            spec.name,
            StoredRow(
                row.key,
                row.version,
                None if row.record is None else spec.codec.encode(row.record),
            ),
        )
        for spec in SCHEMA
        for row in other.scan(spec.name, deleted=True)
    ]

    target.load_snapshot(rows)

    assert content(target) == content(other)


def test_later_versions_are_above_all_that_was_loaded(target: PostgresStore) -> None:
    target.compare_and_set_meta("written", None, 1)  # the connection is known to number
    far = target.head() + 5_000_000
    target.load_snapshot([a_row("a", far)])

    assert target.collection(Tally).put(a_tally("b")) > far


def test_names_and_rules_of_any_kind_come_back(
    new_migrated_database: Callable[[Schema], str],
) -> None:
    url = new_migrated_database(ODD)
    before = catalogue(url)
    record = Odd(
        id='"\\',
        version=1,
        order='"\\',
        xmin=Decimal("1.50"),
        word="back\\slash",
        Größe=3,
    )
    row = StoredRow(record.id, 9, ODD["user"].codec.encode(record))
    with PostgresStore(ODD, url) as store:
        store.load_snapshot([("user", row)])
        with store.snapshot() as snapshot:
            assert list(snapshot.rows("user")) == [row]
    assert catalogue(url) == before
    assert differences(url, ODD) == []


def test_what_an_operator_added_comes_back(
    rows: Rows, target: PostgresStore, url: str
) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute('create index "Own ""index" on ships (crew) where crew > 3')
        admin.execute("create table theirs (ship text references ships (id))")
        try:
            before = catalogue(url)
            target.load_snapshot(rows)
            assert catalogue(url) == before
        finally:
            admin.execute('drop index "Own ""index"')
            admin.execute("drop table theirs")


@pytest.mark.parametrize("what", ["row", "tombstone", "log", "role"])
def test_only_an_empty_store_without_a_role_is_loaded(
    target: PostgresStore, url: str, what: str
) -> None:
    if what == "role":
        role = RoleState(Role.DETACHED, 1)
        target.compare_and_set_meta(ROLE_META, None, role.to_meta())
    else:
        target.collection(Tally).put(a_tally("a"))
        if what != "row":
            target.collection(Tally).delete("a")
        tables = {"row": "changes", "tombstone": "changes", "log": "tombstones"}
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(f"delete from {tables[what]}".encode())
    before, indexes = content(target), catalogue(url)

    with pytest.raises(ConfigError, match="nothing was changed"):
        target.load_snapshot([a_row("b")])

    assert content(target) == before
    assert catalogue(url) == indexes


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ([a_row("a"), a_row("a", 8)], "do not fit together"),
        (
            [("cargo", StoredRow("c", 7, body("cargo", a_cargo("c", ship_id="no"))))],
            "do not fit together",
        ),
        (
            [
                (
                    "berths",
                    StoredRow(key, 7, body("berths", a_berth(key, pier="p", number=1))),
                )
                for key in ("b1", "b2")
            ],
            "do not fit together",
        ),
        (
            [("tallies", StoredRow("b", 7, body("tallies", a_tally("a"))))],
            "another key",
        ),
        ([("tallies", StoredRow("a", 7, b'{"name":'))], "Input data"),
    ],
    ids=["twice", "reference", "unique", "key", "json"],
)
def test_rows_that_break_a_rule_change_nothing(
    rows: Rows, target: PostgresStore, url: str, damage: Rows, reason: str
) -> None:
    before = catalogue(url)
    with pytest.raises(CorruptFile, match=reason):
        target.load_snapshot(damage)

    assert content(target) == {}
    assert catalogue(url) == before
    target.load_snapshot(rows)


def test_a_lost_connection_changes_nothing(
    rows: Rows, target: PostgresStore, url: str
) -> None:
    before = catalogue(url)

    def interrupted() -> Iterator[tuple[str, StoredRow]]:
        for number in range(6_000):
            yield a_row(f"{number}")
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                "where datname = current_database() and state like '%in transaction%'"
            )
        yield a_row("last")

    with pytest.raises(StoreUnavailable):
        target.load_snapshot(interrupted())

    assert content(target) == {}
    assert catalogue(url) == before
    target.load_snapshot(rows)


def test_the_owner_may_without_being_a_superuser(
    postgres_server: str, rows: Rows, url: str
) -> None:
    before = catalogue(url)
    with new_roles(postgres_server) as roles:
        roles.grant(url, SCHEMA)
        with PostgresStore(SCHEMA, roles.url(url, "application")) as store:
            with pytest.raises(ConfigError, match="owns the tables"):
                store.load_snapshot(rows)
            assert content(store) == {}
        with PostgresStore(SCHEMA, roles.url(url, "owner")) as store:
            assert store.load_snapshot(rows) == len(rows)
            assert store.load_changes([]) == 0
            store.reserve_numbers(1 << 50)
            with store.snapshot() as snapshot:
                assert rows_in(snapshot, store) == rows
    assert catalogue(url) == before
