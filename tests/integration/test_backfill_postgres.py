"""Backfill into PostgreSQL, which judges every chunk at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

import pend_storage as ps
from pend_storage.backfill import backfill
from pend_storage.records import ChangedRecord
from pend_storage.validation import validate


@dataclass(frozen=True)
class Person:
    id: str
    phone: str | None = None
    desk: int | None = None
    floor: int | None = None
    boss: str | None = None


@dataclass(frozen=True)
class Note:
    id: str
    owner: str


SCHEMA = ps.Schema(
    [
        ps.collection("notes", Note, references={"owner": "people"}),
        ps.collection(
            "people",
            Person,
            unique=["phone", ["desk", "floor"]],
            references={"boss": "people"},
        ),
    ]
)

NewDatabase = Callable[[ps.Schema], str]


def people(count: int) -> ps.MemoryStore:
    store = ps.MemoryStore(SCHEMA)
    store.collection(Person).put_many([Person(f"p{n:04}") for n in range(count)])
    return store


def test_unique_values_that_moved_between_chunks_arrive(
    new_migrated_database: NewDatabase,
) -> None:
    source = people(1_500)
    table = source.collection(Person)
    first, last = "p0000", "p1499"
    table.put_many([Person(first, "1", 1, 1), Person(last, "2", 1, 2)])
    with ps.PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as target:
        backfill(source, target)
        table.put_many([Person(first), Person(last)])
        table.put_many([Person(first, "2", 1, 2), Person(last, "1", 1, 1)])

        report = backfill(source, target)

        assert validate(source, target).ok
        assert (report.rows, report.written + report.unchanged) == (1_500, 1_500)


def test_references_forward_and_in_circles_arrive(
    new_migrated_database: NewDatabase,
) -> None:
    source = people(1_500)
    source.collection(Person).put_many(
        [Person("p0000", boss="p1499"), Person("p1499", boss="p0000")]
    )
    source.collection(Note).put(Note("n", "p1499"))
    with ps.PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as target:
        report = backfill(source, target)

        assert validate(source, target).ok
        assert report.rows == 1_501


def test_a_record_is_deleted_after_what_referred_to_it(
    new_migrated_database: NewDatabase,
) -> None:
    source = people(2)
    source.collection(Note).put(Note("n", "p0001"))
    with ps.PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as target:
        backfill(source, target)
        source.collection(Note).delete("n")
        source.collection(Person).delete("p0001")

        report = backfill(source, target)

        assert validate(source, target).ok
        assert target.collection(Person).get("p0001") is None
        assert report.deleted >= 1


def test_a_value_that_only_the_target_knows_is_an_error(
    new_migrated_database: NewDatabase,
) -> None:
    source = people(2)
    source.collection(Person).put(Person("p0001", phone="1"))
    with ps.PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as target:
        target.apply([ChangedRecord("people", "ghost", 1, Person("ghost", phone="1"))])

        with pytest.raises((ps.UniqueViolation, ps.InvalidRecord)):
            backfill(source, target)
