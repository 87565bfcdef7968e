"""Databases as earlier versions of the library made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import psycopg

from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore

__all__ = ["make_older", "run"]

_ADDED: Final = {
    "0005": "drop table audit",  # and its triggers, which need functions
    "0003": "alter table changes drop token, drop by, drop reason",
    "0004": "drop table pend_store_lock",
}
"""Takes back what a revision has added to the tables."""


def run(url: str, statement: str, *values: object) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def make_older(url: str, schema: Schema, revision: str) -> None:
    """Migrate an empty database, and take it back to an earlier revision.

    Args:
        url: of the database.
        schema: of its tables.
        revision: whose functions are in ``functions_REVISION.sql``.
    """
    with PostgresStore(schema, url) as store:
        store.migrate()
    for later, statement in _ADDED.items():
        if later > revision:
            run(url, statement)
    run(
        url,
        "do $$ declare f regprocedure; begin for f in select oid from pg_proc "
        "where proname ~ '^pend_' "
        "loop execute 'drop function ' || f; end loop; end $$",
    )
    run(url, "delete from store_meta where name = 'postgres.home'")
    functions = Path(__file__).with_name(f"functions_{revision}.sql")
    run(url, functions.read_text(encoding="utf-8"))
    run(url, f"update pend_storage_revision set version_num = '{revision}'")
    run(
        url,
        "update store_meta set value = value || "
        f'\'{{"core": "{revision}", "functions": "0123456789abcdef"}}\' '
        "where name = 'postgres.schema'",
    )
