"""The schema that migrate() makes is the declared one, on the oldest and newest server."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, create_engine, pool

import pend_storage as ps
from pend_storage._model.fields import Limit
from pend_storage.pend import SCHEMA as PEND
from pend_storage.records import JSON
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._schema.tables import REVISION_TABLE, declare
from pend_storage.testing.domain import SCHEMA as HARBOUR


@dataclass(frozen=True)
class Odd:
    """Names and limits that are easily got wrong."""

    id: str
    version: int
    order: str
    xmin: Annotated[Decimal, Limit(digits=6, places=2, ge=Decimal("-1.5"))]
    word: Literal["50%", "it's", "a:b", "back\\slash"]
    Größe: Annotated[int, Limit(ge=0, le=40_000)]  # noqa: PLC2401 - that is the point
    any_value: JSON = None
    maybe: JSON | None = None


ODD = Schema(
    [
        ps.collection(
            "user",
            Odd,
            unique=[["version", "order"], "Größe"],
            references={"order": "user"},
            indexes=[["-xmin", "word"], ["-version", "word"]],
            search=["order"],
        )
    ]
)


def differences(url: str, schema: Schema) -> list[object]:
    """Differences that Alembic finds, and checks by name, which it does not compare."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(url),
        poolclass=pool.NullPool,
    )
    metadata = declare(schema)
    with engine.connect() as connection, warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_object": lambda _o, name, *_: name != REVISION_TABLE,
        }
        context = MigrationContext.configure(connection, opts=options)
        found: list[object] = list(compare_metadata(context, metadata))
        for table in metadata.tables.values():
            declared = {
                str(c.name) for c in table.constraints if isinstance(c, CheckConstraint)
            }
            look = (
                "select conname from pg_constraint where contype = 'c' "
                f"and conrelid = '\"{table.name}\"'::regclass"
            )
            there = set(map(str, connection.exec_driver_sql(look).scalars()))
            found += sorted(declared ^ there)
    return found


@pytest.mark.parametrize(
    "schema", [PEND, HARBOUR, ODD, Schema([])], ids=["pend", "harbour", "odd", "none"]
)
def test_the_database_is_as_declared(
    any_server: Callable[[], str], schema: Schema
) -> None:
    url = any_server()

    with PostgresStore(schema, url) as store:
        store.migrate()

    assert differences(url, schema) == []


def test_migrating_again_changes_nothing(any_server: Callable[[], str]) -> None:
    url = any_server()
    events: list[object] = []
    with PostgresStore(HARBOUR, url, hook=events.append) as store:
        store.migrate()
        first = store.inspect()
        store.migrate()

    assert len(events) == 1
    assert differences(url, HARBOUR) == []
    assert first.is_current


def test_names_that_look_alike_do_not_meet(any_server: Callable[[], str]) -> None:
    @dataclass(frozen=True)
    class One:
        id: str
        a_b: int = 0
        c: int = 0
        a: int = 0
        b_c: int = 0
        a__b: int = 0

    @dataclass(frozen=True)
    class Two:
        id: str
        c: int = 0

    long = "x" * 40
    schema = Schema(
        [
            ps.collection(
                "t",
                One,
                unique=[["a_b", "c"], ["a", "b_c"], ["a__b", "c"]],
                indexes=[["a_b", "c"], ["a", "b_c"], ["a", "b_c", "c"]],
            ),
            ps.collection("t_a_b", Two, unique=["c"], indexes=[["c"]]),
            ps.collection(long, Odd, unique=[["version", "order", "xmin"]]),
        ]
    )
    url = any_server()

    with PostgresStore(schema, url) as store:
        store.migrate()

        assert differences(url, schema) == []


def test_odd_names_and_words_are_stored(any_server: Callable[[], str]) -> None:
    odd = Odd("1", 7, "1", Decimal("-1.50"), "back\\slash", 40_000, maybe={"a": [None]})
    with PostgresStore(ODD, any_server()) as store:
        store.migrate()
        records = store.collection(Odd)
        version = records.put(odd)

        assert records.get("1") == odd
        assert records.find(ps.field("version") == 7, order_by=["-xmin"]).items == (
            odd,
        )
        assert [change.sequence for change in store.changes()] == [version]
        assert records.delete("1")
