"""Database report: state of any database for operators, migrated or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from pend_storage.errors import StoreUnavailable
from pend_storage.phases import ROLE_META, RoleState
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.schema_revision import SCHEMA_META, Revision
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.server_errors import ConnectionLost
from pend_storage.stores.postgres._schema.tables import CORE_TABLES, quoted, table_name

__all__ = ["DatabaseReport", "inspect_database"]


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """State of a database."""

    server_version: str
    size: int
    """Bytes, with indexes."""
    revision: str | None
    """Revision it was migrated to; None if it never was."""
    wanted: str
    """Revision that the library would migrate it to."""
    role: RoleState
    rows: Mapping[str, int]
    """Records by collection; without collections that have no table yet."""
    tombstones: int
    changes: int
    """Commits in the change log."""
    indexes_invalid: tuple[str, ...]
    """Indexes that PostgreSQL does not use, because building them was interrupted."""

    @property
    def is_current(self) -> bool:
        """True if it fits the library and the schema."""
        return self.revision == self.wanted


def inspect_database(schema: Schema, connector: Connector) -> DatabaseReport:
    """Report on a database.

    Args:
        schema: its collections are counted.
        connector: opens a connection of its own.

    Raises:
        StoreUnavailable: it cannot be reached.
    """
    try:
        connection = connector.open().detach()
        with connection:
            return _read_report(schema, connection)
    except ConnectionLost as lost:
        raise StoreUnavailable(lost.reason, store=str(connector.address)) from lost
    except psycopg.Error as error:
        reason = str(error).strip() or type(error).__name__
        raise StoreUnavailable(reason, store=str(connector.address)) from error


def _read_report(schema: Schema, connection: psycopg.Connection[Any]) -> DatabaseReport:
    def scalar(text: str, *values: Any) -> Any:
        row = connection.execute(text.encode(), values or None).fetchone()
        return None if row is None else row[0]

    def meta(name: str) -> Any:
        return scalar("select value from store_meta where name = %s", name)

    def count(table: str) -> int:
        return int(scalar(f"select count(*) from {quoted(table)}"))

    tables = {table_name(spec.name): spec.name for spec in schema}
    sql = "select to_regclass(quote_ident(%s)) is not null"
    present = {t for t in (*tables, *CORE_TABLES) if scalar(sql, t)}
    noted = meta(SCHEMA_META) if "store_meta" in present else None
    role = meta(ROLE_META) if "store_meta" in present else None
    invalid = connection.execute(
        "select indexrelid::regclass::text from pg_index where not indisvalid"
    ).fetchall()
    return DatabaseReport(
        server_version=str(connection.info.parameter_status("server_version")),
        size=int(scalar("select pg_database_size(current_database())")),
        revision=None if noted is None else str(Revision.from_value(noted)),
        wanted=str(Revision.of(schema)),
        role=RoleState.from_meta(role),
        rows={name: count(t) for t, name in tables.items() if t in present},
        tombstones=count("tombstones") if "tombstones" in present else 0,
        changes=count("changes") if "changes" in present else 0,
        indexes_invalid=tuple(row[0] for row in invalid),
    )
