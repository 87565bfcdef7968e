"""A schema grows under a database that is in use; whatever would lose something is refused."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal

import psycopg
import pytest

import pend_storage as ps
from pend_storage._model.fields import Limit
from pend_storage.errors import ConfigError, InvalidRecord, SchemaOutOfDate
from pend_storage.records import JSON
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore


@dataclass(frozen=True)
class Note:
    id: str
    title: Annotated[str, Limit(max_length=10)]
    stars: Annotated[int, Limit(ge=0, le=5)] = 0
    mood: Literal["good", "bad"] = "good"
    owner: str = ""


def _some_tags() -> list[JSON]:
    return ["a%b", "it's"]


@dataclass(frozen=True)
class NoteAfter:
    id: str
    title: str
    stars: Annotated[int, Limit(ge=-10, le=5_000_000_000)] = 0
    mood: Literal["good", "bad", "it's 100% odd: \\ and so on"] = "bad"
    owner: str | None = ""
    price: Decimal = Decimal("1.50")
    at: datetime = datetime(2024, 2, 29, 12, 30, 0, 123456, tzinfo=UTC)
    raw: bytes = b"\\'%\x00"
    tags: list[JSON] = field(default_factory=_some_tags)
    maybe: dict[str, JSON] | None = None
    anything: JSON = None


@dataclass(frozen=True)
class Owner:
    id: str


BEFORE = Schema([ps.collection("notes", Note)])
AFTER = Schema(
    [
        ps.collection(
            "notes",
            NoteAfter,
            unique=["title"],
            references={"owner": "owners"},
            indexes=[["-stars", "mood"], ["price"]],
            search=["title"],
        ),
        ps.collection("owners", Owner),
    ]
)


def migrated(schema: Schema, url: str) -> PostgresStore:
    store = PostgresStore(schema, url, pool_size=4)
    store.migrate()
    return store


def catalogue(url: str) -> list[Any]:
    """Every table, column, constraint and index."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select table_name, column_name, data_type, is_nullable "
            "from information_schema.columns where table_schema = 'public' "
            "union all select conrelid::regclass::text, conname, "
            "pg_get_constraintdef(oid), '' from pg_constraint "
            "where connamespace = 'public'::regnamespace "
            "union all select tablename, indexname, indexdef, '' from pg_indexes "
            "where schemaname = 'public' order by 1, 2, 3"
        ).fetchall()


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_a_schema_grows_and_records_get_the_defaults(postgres_url: str) -> None:
    with migrated(BEFORE, postgres_url) as store:
        notes = store.collection(Note)
        notes.put_many([Note("1", "one", owner="o"), Note("2", "two", owner="o")])
    run(
        postgres_url,
        "alter table notes disable trigger all; create table owners (id text "
        'collate "C" constraint pk_owners primary key, version bigint not null); '
        "insert into owners values ('o', 1)",
    )

    with migrated(AFTER, postgres_url) as store:
        changed = store.collection(NoteAfter)
        found = changed.get("1")
        assert found == NoteAfter("1", "one", mood="good", owner="o")
        odd = NoteAfter(
            "3", "x" * 500, -10, "it's 100% odd: \\ and so on", None, anything=[None]
        )
        changed.put(odd)
        assert changed.get("3") == odd
        assert changed.find(ps.field("title").contains("ONE")).items == (found,)
        with pytest.raises(ps.UniqueViolation):
            changed.put(NoteAfter("4", "one"))
    with migrated(AFTER, postgres_url) as store:
        assert store.inspect().is_current


def test_programs_that_do_not_know_the_new_fields_go_on(postgres_url: str) -> None:
    with migrated(BEFORE, postgres_url) as old:
        old.collection(Note).put(Note("1", "one"))
        more = Schema([ps.collection("notes", NoteAfter, indexes=[["price"]])])

        with migrated(more, postgres_url) as new:
            old.collection(Note).put(Note("2", "two", stars=5))
            old.collection(Note).put_many([Note("1", "1st"), Note("3", "three")])

            assert old.collection(Note).get("2") == Note("2", "two", stars=5)
            assert new.collection(NoteAfter).get("2") == NoteAfter(
                "2", "two", 5, "good"
            )
            assert new.collection(NoteAfter).get("3") == NoteAfter(
                "3", "three", mood="good"
            )


