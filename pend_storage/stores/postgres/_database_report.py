"""Database report: state of any database for operators, migrated or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from pend_storage.errors import StoreUnavailable
from pend_storage.phases import ROLE_META, RoleState
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.schema_revision import SCHEMA_META, Revision
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.own_names import EQ, OWN, with_names
from pend_storage.stores.postgres._connection.server_errors import ConnectionLost
from pend_storage.stores.postgres._schema.tables import CORE_TABLES, quoted, table_name

__all__ = ["DatabaseReport", "inspect_database"]


_SIZE: Final = "select pg_catalog.pg_database_size(pg_catalog.current_database())"


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
            return _read_report(schema, connection, connector.schema)
    except ConnectionLost as lost:
        raise StoreUnavailable(lost.reason, store=str(connector.address)) from lost
    except psycopg.Error as error:
        reason = str(error).strip() or type(error).__name__
        raise StoreUnavailable(reason, store=str(connector.address)) from error


def _read_report(
    schema: Schema, connection: psycopg.Connection[Any], namespace: str
) -> DatabaseReport:
    def scalar(text: str, *values: Any) -> Any:
        statement = with_names(text, namespace).encode()
        row = connection.execute(statement, values or None).fetchone()
        return None if row is None else row[0]

    def meta(name: str) -> Any:
        return scalar(
            f"select m.value from {OWN}store_meta as m where m.name {EQ} %s::text", name
        )

    def count(table: str) -> int:
        return int(scalar(f"select pg_catalog.count(*) from {OWN}{quoted(table)}"))

    tables = {table_name(spec.name): spec.name for spec in schema}
    sql = (
        "select exists (select from pg_catalog.pg_class as c "
        f"join pg_catalog.pg_namespace as n on n.oid {EQ} c.relnamespace "
        f"where n.nspname {EQ} '{namespace}'::pg_catalog.name "
        f"and c.relname {EQ} %s::pg_catalog.name "
        f"and c.relkind {EQ} any ('{{r,p}}'::pg_catalog.\"char\"[]))"
    )
    present = {t for t in (*tables, *CORE_TABLES) if scalar(sql, t)}
    noted = meta(SCHEMA_META) if "store_meta" in present else None
    role = meta(ROLE_META) if "store_meta" in present else None
    invalid = connection.execute(
        "select i.indexrelid::pg_catalog.regclass::text "
        "from pg_catalog.pg_index as i where not i.indisvalid"
    ).fetchall()
    return DatabaseReport(
        server_version=str(connection.info.parameter_status("server_version")),
        size=int(scalar(_SIZE)),
        revision=None if noted is None else str(Revision.from_value(noted)),
        wanted=str(Revision.of(schema)),
        role=RoleState.from_meta(role),
        rows={name: count(t) for t, name in tables.items() if t in present},
        tombstones=count("tombstones") if "tombstones" in present else 0,
        changes=count("changes") if "changes" in present else 0,
        indexes_invalid=tuple(row[0] for row in invalid),
    )
