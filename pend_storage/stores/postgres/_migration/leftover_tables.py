"""Leftover tables: drops empty tables that another schema's migration made."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from pend_storage._schema_note import CollectionShape, Description
from pend_storage.errors import SchemaOutOfDate
from pend_storage.schema import SYSTEM_NAMES, Schema
from pend_storage.stores.postgres._connection.own_names import OWN
from pend_storage.stores.postgres._migration.column_changes import drop_tables, run_with
from pend_storage.stores.postgres._schema.tables import own_table, table_name

__all__ = ["drop_leftover_tables", "existing_tables"]


def existing_tables(connection: Connection, collections: Iterable[str]) -> set[str]:
    """Filter the collections that have a table."""
    sql = f"select to_regclass('{OWN}' || quote_ident(@table@))"
    return {
        name
        for name in collections
        if run_with(connection, sql, {"table": table_name(name)}).scalar() is not None
    }


def drop_leftover_tables(
    connection: Connection,
    migrated: Iterable[str],
    former: Description | None,
    schema: Schema,
    store: str,
) -> list[str]:
    """Drop empty tables of another schema; returns their collections.

    Args:
        connection: in the transaction of the migration.
        migrated: the collections of the other schema.
        former: the other schema, if it is stored.
        schema: the declared one.
        store: name of the store in error messages.

    Raises:
        SchemaOutOfDate: a table that the declared schema lacks is not empty.
    """
    rows: dict[str, int] = {}
    for name in sorted(existing_tables(connection, set(migrated) - SYSTEM_NAMES)):
        if not _is_other(name, former, schema):
            continue
        run_with(
            connection,
            f"lock table {own_table(name)} in access exclusive mode",
        )
        count = f"select count(*) from {own_table(name)}"
        rows[name] = int(run_with(connection, count).scalar() or 0)
    filled = {n: count for n, count in rows.items() if count and n not in schema.names}
    if filled:
        listed = ", ".join(f"{name} ({count:,})" for name, count in filled.items())
        raise SchemaOutOfDate(
            f"{store}: only empty tables are dropped, and there are records in {listed}. "
            "Set schema to the module that has these collections, or delete them with "
            "their records by --drop (drop=True); nothing was changed."
        )
    empty = [name for name, count in rows.items() if not count]
    drop_tables(connection, empty)
    return empty


def _is_other(name: str, former: Description | None, schema: Schema) -> bool:
    """Return whether a table differs from what the declared schema would create."""
    if name not in schema.names:
        return True
    if former is None or name not in former.collections:
        return False
    return former.collections[name] != CollectionShape.of(schema[name])