@dataclass(frozen=True)
class Shorter:
    id: str
    title: Annotated[str, Limit(max_length=5)]
    stars: Annotated[int, Limit(ge=0, le=5)] = 0
    mood: Literal["good", "bad"] = "good"
    owner: str = ""


@dataclass(frozen=True)
class Retyped:
    id: str
    title: Annotated[str, Limit(max_length=10)]
    stars: str = ""
    mood: Literal["good", "bad"] = "good"
    owner: str = ""


@dataclass(frozen=True)
class Fewer:
    id: str
    title: Annotated[str, Limit(max_length=10)]
    stars: Annotated[int, Limit(ge=0, le=5)] = 0
    mood: Literal["good", "bad"] = "good"


@dataclass(frozen=True)
class Stricter:
    id: str
    title: Annotated[str, Limit(max_length=10)]
    stars: Annotated[int, Limit(ge=0, le=2)] = 0
    mood: Literal["good", "bad"] = "good"
    owner: str = ""


@dataclass(frozen=True)
class Demanding:
    id: str
    title: Annotated[str, Limit(max_length=10)]
    must: str
    stars: Annotated[int, Limit(ge=0, le=5)] = 0
    mood: Literal["good", "bad"] = "good"
    owner: str = ""


@pytest.mark.parametrize(
    ("record_type", "names"),
    [
        (Shorter, "title"),
        (Retyped, "stars"),
        (Fewer, "owner"),
        (Stricter, "stars"),
        (Demanding, "must"),
    ],
)
def test_what_would_lose_something_is_refused_by_name(
    postgres_url: str, record_type: type, names: str
) -> None:
    with migrated(BEFORE, postgres_url) as store:
        store.collection(Note).put(Note("1", "long title", stars=5))
    before = catalogue(postgres_url)
    store = PostgresStore(Schema([ps.collection("notes", record_type)]), postgres_url)

    with store, pytest.raises(SchemaOutOfDate, match=names):
        store.migrate()

    assert catalogue(postgres_url) == before
    with PostgresStore(BEFORE, postgres_url) as again:
        assert again.collection(Note).get("1") == Note("1", "long title", stars=5)


def test_a_stricter_schema_that_all_records_meet_is_taken(postgres_url: str) -> None:
    with migrated(BEFORE, postgres_url) as store:
        store.collection(Note).put(Note("1", "one", stars=2))
    stricter = Schema([ps.collection("notes", Stricter)])

    with migrated(stricter, postgres_url) as store:
        assert store.collection(Stricter).get("1") == Stricter("1", "one", stars=2)
    with pytest.raises(psycopg.errors.CheckViolation):
        run(postgres_url, "update notes set stars = 3")


def test_an_empty_database_is_not_used(postgres_url: str) -> None:
    with (
        PostgresStore(BEFORE, postgres_url) as store,
        pytest.raises(SchemaOutOfDate, match=r"never been migrated.*migrate\(\)"),
    ):
        store.collection(Note).get("1")


def test_a_database_of_another_schema_is_not_used(postgres_url: str) -> None:
    with migrated(BEFORE, postgres_url) as before:
        was = before.inspect().revision
    with PostgresStore(AFTER, postgres_url) as store:
        wanted = store.inspect().wanted
        with pytest.raises(SchemaOutOfDate) as caught:
            store.collection(NoteAfter).get("1")

    assert str(was) in str(caught.value)
    assert wanted in str(caught.value)


def test_a_database_of_a_larger_schema_is_left_alone(postgres_url: str) -> None:
    migrated(AFTER, postgres_url).close()
    before = catalogue(postgres_url)
    store = PostgresStore(BEFORE, postgres_url)

    with store, pytest.raises(SchemaOutOfDate, match=r"newer program.*owners"):
        store.migrate()

    assert catalogue(postgres_url) == before


