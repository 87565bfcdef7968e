"""Migration: brings a database to a schema in one transaction, one at a time.

The core tables follow Alembic revisions. The tables of collections follow the
declaration: what Alembic finds missing is added, and what would lose data is refused.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, pool, text
from sqlalchemy.exc import DBAPIError

from pend_storage import _jitter as jitter
from pend_storage._schema_changes import (
    Evolution,
    SchemaChange,
    changes_between,
    only_added,
)
from pend_storage._schema_note import describe
from pend_storage.errors import ConfigError, SchemaOutOfDate, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.schema_revision import (
    KNOWN_REVISIONS,
    SCHEMA_META,
    Revision,
    describe_difference,
    encoding_fault,
)
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.own_names import (
    OWN,
    SEARCH_PATH,
    with_names,
)
from pend_storage.stores.postgres._functions import definitions
from pend_storage.stores.postgres._functions.audit_guard import triggers
from pend_storage.stores.postgres._functions.sequence_numbers import PRUNED_META
from pend_storage.stores.postgres._migration.blocking_sessions import (
    BlockingSessionMonitor,
)
from pend_storage.stores.postgres._migration.column_changes import ColumnChanges
from pend_storage.stores.postgres._migration.grants import grant_functions
from pend_storage.stores.postgres._migration.leftover_tables import (
    drop_leftover_tables,
    existing_tables,
)
from pend_storage.stores.postgres._migration.migration_errors import (
    is_conflict,
    translated_errors,
)
from pend_storage.stores.postgres._migration.migration_lock import (
    is_application,
    lock_migrations,
    refuse_foreign_tables,
)
from pend_storage.stores.postgres._migration.schema_diff import (
    add_missing,
    run_text,
    trigram_operators,
)
from pend_storage.stores.postgres._migration.schema_notes import (
    DESCRIPTION_META,
    read_description,
    read_revision,
    write_meta,
)
from pend_storage.stores.postgres._migration.statement_recorder import (
    recorded_statements,
)
from pend_storage.stores.postgres._schema.tables import REVISION_TABLE, declare

__all__ = ["MigrationOptions", "migrate"]

_ALEMBIC: Final = threading.Lock()  # its context is one for the whole process
_END_LOG: Final = f"""insert into {OWN}store_meta as m (name, value)
  select '{PRUNED_META}', to_jsonb(max(sequence)) from {OWN}changes having count(*) > 0
  on conflict (name) do update set value = excluded.value
   where (m.value #>> '{{}}')::bigint < (excluded.value #>> '{{}}')::bigint"""
"""Prunes the log: entries so far are of a former schema. They stay, and are not read
any more.
"""
_PIN: Final = f"set local search_path = {SEARCH_PATH}"
_LOCK_TIMEOUT: Final = 1.0
"""Seconds of one lock request: later requests of other sessions queue behind it."""
_LONGEST_PAUSE: Final = 3.0
"""Seconds for which other sessions proceed before the next lock request."""


@dataclass(frozen=True, slots=True)
class MigrationOptions:
    """Permissions of a migration."""

    drop: bool = False
    """Whether what the schema lacks may be deleted."""
    drop_empty: bool = False
    """Whether empty tables of another schema may be dropped."""
    dry_run: bool = False
    """Whether to roll back, and only report the statements."""


def migrate(
    schema: Schema,
    connector: Connector,
    hook: Hook,
    *,
    wait: float = 60.0,
    options: MigrationOptions = MigrationOptions(),
) -> Evolution:
    """Migrate a database to a schema; see :meth:`PostgresStore.migrate`.

    Args:
        schema: as declared.
        connector: opens connections to the database.
        hook: receives events.
        wait: seconds for which locks are requested.
        options: what the migration may do.
    """
    store = str(connector.address)
    # An index may take longer to build than a statement may normally run.
    unlimited = dataclasses.replace(connector, statement_timeout=0.0)
    with translated_errors(store):
        return _migrate_with_retry(schema, unlimited, hook, wait=wait, options=options)


def _migrate_with_retry(
    schema: Schema,
    connector: Connector,
    hook: Hook,
    *,
    wait: float,
    options: MigrationOptions,
) -> Evolution:
    """Retry while another session holds a lock that is needed."""
    store = str(connector.address)
    blockers = BlockingSessionMonitor(connector)
    deadline = time.monotonic() + wait
    for attempt in itertools.count():
        try:
            return _migrate_once(
                schema, connector, hook, blockers, deadline, options=options
            )
        except DBAPIError as error:
            if not is_conflict(error.orig):
                raise
            if time.monotonic() >= deadline:
                raise _lock_timeout_error(store, wait, blockers) from error
        _pause_for_others(attempt, deadline, store, blockers, hook)
    raise AssertionError  # pragma: no cover - it counts for ever


def _migrate_once(
    schema: Schema,
    connector: Connector,
    hook: Hook,
    blockers: BlockingSessionMonitor,
    deadline: float,
    *,
    options: MigrationOptions,
) -> Evolution:
    """Migrate in one transaction, or not at all."""
    store = str(connector.address)
    wanted = Revision.of(schema)
    with (
        _connected(connector, undo=options.dry_run) as connection,
        _monitored(connection, blockers),
        recorded_statements(connection, connector.schema) as statements,
    ):
        _refuse_encoding(connection, store)
        if is_application(connection) and read_revision(connection) == wanted:
            return Evolution(store, (), {}, ())  # as a server does at each start
        # Only other migrations queue for this one.
        _set_lock_timeout(connection, max(_LOCK_TIMEOUT, deadline - time.monotonic()))
        lock_migrations(connection)
        _set_lock_timeout(connection, _LOCK_TIMEOUT)
        found = read_revision(connection)
        _refuse_newer_library(found, wanted, store)
        cleared = (
            _drop_leftovers(connection, found, schema, store)
            if options.drop_empty
            else []
        )
        _refuse_extra_collections(connection, found, wanted, store, options)
        _upgrade_core(connection, connector.schema)
        changes, records, done = _apply_schema(
            connection,
            schema,
            connector,
            found=found,
            cleared=cleared,
            drop=options.drop,
        )
    if (found != wanted or done) and not options.dry_run:
        facts = "; ".join(done) or "nothing but its notes"
        hook(
            Event(
                "database-migrated",
                f"{store} is at revision {wanted} now; changed: {facts}.",
                logging.INFO,
                {"store": store, "changes": len(done)},
            )
        )
    return Evolution(store, changes, records, tuple(statements))


def _apply_schema(
    connection: Connection,
    schema: Schema,
    connector: Connector,
    *,
    found: Revision | None,
    cleared: list[str],
    drop: bool,
) -> tuple[tuple[SchemaChange, ...], dict[str, int], list[str]]:
    """Bring tables and functions to the schema, and store its description.

    Returns:
        The differences, the number of changed records by collection, and a description
        of each change.
    """
    store = str(connector.address)
    wanted, description = Revision.of(schema), describe(schema)
    former = read_description(connection, found, cleared)
    changes: tuple[SchemaChange, ...] = ()
    if former is not None:
        changes = changes_between(former, description, schema)
        is_added = only_added(changes) and not cleared
        description = description.after(former, only_added=is_added)
    column_changes = ColumnChanges(
        connection, schema, former or description, changes, store
    )
    done = [f"empty table of {name} dropped" for name in cleared]
    done += column_changes.run(drop=drop)
    trigrams = trigram_operators(connection, schema, store)
    declared = declare(schema, connector.schema, trigrams=trigrams)
    refuse_foreign_tables(connection, declared, store)
    done += add_missing(connection, declared, store, verified=column_changes.verified)
    if not only_added(changes):
        run_text(connection, _END_LOG)
    if found is None or found.functions != wanted.functions:
        for definition in definitions.definitions(schema):
            run_text(connection, definition)
        for trigger in triggers():
            run_text(connection, trigger)
    done += grant_functions(connection, schema)
    wanted = dataclasses.replace(wanted, ancestors=tuple(description.ancestors))
    write_meta(connection, SCHEMA_META, wanted.to_json())
    write_meta(connection, DESCRIPTION_META, description.to_json())
    return changes, column_changes.records, done


def _set_lock_timeout(connection: Connection, seconds: float) -> None:
    connection.execute(text(f"set local lock_timeout = {math.ceil(seconds * 1000)}"))


@contextmanager
def _monitored(
    connection: Connection, blockers: BlockingSessionMonitor
) -> Iterator[None]:
    with blockers.monitoring(
        int(connection.scalar(text("select pg_backend_pid()")) or 0)
    ):
        yield


def _pause_for_others(
    attempt: int,
    deadline: float,
    store: str,
    blockers: BlockingSessionMonitor,
    hook: Hook,
) -> None:
    """Pause with back-off, so that other sessions get their locks."""
    if not attempt:
        hook(
            Event(
                "migration-waits",
                f"{store}: the migration needs a lock that is held by {blockers}. It "
                "asks again from time to time, and others go on meanwhile.",
                logging.WARNING,
                {"store": store, "blockers": blockers.seen},
            )
        )
    limit = min(_LONGEST_PAUSE, 0.5 * 2**attempt)
    pause = jitter.between(limit / 2, limit)
    time.sleep(max(0.0, min(pause, deadline - time.monotonic())))


def _lock_timeout_error(
    store: str, wait: float, blockers: BlockingSessionMonitor
) -> StoreUnavailable:
    return StoreUnavailable(
        f"the migration did not get its locks within {wait:g} s: {blockers} was in the "
        "way. End that session or wait for its end, or allow more time (wait=..., "
        "--wait)",
        store=store,
    )


def _refuse_encoding(connection: Connection, store: str) -> None:
    encoding = connection.scalar(text("show server_encoding"))
    if fault := encoding_fault(str(encoding)):
        raise ConfigError(f"{store}: {fault}")


@contextmanager
def _connected(connector: Connector, *, undo: bool) -> Iterator[Connection]:
    """Transaction on a connection of its own; rolled back at its end if undone."""

    def connect() -> psycopg.Connection[tuple[Any, ...]]:
        connection = connector.open().detach()
        connection.autocommit = False
        # Before the driver's own queries, which rely on the path.
        connection.execute(_PIN.encode())
        return connection

    engine = create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=pool.NullPool
    )

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def put_names(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> tuple[str, Any]:
        return with_names(statement, connector.schema), parameters

    try:
        with engine.connect() as connection, connection.begin() as transaction:
            # No name of the schema is found without it, so Alembic shows it everywhere.
            connection.execute(text(_PIN))
            connection.dialect.default_schema_name = "pg_catalog"
            connection.execute(text("set local timezone = 'UTC'"))
            # Quoted names would not be recognised as types.
            connection.execute(text("set local quote_all_identifiers = off"))
            yield connection
            if undo:
                transaction.rollback()
    finally:
        engine.dispose()


def _refuse_newer_library(found: Revision | None, wanted: Revision, store: str) -> None:
    if found is not None and found.core not in KNOWN_REVISIONS:
        raise SchemaOutOfDate(describe_difference(store, found, wanted))


def _drop_leftovers(
    connection: Connection, found: Revision | None, schema: Schema, store: str
) -> list[str]:
    """Drop the empty tables of another schema; returns their collections."""
    if found is None or found.schema == schema.fingerprint():
        return []
    former = read_description(connection, found)
    return drop_leftover_tables(connection, found.collections, former, schema, store)


def _refuse_extra_collections(
    connection: Connection,
    found: Revision | None,
    wanted: Revision,
    store: str,
    options: MigrationOptions,
) -> None:
    """Refuse a database with more collections, unless they may be dropped."""
    if found is None or (
        options.drop and read_description(connection, found) is not None
    ):
        return
    present = existing_tables(
        connection, set(found.collections) - set(wanted.collections)
    )
    if present:
        left = (*sorted(present), *wanted.collections)
        raise SchemaOutOfDate(
            describe_difference(
                store, dataclasses.replace(found, collections=left), wanted
            )
        )


def _upgrade_core(connection: Connection, namespace: str) -> None:
    config = Config()
    config.set_main_option("script_location", "pend_storage:migrations")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = REVISION_TABLE
    config.attributes["namespace"] = namespace
    with _ALEMBIC:
        command.upgrade(config, "head")
