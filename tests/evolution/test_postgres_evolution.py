"""Schemas change over a database: what is taken, refused, converted, dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

import pend_storage as ps
from pend_storage.errors import ChangesExpired, SchemaOutOfDate
from pend_storage.events import Event
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.databases import Databases
from tests.evolution.test_json_evolution import (
    MIGRATED,
    NOTES,
    OWNERS,
    V1,
    Fewer,
    Keyed,
    Note,
    Owner,
    Renamed,
    Retyped,
    Short,
    Tagged,
    schema,
)
from tests.migration.test_schemas_that_change import catalogue


def opened(wanted: Schema, url: str, **settings: Any) -> PostgresStore:
    return PostgresStore(wanted, url, pool_size=4, **settings)


@pytest.fixture
def used(postgres_url: str) -> str:
    with opened(V1, postgres_url) as store:
        store.migrate()
        store.collection(Note).put_many([Note("a", "zero"), NOTES[1]])
        store.collection(Note).put(NOTES[0])
        store.collection(Note).put(Note("gone"))
        store.collection(Note).delete("gone")
    return postgres_url


def stored(wanted: Schema, url: str) -> list[Any]:
    with opened(wanted, url) as store:
        return list(store.collection("notes").scan())


def versions(wanted: Schema, url: str) -> dict[str, int]:
    with opened(wanted, url) as store:
        return {row.key: row.version for row in store.scan("notes", deleted=True)}


@pytest.mark.parametrize("change", MIGRATED)
def test_a_migration_changes_every_record_at_its_version(
    used: str, change: str
) -> None:
    wanted, records = MIGRATED[change]
    before, tables = versions(V1, used), catalogue(used)

    with opened(wanted, used) as store:
        dry = store.migrate(drop=True, dry_run=True)
        assert catalogue(used) == tables
        assert stored(V1, used) == [*NOTES]
        done = store.migrate(drop=True)

    assert done.changes == dry.changes
    assert done.records == dry.records
    assert stored(wanted, used) == records
    assert versions(wanted, used) == before
    with pytest.raises(SchemaOutOfDate):
        stored(V1, used)


@pytest.mark.parametrize("change", MIGRATED)
def test_migrated_tables_are_those_of_a_fresh_database(
    used: str, change: str, databases: Databases
) -> None:
    wanted, _ = MIGRATED[change]
    rules = {"indexes": [["-stars"]]} if change != "dropped" else {}
    wanted = schema(
        wanted["notes"].record_type,
        evolve=wanted["notes"].evolve,
        unique=wanted["notes"].unique,
        **rules,
    )
    fresh = databases.make()
    for url in (used, fresh):
        with opened(wanted, url) as store:
            store.migrate(drop=True)

    assert catalogue(used) == catalogue(fresh)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (schema(Short), r"notes\['b'\]: text: 5 long, 3 allowed"),
        (schema(Retyped), r"notes\.stars changes.*evolve=ps\.Evolve\(convert="),
        (schema(Fewer), r"notes\.stars is removed: agree by --drop"),
        (schema(Renamed), r"notes\.text is removed: agree by --drop"),
        (schema(Keyed, key="text"), r"key of notes .*declare a new collection"),
        (
            schema(Note, OWNERS, references={"text": "owners"}),
            r"text refers to owners\['one'\]: missing",
        ),
        (
            schema(Retyped, evolve=ps.Evolve(convert={"stars": int})),
            r"2 stored values.*notes\['a'\]: stars: int given, text expected",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(
    used: str, wanted: Schema, words: str
) -> None:
    before = catalogue(used)

    with opened(wanted, used) as store, pytest.raises(SchemaOutOfDate, match=words):
        store.migrate()

    assert catalogue(used) == before
    assert stored(V1, used) == [*NOTES]


def test_records_that_break_a_new_unique_are_named(used: str) -> None:
    with opened(V1, used) as store:
        store.collection(Note).put(Note("c", "one"))

    with (
        opened(schema(Note, unique=["text"]), used) as store,
        pytest.raises(SchemaOutOfDate, match=r"notes\['c'\].*notes\['a'\] has 'one'"),
    ):
        store.migrate()


@pytest.mark.parametrize("other", [schema(Renamed), schema(Retyped), schema(Fewer)])
def test_messages_are_in_words(used: str, other: Schema) -> None:
    with opened(other, used) as store:
        with pytest.raises(SchemaOutOfDate) as caught:
            store.collection("notes").get("a")
        with pytest.raises(SchemaOutOfDate) as refused:
            store.migrate()

    for error in (caught.value, refused.value):
        said = str(error).replace("convert={'stars': ...}", "")
        assert not {*"{}<>"} & {*said}


def test_a_dropped_collection_goes_with_its_records(used: str) -> None:
    both = schema(Note, OWNERS)
    with opened(both, used) as store:
        store.migrate()
        store.collection(Owner).put(Owner("o"))
    only = Schema([OWNERS])

    with opened(only, used) as store:
        with pytest.raises(SchemaOutOfDate, match=r"collections notes.*--drop"):
            store.migrate()
        done = store.migrate(drop=True)
        assert store.collection(Owner).get("o") == Owner("o")
        assert list(store.changes(store.head())) == []

    assert done.records == {"notes": 2}
    assert "notes" not in str(catalogue(used))


def test_the_change_log_before_a_migration_is_not_misread(used: str) -> None:
    with opened(V1, used) as store:
        end = [change.sequence for change in store.changes()][-1]
    wanted = MIGRATED["retyped"][0]

    with opened(wanted, used) as store:
        store.migrate()
        with pytest.raises(ChangesExpired) as caught:
            list(store.changes())
        assert caught.value.oldest == end
        store.collection(Retyped).put(Retyped("d"))
        assert [len(change.records) for change in store.changes(end)] == [1]
    with psycopg.connect(used) as connection:
        row = connection.execute("select count(*) from changes").fetchone()
    assert row == (5,)  # of before too: for an audit


# -- programs of two schemas ----------------------------------------------------------


def test_what_an_older_program_does_not_know_survives_its_writes(used: str) -> None:
    told: list[Event] = []
    running = opened(V1, used)
    assert running.collection(Note).get("a") == NOTES[0]
    with opened(schema(Tagged), used) as new:
        new.migrate()
        new.collection(Tagged).put(Tagged("a", "one", 1, tag="kept"))
        new.collection(Tagged).put(Tagged("b", "three", 3, tag="also"))
        end = new.head()
        with running, opened(V1, used, hook=told.append) as late:
            for number, old in enumerate((running, late)):
                notes = old.collection(Note)
                found = notes.get("a")
                assert found is not None
                notes.put(replace(found, text=f"text {number}"))
                notes.put_many([Note("b", f"twice {number}"), Note(f"c{number}")])
                with old.transaction() as tx:
                    tx.collection(Note).get("b")
                    tx.collection(Note).put(Note("a", f"again {number}"))
            with pytest.raises(SchemaOutOfDate, match="newer program"):
                list(late.changes())
            for old in (running, late):
                changed = ps.ChangedRecord("notes", "a", 10**17, Note("a", "applied"))
                with pytest.raises(SchemaOutOfDate, match=r"newer"):
                    old.apply([changed])
        assert list(new.collection(Tagged).scan()) == [
            Tagged("a", "again 1", tag="kept"),
            Tagged("b", "twice 1", tag="also"),
            Tagged("c0"),
            Tagged("c1"),
        ]
        logged = [r.record for change in new.changes(end) for r in change.records]
        assert {(note.id, note.tag) for note in logged} == {
            ("a", "kept"),
            ("b", "also"),
            ("c0", None),
            ("c1", None),
        }
    assert [event.name for event in told] == ["schema-behind"]


def test_a_running_program_of_a_former_schema_is_refused(used: str) -> None:
    wanted = MIGRATED["renamed"][0]
    with opened(V1, used) as old:
        assert old.collection(Note).get("a") == NOTES[0]
        with opened(wanted, used) as new:
            new.migrate()
        notes = old.collection(Note)
        for action in (
            lambda: notes.put(Note("a", "lost?")),
            lambda: notes.put_many([Note("a", "lost?"), Note("b", "lost?")]),
            lambda: notes.get("a"),
        ):
            with pytest.raises(SchemaOutOfDate):
                action()

    assert stored(wanted, used) == [Renamed("a", "one", 1), Renamed("b", "three", 3)]


# -- values -----------------------------------------------------------------------------


def test_former_values_are_given_as_the_fields_had_them(postgres_url: str) -> None:
    @dataclass(frozen=True)
    class Before:
        id: str
        at: datetime
        price: Decimal
        raw: bytes
        maybe: int | None = None

    @dataclass(frozen=True)
    class After:
        id: str
        at: str
        price: int
        raw: str
        tags: list[Any]
        maybe: str | None = None

    seen: list[Any] = []

    def noted(value: Any) -> str:
        seen.append(value)
        return str(value)

    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    with opened(schema(Before), postgres_url) as store:
        store.migrate()
        store.collection(Before).put_many(
            [Before(f"{n:04}", moment, Decimal("1.50"), b"\x00%") for n in range(2_500)]
        )
    convert: dict[str, Any] = {
        "at": noted,
        "price": lambda price: int(price * 100),
        "raw": noted,
        "maybe": noted,
        "tags": lambda record: [record["id"], "100%", None, 1e23],
    }
    wanted = schema(After, evolve=ps.Evolve(convert=convert))

    with opened(wanted, postgres_url) as store:
        done = store.migrate()

    assert done.records == {"notes": 2_500}
    assert seen[:2] == [moment, b"\x00%"]
    assert len(seen) == 5_000
    found = stored(wanted, postgres_url)
    assert len(found) == 2_500
    tags = ["2499", "100%", None, 1e23]
    assert found[-1] == After("2499", str(moment), 150, "b'\\x00%'", tags)


# -- the wrong schema ---------------------------------------------------------------------


def test_empty_tables_of_the_wrong_schema_are_dropped_on_demand(
    postgres_url: str, databases: Databases
) -> None:
    from pend_storage.pend import SCHEMA

    with opened(SCHEMA, postgres_url) as wrong:
        wrong.migrate()
    fresh = databases.make()
    with opened(V1, fresh) as store:
        store.migrate()

    with opened(V1, postgres_url) as store:
        with pytest.raises(SchemaOutOfDate, match=r"pend_storage\.pend.*--drop-empty"):
            store.migrate()
        store.migrate(drop_empty=True)
        store.collection(Note).put(Note("a"))

    assert catalogue(postgres_url) == catalogue(fresh)


def test_tables_of_the_wrong_schema_that_have_records_are_kept(used: str) -> None:
    with opened(schema(Note, OWNERS), used) as store:
        store.migrate()
    before = catalogue(used)

    with (
        opened(Schema([OWNERS]), used) as store,
        pytest.raises(SchemaOutOfDate, match=r"records in notes \(2\)"),
    ):
        store.migrate(drop_empty=True)

    assert catalogue(used) == before


def test_a_database_of_an_older_version_is_noted_first(used: str) -> None:
    with psycopg.connect(used, autocommit=True) as connection:
        connection.execute("delete from store_meta where name = 'postgres.description'")
        connection.execute(
            "update store_meta set value = value - 'module' - 'ancestors' - 'library' "
            "where name = 'postgres.schema'"
        )
    wanted = MIGRATED["renamed"][0]

    with opened(wanted, used) as store:
        with pytest.raises(SchemaOutOfDate, match="once with the schema of before"):
            store.migrate()
        with opened(V1, used) as before:
            before.migrate()
        store.migrate()

    assert stored(wanted, used) == MIGRATED["renamed"][1]


def test_the_statements_can_be_read_first(used: str) -> None:
    wanted = MIGRATED["retyped"][0]

    with opened(wanted, used) as store:
        statements = store.migrate(dry_run=True).statements

    text = "\n".join(statements)
    assert 'alter table "public".notes drop column stars;' in text
    assert "create or replace function" in text.lower()
    assert "1 stars" not in text
    assert "%(" not in text
    assert all(s.endswith(";") or s.startswith("-- ") for s in statements)
