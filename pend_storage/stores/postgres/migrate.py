"""Bringing a database to a schema: only ever by adding, in one transaction, one at a time.

The core tables follow Alembic revisions. The tables of collections follow the declaration:
what Alembic finds missing is added, and what would lose something is refused.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pend_storage.codec import dump_json
from pend_storage.errors import ConfigError, SchemaOutOfDate, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.schema import Schema
from pend_storage.stores.postgres import functions
from pend_storage.stores.postgres.connections import Connector
from pend_storage.stores.postgres.errors import ConnectionLost
from pend_storage.stores.postgres.evolve import extend, run_text
from pend_storage.stores.postgres.revision import (
    KNOWN_REVISIONS,
    SCHEMA_META,
    Revision,
    difference,
)
from pend_storage.stores.postgres.tables import REVISION_TABLE, declare

__all__ = ["migrate"]

_LOCK: Final = 0x70656E64_6D696772  # the ASCII of "pendmigr"
_ALEMBIC: Final = threading.Lock()  # its context is one for the whole process
_REFUSED_BY_DATA: Final = frozenset({"23502", "23503", "23505", "23514", "22001"})


def migrate(schema: Schema, connector: Connector, hook: Hook) -> None:
    """See :meth:`PostgresStore.migrate`."""
    store = str(connector.address)
    wanted = Revision.of(schema)
    # An index may take longer to build than a statement may normally run.
    patient = dataclasses.replace(connector, statement_timeout=0.0)
    with _translated(store), _connected(patient) as connection:
        connection.execute(text(f"select pg_advisory_xact_lock({_LOCK})"))
        found = _found(connection)
        _refuse_newer(connection, found, wanted, store)
        _upgrade_core(connection)
        done = extend(connection, schema, declare(schema), store)
        if found is None or found.functions != wanted.functions:
            for definition in functions.definitions(schema):
                run_text(connection, definition)
        _note(connection, wanted)
    if found != wanted or done:
        facts = "; ".join(done) or "nothing but its notes"
        hook(
            Event(
                "database-migrated",
                f"{store} is at revision {wanted} now; changed: {facts}.",
                logging.INFO,
            )
        )


@contextmanager
def _connected(connector: Connector) -> Iterator[Connection]:
    """A transaction on a connection of its own."""

    def connect() -> psycopg.Connection[tuple[Any, ...]]:
        connection = connector.open().connection
        connection.autocommit = False
        return connection

    engine = create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=pool.NullPool
    )
    try:
        with engine.connect() as connection, connection.begin():
            connection.execute(text("set local timezone = 'UTC'"))
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _translated(store: str) -> Iterator[None]:
    try:
        yield
    except ConnectionLost as lost:
        raise StoreUnavailable(lost.reason, store=store) from lost
    except DBAPIError as error:
        raise _public(error.orig, store) from error
    except psycopg.Error as error:
        raise _public(error, store) from error
    except SQLAlchemyError as error:
        raise StoreUnavailable(str(error), store=store) from error


def _public(error: BaseException | None, store: str) -> Exception:
    code = getattr(error, "sqlstate", None) or ""
    message = (str(error).strip().splitlines() or ["no reason given"])[0]
    if code in _REFUSED_BY_DATA:
        return SchemaOutOfDate(
            f"{store}: records in the database do not fit the schema ({message}). "
            "Change them or the schema, and migrate again; nothing was changed."
        )
    if code in {"42501", "0A000", "58P01"}:
        return ConfigError(
            f"{store}: {message}. Migrate as the owner of the database, or let its "
            "administrator grant or install what is missing; nothing was changed."
        )
    return StoreUnavailable(message, store=store)


def _found(connection: Connection) -> Revision | None:
    if connection.scalar(text("select to_regclass('store_meta')")) is None:
        return None
    look = text("select value::text from store_meta where name = :name")
    value: str | None = connection.scalar(look, {"name": SCHEMA_META})
    return Revision.from_json(None if value is None else value.encode())


def _refuse_newer(
    connection: Connection, found: Revision | None, wanted: Revision, store: str
) -> None:
    """A database of a newer library is left alone, and so is one of a larger schema."""
    if found is None:
        return
    present = {
        name
        for name in set(found.collections) - set(wanted.collections)
        if connection.scalar(
            text("select to_regclass(quote_ident(:name))"), {"name": name}
        )
    }
    if found.core in KNOWN_REVISIONS and not present:
        return
    left = tuple(sorted(present)) + wanted.collections
    raise SchemaOutOfDate(
        difference(store, dataclasses.replace(found, collections=left), wanted)
    )


def _upgrade_core(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "pend_storage:migrations")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = REVISION_TABLE
    with _ALEMBIC:
        command.upgrade(config, "head")


def _note(connection: Connection, wanted: Revision) -> None:
    parameters: dict[str, Any] = {
        "name": SCHEMA_META,
        "value": dump_json(wanted.to_json()).decode(),
    }
    connection.execute(
        text(
            "insert into store_meta (name, value) values (:name, cast(:value as jsonb))"
            " on conflict (name) do update set value = excluded.value"
            " where store_meta.value <> excluded.value"
        ),
        parameters,
    )