def test_a_database_of_a_newer_library_is_left_alone(postgres_url: str) -> None:
    migrated(BEFORE, postgres_url).close()
    run(
        postgres_url,
        "update pend_storage_revision set version_num = '9999'; update store_meta "
        "set value = jsonb_set(value, '{core}', '\"9999\"') "
        "where name = 'postgres.schema'",
    )
    store = PostgresStore(BEFORE, postgres_url)

    with store:
        for action in (store.migrate, partial(store.meta, "x")):
            with pytest.raises(SchemaOutOfDate, match=r"9999.*0005.*newer program"):
                action()


def test_an_index_made_by_hand_is_left_alone(postgres_url: str) -> None:
    migrated(BEFORE, postgres_url).close()
    run(postgres_url, "create index by_hand on notes (owner)")

    migrated(BEFORE, postgres_url).close()

    assert "by_hand" in str(catalogue(postgres_url))


def test_what_was_lost_by_accident_is_made_again(postgres_url: str) -> None:
    migrated(AFTER, postgres_url).close()
    before = catalogue(postgres_url)
    run(
        postgres_url,
        "drop index ix_notes__price__id; drop index tg_notes__title; "
        "alter table notes drop constraint uq_notes__title; "
        "alter table notes drop constraint fk_notes__owner",
    )
    assert catalogue(postgres_url) != before

    migrated(AFTER, postgres_url).close()

    assert catalogue(postgres_url) == before


def test_many_may_migrate_at_once(postgres_url: str) -> None:
    stores = [PostgresStore(AFTER, postgres_url) for _ in range(6)]
    failed: list[BaseException] = []
    begin = threading.Barrier(len(stores))

    def work(store: PostgresStore) -> None:
        try:
            begin.wait()
            store.migrate()
            store.collection(Owner).put(Owner("o"))
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []


def test_migrating_under_writers_loses_nothing(postgres_url: str) -> None:
    stop = threading.Event()
    written: list[str] = []
    more = Schema(
        [ps.collection("notes", NoteAfter, indexes=[["-price"]], search=["title"])]
    )
    with migrated(BEFORE, postgres_url) as store:
        notes = store.collection(Note)

        def write() -> None:
            while not stop.is_set():
                key = str(len(written))
                notes.put(Note(key, "title"))
                written.append(key)

        thread = threading.Thread(target=write)
        thread.start()
        while len(written) < 20:
            stop.wait(0.001)
        migrated(more, postgres_url).close()
        seen = len(written)
        while len(written) < seen + 20:
            stop.wait(0.001)
        stop.set()
        thread.join()

        assert set(notes.get_many(written)) == set(written)


def test_without_trigrams_a_schema_that_searches_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pend_storage.stores.postgres._migration.schema_diff._EXTENSION",
        "pg_trgm_is_missing",
    )
    store = PostgresStore(AFTER, postgres_url)

    with store, pytest.raises(ConfigError, match=r"pg_trgm_is_missing.*Install"):
        store.migrate()

    assert catalogue(postgres_url) == []


def test_a_user_without_rights_is_told(
    postgres_url: str, request: pytest.FixtureRequest
) -> None:
    run(
        postgres_url, "drop role if exists pend_visitor; create role pend_visitor login"
    )
    request.addfinalizer(
        lambda: run(postgres_url, "drop owned by pend_visitor; drop role pend_visitor")
    )
    url = psycopg.conninfo.make_conninfo(postgres_url, user="pend_visitor")
    store = PostgresStore(BEFORE, url)

    with store, pytest.raises(ConfigError, match=r"permission denied.*owner"):
        store.migrate()


def test_a_value_that_only_the_database_refuses_is_told(postgres_url: str) -> None:
    with migrated(BEFORE, postgres_url) as store:
        run(postgres_url, "alter table notes add constraint mine check (title <> 'x')")
        with pytest.raises(InvalidRecord, match=r"notes.*mine"):
            store.collection(Note).put(Note("1", "x"))
