"""COPY of ready-made bytes into the tables that the migration fills.

The records were parsed, checked and mapped before, and written in the
format of COPY: this is as quick as the server takes them, with all its indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from benchmarks.contenders.migration import adopted
from benchmarks.measure import Slice, rate_once
from benchmarks.workbench import Workbench
from pend_storage.backfill import backfill
from pend_storage.pend import SCHEMA
from pend_storage.stores.postgres import PostgresStore

__all__ = ["copies"]

_BLOCK: Final = 1 << 18


@contextmanager
def copies(bench: Workbench, events: int) -> Iterator[Slice]:
    """All tables, one after the other, each emptied before."""
    with bench.database() as url:
        files = _ready_made(bench, events, url)
        with psycopg.connect(url, autocommit=True) as connection:

            @contextmanager
            def prepared() -> Iterator[Callable[[], int]]:
                names = sql.SQL(", ").join(sql.Identifier(name) for name in files)
                connection.execute(sql.SQL("truncate {} cascade").format(names))
                yield lambda: _import(connection, files)

            yield rate_once(prepared)


def _ready_made(bench: Workbench, events: int, url: str) -> dict[str, Path]:
    """The bytes by table, in the order in which they can be copied; made only once."""
    name = f"ready-made-{events}"
    directory, filled = bench.kept(name)
    with PostgresStore(SCHEMA, url) as target:
        target.migrate()
        if not filled:
            with adopted(bench, events) as source:
                backfill(source, target)
            with psycopg.connect(url) as connection:
                _export(directory, connection)
            bench.fill(name)
    found = {spec.name: directory / spec.name for spec in SCHEMA}
    return {name: path for name, path in found.items() if path.exists()}


def _filled_tables(connection: psycopg.Connection) -> list[str]:
    """The collections' tables that hold rows, in the order of the schema."""
    found = []
    for name in (spec.name for spec in SCHEMA):
        question = sql.SQL("select exists (select from {})").format(
            sql.Identifier(name)
        )
        row = connection.execute(question).fetchone()
        if row is not None and row[0]:
            found.append(name)
    return found


def _export(directory: Path, connection: psycopg.Connection) -> None:
    for name in _filled_tables(connection):
        statement = sql.SQL("copy {} to stdout").format(sql.Identifier(name))
        path = directory / name
        with connection.cursor().copy(statement) as copy, path.open("wb") as stream:
            stream.writelines(copy)


def _import(connection: psycopg.Connection, files: dict[str, Path]) -> int:
    rows = 0
    with connection.transaction():
        for name, path in files.items():
            cursor = connection.cursor()
            statement = sql.SQL("copy {} from stdin").format(sql.Identifier(name))
            with cursor.copy(statement) as copy, path.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    copy.write(block)
            rows += cursor.rowcount
    return rows
