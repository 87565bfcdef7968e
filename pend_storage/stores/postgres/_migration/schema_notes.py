"""Schema notes: revision and schema description stored in ``store_meta``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from pend_storage._schema_note import Description
from pend_storage.codec import dump_json
from pend_storage.stores.postgres._client.schema_revision import SCHEMA_META, Revision
from pend_storage.stores.postgres._connection.own_names import OWN

__all__ = ["DESCRIPTION_META", "read_description", "read_revision", "write_meta"]

DESCRIPTION_META: Final = "postgres.description"
"""Meta entry with the schema that the tables have."""


def read_revision(connection: Connection) -> Revision | None:
    """Revision that the last migration stored; None if there was none."""
    if connection.scalar(text(f"select to_regclass('{OWN}store_meta')")) is None:
        return None
    sql = text(f"select value::text from {OWN}store_meta where name = :name")
    value: str | None = connection.scalar(sql, {"name": SCHEMA_META})
    return Revision.from_json(None if value is None else value.encode())


def read_description(
    connection: Connection, found: Revision | None, cleared: Collection[str] = ()
) -> Description | None:
    """Schema of the existing tables, where a migration has stored it.

    Args:
        connection: in the transaction of the migration.
        found: the stored revision.
        cleared: collections whose tables were dropped in this transaction.
    """
    if found is None:
        return None
    sql = text(f"select value from {OWN}store_meta where name = :name")
    value = connection.scalar(sql, {"name": DESCRIPTION_META})
    noted = None if value is None else Description.from_json(value)
    if noted is None or noted.fingerprint != found.schema:
        return None  # a version without notes has migrated since
    there = {n: shape for n, shape in noted.collections.items() if n not in cleared}
    return msgspec.structs.replace(noted, collections=there)


def write_meta(connection: Connection, name: str, value: dict[str, Any]) -> None:
    """Store a meta entry, if it differs."""
    parameters: dict[str, Any] = {"name": name, "value": dump_json(value).decode()}
    connection.execute(
        text(
            f"insert into {OWN}store_meta as m (name, value)"
            " values (:name, cast(:value as jsonb))"
            " on conflict (name) do update set value = excluded.value"
            " where m.value <> excluded.value"
        ),
        parameters,
    )
