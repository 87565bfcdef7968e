"""Refusals of a server or an address, and the advice in the error."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any

import psycopg
import pytest

import pend_storage as ps
from pend_storage.errors import ConfigError, SchemaOutOfDate, StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, Tally

from .activity import UNDER_TEST, run, wait_until, waiting

SECRET = "hunter2"  # noqa: S105 - invented


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@contextmanager
def plain_role(url: str) -> Iterator[str]:
    """A role without rights; gives the URL with it."""
    name = f"plain_{time.monotonic_ns()}"
    run(url, f"create role {name} login")
    try:
        yield psycopg.conninfo.make_conninfo(url, user=name)
    finally:
        run(url, f"drop owned by {name}; drop role {name}")


# -- addresses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://postgres:p@{SECRET}/word@127.0.0.1",
        f"postgresql://postgres:p@{SECRET}@127.0.0.1/d",
        f"postgresql://postgres:p/{SECRET}@127.0.0.1/d",
        f"host=127.0.0.1 dbname={SECRET}@d",
        f"postgresql://app:12/{SECRET}@127.0.0.1:1/x",
    ],
)
def test_a_password_that_is_not_percent_encoded_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="percent-encoded") as told:
        PostgresStore(SCHEMA, url)

    assert SECRET not in repr(told.value)
    assert SECRET not in repr(told.value.__context__)


@pytest.mark.parametrize("url", ["", "  "])
def test_an_empty_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is empty"):
        PostgresStore(SCHEMA, url)


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'pool_size'.*arguments of PostgresStore"):
        PostgresStore(SCHEMA, "postgresql://127.0.0.1/d?pool_size=5")


def test_what_may_be_a_part_of_a_password_is_not_named() -> None:
    with pytest.raises(ConfigError) as told:
        PostgresStore(SCHEMA, f"postgresql://127.0.0.1/d?{SECRET}=1&b=@c")

    assert SECRET not in str(told.value)


@pytest.mark.parametrize("port", ["99999", "0", "x"])
def test_a_port_that_cannot_be_is_refused(port: str) -> None:
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        PostgresStore(SCHEMA, f"host=127.0.0.1 port={port}")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("service=nope", 'service "nope" not found'),
        ("sslmode=perhaps", "invalid sslmode value"),
        ("target_session_attrs=any-one", "invalid target_session_attrs value"),
    ],
)
def test_an_address_that_is_wrong_by_itself_is_not_tried_again(
    parameters: str, words: str
) -> None:
    with PostgresStore(SCHEMA, f"postgresql://127.0.0.1:1/d?{parameters}") as store:
        for call in (lambda: store.meta("x"), store.migrate, store.inspect):
            with pytest.raises(ConfigError, match=words) as told:
                call()
            assert "try again" not in str(told.value)


@pytest.mark.parametrize("place", ["database", "user"])
def test_a_door_that_stays_shut_says_what_to_correct(url: str, place: str) -> None:
    name = {"database": "dbname", "user": "user"}[place]
    with PostgresStore(
        SCHEMA, psycopg.conninfo.make_conninfo(url, **{name: "nobody_of_this_name"})
    ) as store:
        calls: tuple[Callable[[], object], ...] = (
            lambda: store.meta("x"),
            store.migrate,
        )
        for call in calls:
            with pytest.raises(StoreUnavailable, match=r"(?i)correct") as told:
                call()
            assert "try again" not in str(told.value)


# -- rights -----------------------------------------------------------------------------


def test_a_schema_out_of_sight_is_named(new_database: Callable[[], str]) -> None:
    url = new_database()
    with PostgresStore(SCHEMA, url) as store:
        store.migrate()
    with plain_role(url) as plain:
        run(url, "revoke all on schema public from public")
        with PostgresStore(SCHEMA, plain) as store:
            with pytest.raises(ConfigError, match="grant usage on schema public to"):
                store.collection(Tally).get("a")
            with pytest.raises(ConfigError, match=r"schema public.*the owner"):
                store.migrate()
        run(url, "grant usage on schema public to public")


def test_search_path_is_not_consulted(new_database: Callable[[], str]) -> None:
    url = psycopg.conninfo.make_conninfo(
        new_database(), options="-c search_path=not_there"
    )
    with PostgresStore(SCHEMA, url) as store:
        store.migrate()
        assert store.collection(Tally).put(Tally(name="a"))


@pytest.mark.parametrize("name", ["public", "nowhere"])
def test_tables_in_another_schema_are_named(
    new_database: Callable[[], str], name: str
) -> None:
    url = new_database()
    with PostgresStore(SCHEMA, url, database_schema="elsewhere") as store:
        store.migrate()
    with (
        PostgresStore(SCHEMA, url, database_schema=name) as store,
        pytest.raises(ConfigError, match=r"elsewhere.*postgres\.schema"),
    ):
        store.collection(Tally).get("a")


def test_a_schema_that_is_missing_is_named(new_database: Callable[[], str]) -> None:
    with (
        PostgresStore(SCHEMA, new_database(), database_schema="nowhere") as store,
        pytest.raises(SchemaOutOfDate, match="no schema nowhere"),
    ):
        store.collection(Tally).get("a")


# -- statements -------------------------------------------------------------------------


def test_a_cancelled_statement_is_not_called_a_timeout(url: str) -> None:
    with PostgresStore(SCHEMA, url, application_name=UNDER_TEST) as store:
        store.collection(Tally).put(Tally(name="a"))
        with psycopg.connect(url) as holder:
            holder.execute("lock table tallies in access exclusive mode")

            def cancel() -> None:
                wait_until(lambda: bool(waiting(url)), "the call")
                run(url, f"select pg_cancel_backend({waiting(url)[0]})")

            other = threading.Thread(target=cancel)
            other.start()
            with pytest.raises(StoreUnavailable, match="cancelled by an administrator"):
                store.collection(Tally).get("a")
            other.join()


@dataclass(frozen=True)
class Owner:
    id: str


@dataclass(frozen=True)
class Owned:
    id: str
    owner: str | None = None


def test_a_deferred_check_does_not_wait_for_ever_in_the_commit(
    new_database: Callable[[], str],
) -> None:
    schema = Schema(
        [
            ps.collection("owners", Owner),
            ps.collection("things", Owned, references={"owner": "owners"}),
        ]
    )
    url = new_database()
    with PostgresStore(schema, url, statement_timeout=0.4) as store:
        store.migrate()
        store.collection(Owner).put(Owner("o"))
        with psycopg.connect(url) as holder:
            holder.execute("lock table owners in access exclusive mode")
            with pytest.raises(
                StoreUnavailable, match=r"lock_timeout|in the way"
            ) as told:
                store.collection(Owned).put(Owned("t", "o"))
            holder.rollback()

        assert told.value.outcome_known
        assert store.collection(Owned).get("t") is None


def test_quoted_identifiers_do_not_hide_types(new_database: Callable[[], str]) -> None:
    url = new_database()
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    run(url, f"alter database {name} set quote_all_identifiers = on")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pooler in (None, "transaction"):
            with PostgresStore(SCHEMA, url, pooler=pooler) as store:
                store.migrate()
                store.collection(Tally).put(Tally(name="a"))


@dataclass(frozen=True)
class Loose:
    id: str
    nick: str | None = None


@dataclass(frozen=True)
class Strict:
    id: str
    nick: str = ""


def test_who_is_older_than_the_database_is_told_the_constraint(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with PostgresStore(
        Schema([ps.collection("people", Loose, unique=["nick"])]), url
    ) as old:
        old.migrate()
        old.collection(Loose).put(Loose("1", "a"))
        with PostgresStore(
            Schema([ps.collection("people", Strict, unique=["nick"])]), url
        ) as new:
            new.migrate()
        old.collection(Loose).put(Loose("2"))
        with pytest.raises(StoreUnavailable, match="uq_people") as told:
            old.collection(Loose).put(Loose("3"))
        assert "Update this one" in str(told.value)


@dataclass(frozen=True)
class Short:
    id: str
    title: Annotated[str, ps.Limit(max_length=10)] = "x"
    stars: int = 0


@dataclass(frozen=True)
class Retyped:
    id: str
    title: Annotated[str, ps.Limit(max_length=5)] = "x"
    stars: str = ""


def test_a_refused_change_of_type_is_told_in_words(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with PostgresStore(Schema([ps.collection("notes", Short)]), url) as store:
        store.migrate()
        store.collection(Short).put(Short("1"))  # an empty table is changed as it is
    with (
        PostgresStore(Schema([ps.collection("notes", Retyped)]), url) as store,
        pytest.raises(SchemaOutOfDate, match=r"notes.*stars.*convert=") as told,
    ):
        store.migrate()
    assert "object at" not in str(told.value)
    assert "Clause" not in str(told.value)


# -- declarations -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pg_class", "pg_user", "pg_mine"])
def test_names_of_the_server_are_refused_when_declared(name: str) -> None:
    with pytest.raises(ConfigError, match="begin with pg_"):
        ps.collection(name, Owner)


def wide(fields: int) -> Any:
    return make_dataclass(
        "Wide",
        [("id", str), *((f"f{n}", bool) for n in range(fields - 1))],
        frozen=True,
    )


def test_an_index_of_too_many_fields_is_refused_when_declared() -> None:
    names = [f"f{n}" for n in range(32)]
    ps.collection("wide", wide(40), indexes=[names[:31]], unique=[names])
    for more in ({"indexes": [names]}, {"unique": [[*names, "f32"]]}):
        with pytest.raises(ConfigError, match="at most 32"):
            ps.collection("wide", wide(40), **more)  # type: ignore[arg-type]


def test_too_many_fields_are_refused_when_declared() -> None:
    with pytest.raises(ConfigError, match="1600 fields are more than the 1599"):
        ps.collection("wide", wide(1600))


def test_as_many_as_are_taken_can_be_stored(new_database: Callable[[], str]) -> None:
    names = [f"f{n}" for n in range(32)]
    most = wide(1599)
    schema = Schema([ps.collection("wide", most, indexes=[names[:31]], unique=[names])])
    with PostgresStore(schema, new_database()) as store:
        store.migrate()
        record = most("a", *[True] * 1598)
        store.collection("wide").put(record)

        assert store.collection("wide").get("a") == record
