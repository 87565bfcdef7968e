"""No name in the SQL of a store leads to an object of another role.

A stranger may create in the schema of the tables, and defines overloads of every function
and operator that the SQL text calls, with types that fit a call better than the server's
own. None of them runs, neither on a path that is pinned nor on the default one.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import psycopg
import pytest

import pend_storage as ps
from pend_storage import field
from pend_storage._model.fields import Limit
from pend_storage.errors import ConfigError, UniqueViolation
from pend_storage.query import Comparison, Query
from pend_storage.records import JSON, ChangedRecord
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._client import connection_probe, lock_waits
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._functions.definitions import definitions
from pend_storage.stores.postgres._migration import grants, migration_lock
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._queries.conditions import query_statement
from pend_storage.stores.postgres._queries.statements import CollectionStatements

Guest = Callable[[str], str]
TIME = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Ship:
    id: Annotated[str, Limit(max_length=40)]
    name: Annotated[str, Limit(max_length=40)]
    berth: Annotated[int, Limit(ge=0, le=100)] = 0
    tons: Annotated[int, Limit(ge=0, le=1_000_000)] = 0
    price: Decimal = Decimal(1)
    speed: float = 1.5
    built: date = date(2020, 1, 2)
    seen: datetime = TIME
    flag: bytes = b"x"
    colour: Colour = Colour.RED
    grade: Literal[1, 2] = 1
    is_open: bool = False
    notes: JSON = None
    tags: list[JSON] = dataclasses.field(default_factory=list)
    owner: Annotated[str | None, Limit(max_length=40)] = None


SCHEMA = Schema(
    [
        ps.collection(
            "ships",
            Ship,
            unique=["name", ["berth", "tons"]],
            references={"owner": "ships"},
            indexes=[["-seen", "berth"], ["speed"]],
            search=["name"],
        )
    ]
)

CONDITIONS = (
    field("name") == "s1",
    field("name") != "s1",
    field("name").in_(["s1", "s2"]),
    field("name").starts_with("s"),
    field("name").contains("S"),
    field("owner").is_null(),
    ~(field("owner") == "1"),
    (field("berth") > 1) | (field("tons") <= 3),
    field("tons").in_([1, 2]),
    field("price") >= Decimal("0.5"),
    field("speed") < 2.5,
    field("built") <= date(2021, 1, 1),
    field("seen") <= TIME,
    field("flag") == b"x",
    field("colour") == Colour.RED,
    field("grade").in_([1]),
    field("is_open") == False,  # noqa: E712 - that is the language of conditions
    field("notes", "a") == 1,
    field("notes", "a", "b").is_null(),
    field("notes", "a").in_([1, "x"]),
    field("notes", "a") > 0,
    field("notes", "s") >= "a",
    field("notes", "s").contains("X"),
    field("notes", "s").starts_with("x"),
)
ORDERS = (["-seen", "berth"], ["name"], ["-owner"], ["-tons", "owner"])


def ship(number: int, **more: Any) -> Ship:
    name = f"s{number}"
    return Ship(
        id=f"{number}", name=name, tons=number, notes={"a": 1, "s": "x"}, **more
    )


def work(store: PostgresStore) -> None:
    """Call whatever the library does in a database."""
    ships = store.collection(Ship)
    ships.put(ship(1))
    ships.put(ship(1, berth=2), if_version=ships.put(ship(1)))
    ships.put_many([ship(n) for n in range(2, 9)])
    ships.put(ship(9, owner="1"))
    with pytest.raises(UniqueViolation):
        ships.put(dataclasses.replace(ship(10), name="s1"))
    assert ships.delete("9")
    for where in CONDITIONS:
        ships.count(where)
        ships.find(where, limit=2)
    for order in ORDERS:
        page = ships.find(order_by=order, limit=3)
        assert ships.find(order_by=order, limit=3, after=page.next).items
    assert ships.get_by("name", "s1") == ship(1, berth=2)
    assert len(ships.get_many(["1", "2", "absent"])) == 2
    assert len([*ships.scan()]) == 8
    assert len([*store.scan("ships", deleted=True)]) == 9
    assert store.read("ships", ["1", "9"], deleted=True)
    assert store.read("ships", ["1"], epoch=0)
    with store.transaction() as transaction:
        kept = transaction.collection(Ship).get("2")
        assert kept is not None
        transaction.collection(Ship).put(dataclasses.replace(kept, speed=2.0))
    *_, last = store.changes()
    assert store.find_commit(last.token or "") == last
    assert store.pending(0).commits
    assert store.head() >= last.sequence
    assert store.compare_and_set_meta("m", None, {"after": 1})
    assert store.compare_and_set_meta(
        "m", {"after": 1}, {"after": 2}, given={"n": None}
    )
    assert store.compare_and_set_meta("m", {"after": 2}, None)
    with store.lock("name", 1.0) as is_held:
        assert is_held()
    store.prune(last.sequence)
    assert store.incarnation()
    follow(store)
    assert store.inspect().is_current
    lock_waits.describe_lock_holders(store._client)
    store.migrate()


def follow(store: PostgresStore) -> None:
    """Apply changes of another store, few and many, and become primary again."""
    role: dict[str, JSON] = {"role": "primary", "epoch": 0}
    secondary: dict[str, JSON] = {"role": "secondary", "epoch": 1}
    assert store.compare_and_set_meta("role", None, secondary)
    few = [
        ChangedRecord("ships", "1", 10**15, ship(1)),
        ChangedRecord("ships", "2", 10**15, None),
    ]
    assert store.apply(few, epoch=1) == 2
    many = [
        ChangedRecord(
            "ships", f"m{n}", 10**15, dataclasses.replace(ship(n), id=f"m{n}")
        )
        for n in range(1_000, 1_300)
    ]
    assert store.apply(many, epoch=1) == 300
    assert store.compare_and_set_meta("role", secondary, {**role, "epoch": 2})


# -- what a stranger makes ---------------------------------------------------------------


ALTERNATIVES = {
    "text": ("varchar", "bpchar", "name"),
    "bigint": ("integer", "smallint", "numeric"),
    "integer": ("smallint", "bigint"),
    "numeric": ("bigint", "integer", "double precision"),
    "double precision": ("real", "numeric"),
    "timestamp with time zone": ("timestamp", "date"),
    "date": ("timestamptz",),
    "oid": ("integer", "bigint", "regclass"),
    "xid": ("integer",),
    "xid8": ("bigint",),
    "jsonb": ("json", "text"),
    "json": ("jsonb", "text"),
    "boolean": ("text",),
    "bytea": ("text",),
    "interval": ("text",),
    "name": ("varchar", "text"),
    "uuid": ("text",),
}
MOST_VARIANTS = 24
TYPES = tuple(ALTERNATIVES)


def sql_texts() -> Iterator[str]:
    yield from definitions(SCHEMA)
    collected = CollectionStatements(SCHEMA["ships"])
    for owner in (statements, connection_probe, lock_waits, collected):
        for value in vars(owner).values():
            if isinstance(value, Statement):
                yield value.text.decode()
    for module in (grants, migration_lock):
        for value in vars(module).values():
            if isinstance(value, str):
                yield value
    for where in CONDITIONS:
        if not isinstance(where, Comparison) or where.path != (
            "colour",
        ):  # a member of an Enum is replaced before
            query = Query(where, limit=1)
            yield query_statement(collected, query, 0)[0].text.decode()


def overloads(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """Statements that make better-fitting functions and operators."""
    text = "\n".join(sql_texts())
    names = sorted(set(re.findall(r"(\w+)\s*\(", text)))
    functions = connection.execute(
        "select p.proname, string_to_array(oidvectortypes(p.proargtypes), ', '), "
        "format_type(p.prorettype, null) from pg_proc as p "
        "join pg_type as t on t.oid = p.prorettype "
        "where p.pronamespace = 'pg_catalog'::regnamespace and p.proname = any(%s) "
        "and p.prokind = 'f' and not p.proretset and t.typtype = 'b' "
        "and p.pronargs between 1 and 6 and p.provariadic = 0",
        (names,),
    ).fetchall()
    for name, types, result in functions:
        for arguments in variants(types):
            yield function(name, arguments, result)
    signs = sorted(set(re.findall(r"[-+*/<>=~!@#%^&|?]+", text)))
    operators = connection.execute(
        "select o.oprname, format_type(o.oprleft, null), format_type(o.oprright, null), "
        "format_type(o.oprresult, null) from pg_operator as o "
        "where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprname = any(%s) "
        "and format_type(o.oprleft, null) = any(%s) "
        "and format_type(o.oprright, null) = any(%s)",
        (signs, list(TYPES), list(TYPES)),
    ).fetchall()
    numbers = itertools.count()
    for sign, left, right, result in operators:
        for arguments in variants([left, right]):
            made = f"stranger_{next(numbers)}"
            yield function(made, arguments, result)
            yield (
                f"create operator public.{sign} (function = public.{made}, "
                f"leftarg = {arguments[0]}, rightarg = {arguments[1]})"
            )


def variants(types: list[str]) -> list[tuple[str, ...]]:
    options = [(kind, *ALTERNATIVES.get(kind, ())) for kind in types]
    found = [one for one in itertools.product(*options) if one != tuple(types)]
    same = tuple(next(iter(ALTERNATIVES.get(kind, (kind,)))) for kind in types)
    return [*dict.fromkeys([same, *found])][:MOST_VARIANTS]


def function(name: str, arguments: tuple[str, ...], result: str) -> str:
    return (
        f"create function public.{name}({', '.join(arguments)}) returns {result} "
        "language plpgsql as $$ begin perform pg_catalog.nextval('public.seen'); "
        f"raise exception 'a function of a stranger ran: {name}'; end $$"
    )


@contextmanager
def stranger(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A role that may create in the schema, and nothing else."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("drop role if exists pend_stranger")
        owner.execute("create role pend_stranger login")
        owner.execute("grant usage, create on schema public to pend_stranger")
        guest = psycopg.conninfo.make_conninfo(url, user="pend_stranger")
        try:
            with psycopg.connect(guest, autocommit=True) as connection:
                yield connection
        finally:
            owner.execute("drop owned by pend_stranger cascade")
            owner.execute("drop role pend_stranger")


def make_overloads(connection: psycopg.Connection[Any]) -> int:
    made = 0
    connection.execute("create sequence public.seen")
    connection.execute("grant usage, select on sequence public.seen to public")
    with connection.transaction():
        for statement in [*overloads(connection)]:
            try:
                with connection.transaction():
                    connection.execute(statement.encode())
                made += 1
            except psycopg.errors.DuplicateFunction:
                pass
            except psycopg.errors.InvalidFunctionDefinition:
                pass
    return made


def ran(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("select is_called from public.seen").fetchone()
    return row is not None and bool(row[0])


# -- the tests ---------------------------------------------------------------------------


@pytest.mark.parametrize("pooler", [None, "transaction"])
@pytest.mark.parametrize("is_made_first", [False, True])
def test_no_function_of_a_stranger_runs(
    new_database: Callable[[], str],
    pooler: Literal["transaction"] | None,
    is_made_first: bool,
) -> None:
    url = new_database()
    # As behind a pooler no setting of the session holds, the default path is in force.
    with stranger(url) as guest, PostgresStore(SCHEMA, url, pooler=pooler) as store:
        if not is_made_first:
            store.migrate()
        assert make_overloads(guest) > 500
        store.migrate()

        work(store)

        assert not ran(guest)
        with pytest.raises(psycopg.Error, match="a stranger ran"):
            guest.execute(
                "select pg_catalog.count(*) from pg_class where relname = 'x'::varchar(9)"
            )
        with pytest.raises(psycopg.Error, match="a stranger ran"):
            guest.execute("select lower('A'::varchar(9))")
        assert ran(guest)


def test_every_function_is_pinned_and_closed(
    new_migrated_database: Callable[[Schema], str],
) -> None:
    with psycopg.connect(new_migrated_database(SCHEMA)) as connection:
        found = connection.execute(
            "select p.proname, p.prosecdef, coalesce(p.proconfig, '{}'), exists ("
            "select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a "
            "where a.grantee = 0) from pg_proc as p "
            "where p.pronamespace = 'public'::regnamespace and p.proname like 'pend\\_%'"
        ).fetchall()
    assert len(found) == len([*definitions(SCHEMA)])
    for name, is_definer, settings, is_public in found:
        assert not is_definer, name
        assert "search_path=pg_catalog, pg_temp" in settings, name
        assert not is_public, name


def test_tables_of_the_same_name_elsewhere_are_not_used(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with PostgresStore(SCHEMA, url) as store:
        store.migrate()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create schema decoy")
        tables = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace "
            "and relkind = 'r'"
        ).fetchall()
        for (name,) in tables:
            connection.execute(
                f"create table decoy.{name} (like public.{name})".encode()
            )
    decoy = psycopg.conninfo.make_conninfo(url, options="-c search_path=decoy,public")
    with PostgresStore(SCHEMA, decoy, pooler="transaction", pool_size=1) as store:
        session = store._client.acquire()
        for (name,) in tables:
            session.execute_text(f"create temporary table {name} (like public.{name})")
        store._client._pool.release(session)
        work(store)
    with psycopg.connect(url) as connection:
        for (name,) in tables:
            rows = connection.execute(f"select from decoy.{name}".encode()).fetchall()
            assert rows == [], name


def test_the_schema_may_have_any_name(new_database: Callable[[], str]) -> None:
    url = new_database()
    with (
        PostgresStore(SCHEMA, url, database_schema="Own_1") as store,
        PostgresStore(SCHEMA, url) as other,
    ):
        with pytest.raises(ps.SchemaOutOfDate, match="never been migrated"):
            store.collection(Ship).get("1")
        store.migrate()
        work(store)
        with pytest.raises(ConfigError, match=r"in the schema Own_1.*postgres\.schema"):
            other.collection(Ship).get("1")
        other.migrate()
        work(other)
    with psycopg.connect(url) as connection:
        left = connection.execute(
            "select has_schema_privilege('public', 'Own_1', 'usage')"
        ).fetchone()
    assert left == (False,)


@pytest.mark.parametrize(
    "name", ["", "a-b", 'a"b', "pg_x", "information_schema", "x" * 64]
)
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"postgres\.schema"):
        PostgresStore(SCHEMA, "postgresql:///x", database_schema=name)


def test_a_table_of_a_stranger_is_not_taken_over(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with stranger(url) as guest, PostgresStore(SCHEMA, url) as store:
        guest.execute("create table public.ships (id text primary key)")

        with pytest.raises(ConfigError, match=r"ships \(owner pend_stranger\)"):
            store.migrate()
