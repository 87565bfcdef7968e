"""Bringing a database to a schema: only ever by adding, in one transaction, one at a time.

The core tables follow Alembic revisions. The tables of collections follow the declaration:
what Alembic finds missing is added, and what would lose something is refused.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pend_storage import jitter
from pend_storage.codec import dump_json
from pend_storage.errors import ConfigError, SchemaOutOfDate, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.schema import Schema
from pend_storage.schema_changes import (
    Evolution,
    SchemaChange,
    changes_between,
    only_added,
)
from pend_storage.schema_note import Description, describe
from pend_storage.stores.postgres._client.schema_revision import (
    KNOWN_REVISIONS,
    SCHEMA_META,
    Revision,
    describe_difference,
    encoding_fault,
)
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)
from pend_storage.stores.postgres._functions import definitions
from pend_storage.stores.postgres._functions.sequence_numbers import PRUNED_META
from pend_storage.stores.postgres._migration.blocking_sessions import (
    BlockingSessionMonitor,
)
from pend_storage.stores.postgres._migration.column_changes import ColumnChanges
from pend_storage.stores.postgres._migration.leftover_tables import (
    drop_leftover_tables,
    existing_tables,
)
from pend_storage.stores.postgres._migration.schema_diff import add_missing, run_text
from pend_storage.stores.postgres._migration.statement_recorder import (
    recorded_statements,
)
from pend_storage.stores.postgres._schema.tables import REVISION_TABLE, declare

__all__ = ["MigrationOptions", "migrate"]

_LOCK: Final = 0x70656E64_6D696772  # the ASCII of "pendmigr"
_ALEMBIC: Final = threading.Lock()  # its context is one for the whole process
_REFUSED_BY_DATA: Final = frozenset({"23502", "23503", "23505", "23514", "22001"})
DESCRIPTION_META: Final = "postgres.description"
"""Name of the meta entry with the schema that the tables are of."""
_END_LOG: Final = f"""insert into store_meta as m (name, value)
  select '{PRUNED_META}', to_jsonb(max(sequence)) from changes having count(*) > 0
  on conflict (name) do update set value = excluded.value
   where (m.value #>> '{{}}')::bigint < (excluded.value #>> '{{}}')::bigint"""
"""Entries so far are of a former schema: they stay, and are not given out any more."""
_LOCK_CONFLICTS: Final = frozenset({"55P03", "40P01"})
_LOCK_TIMEOUT: Final = 1.0
"""Seconds for which a lock is asked for: whoever comes later queues behind the request."""
_LONGEST_PAUSE: Final = 3.0
"""Seconds in which others go on before the locks are asked for again."""


@dataclass(frozen=True, slots=True)
class MigrationOptions:
    """How far a migration may go."""

    drop: bool = False
    """What the schema does not have any more may be deleted."""
    drop_empty: bool = False
    """Tables of another schema may be dropped as far as they are empty."""
    dry_run: bool = False
    """Only tell the statements."""


def migrate(
    schema: Schema,
    connector: Connector,
    hook: Hook,
    *,
    wait: float = 60.0,
    options: MigrationOptions = MigrationOptions(),
) -> Evolution:
    """See :meth:`PostgresStore.migrate`."""
    store = str(connector.address)
    # An index may take longer to build than a statement may normally run.
    patient = dataclasses.replace(connector, statement_timeout=0.0)
    work = partial(
        _migrate_with_retry, schema, patient, hook, wait=wait, options=options
    )
    return _translated_errors(store)(work)()


def _migrate_with_retry(
    schema: Schema,
    connector: Connector,
    hook: Hook,
    *,
    wait: float,
    options: MigrationOptions,
) -> Evolution:
    """Try, and try again where somebody holds what is needed."""
    store = str(connector.address)
    blockers = BlockingSessionMonitor(connector)
    deadline = time.monotonic() + wait
    for attempt in itertools.count():
        try:
            return _migrate_once(
                schema, connector, hook, blockers, deadline, options=options
            )
        except DBAPIError as error:
            if _sqlstate(error.orig) not in _LOCK_CONFLICTS:
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
    """All of it in one transaction, or nothing."""
    store = str(connector.address)
    wanted = Revision.of(schema)
    with (
        _connected(connector, undo=options.dry_run) as connection,
        _monitored(connection, blockers),
        recorded_statements(connection) as statements,
    ):
        _refuse_encoding(connection, store)
        # Only other migrations queue for this one.
        _set_lock_timeout(connection, max(_LOCK_TIMEOUT, deadline - time.monotonic()))
        connection.execute(text(f"select pg_advisory_xact_lock({_LOCK})"))
        _set_lock_timeout(connection, _LOCK_TIMEOUT)
        found = _read_revision(connection)
        _refuse_newer_library(found, wanted, store)
        cleared = (
            _drop_leftovers(connection, found, schema, store)
            if options.drop_empty
            else []
        )
        _refuse_extra_collections(connection, found, wanted, store, options)
        _upgrade_core(connection)
        changes, records, done = _apply_schema(
            connection, schema, store, found=found, cleared=cleared, drop=options.drop
        )
    if (found != wanted or done) and not options.dry_run:
        facts = "; ".join(done) or "nothing but its notes"
        hook(
            Event(
                "database-migrated",
                f"{store} is at revision {wanted} now; changed: {facts}.",
                logging.INFO,
            )
        )
    return Evolution(store, changes, records, tuple(statements))


def _apply_schema(
    connection: Connection,
    schema: Schema,
    store: str,
    *,
    found: Revision | None,
    cleared: list[str],
    drop: bool,
) -> tuple[tuple[SchemaChange, ...], dict[str, int], list[str]]:
    """Bring the tables and functions to the schema, and note it.

    Returns:
        What was different, how many records of each collection were changed, and what
        was done, in words.
    """
    wanted, description = Revision.of(schema), describe(schema)
    former = _read_description(connection, found, cleared)
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
    declared = declare(schema)
    done += add_missing(
        connection, schema, declared, store, verified=column_changes.verified
    )
    if not only_added(changes):
        run_text(connection, _END_LOG)
    if found is None or found.functions != wanted.functions:
        for definition in definitions.definitions(schema):
            run_text(connection, definition)
    wanted = dataclasses.replace(wanted, ancestors=tuple(description.ancestors))
    _write_meta(connection, SCHEMA_META, wanted.to_json())
    _write_meta(connection, DESCRIPTION_META, description.to_json())
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
    """Leave the locks to others for a while, longer each time."""
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
    """A transaction on a connection of its own; undone at its end, if that is wanted."""

    def connect() -> psycopg.Connection[tuple[Any, ...]]:
        connection = connector.open().detach()
        connection.autocommit = False
        return connection

    engine = create_engine(
        "postgresql+psycopg://", creator=connect, poolclass=pool.NullPool
    )
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(text("set local timezone = 'UTC'"))
            # Quoted names would not be recognised as types.
            connection.execute(text("set local quote_all_identifiers = off"))
            yield connection
            if undo:
                transaction.rollback()
    finally:
        engine.dispose()


@contextmanager
def _translated_errors(store: str) -> Iterator[None]:
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


def _sqlstate(error: BaseException | None) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _public(error: BaseException | None, store: str) -> Exception:
    code = _sqlstate(error)
    message = (str(error).strip().splitlines() or ["no reason given"])[0]
    if code in _REFUSED_BY_DATA:
        return SchemaOutOfDate(
            f"{store}: records in the database do not fit the schema ({message}). "
            "Change them or the schema, and migrate again; nothing was changed."
        )
    advice = _ADVICE.get(code) or _ADVICE.get(code[:2])
    if advice is not None:
        return ConfigError(f"{store}: {message}. {advice}; nothing was changed.")
    if code:
        return ServerRefusal(code, message).public(store)
    return StoreUnavailable(message, store=store)


_OWNER: Final = (
    "Migrate as the owner of the database, or let its administrator grant or install "
    "what is missing"
)
_ADVICE: Final = {
    "42501": _OWNER,
    "0A000": _OWNER,
    "58P01": _OWNER,
    "3F": (
        "Grant the user create and usage on a schema of search_path, or correct "
        "search_path"
    ),
    "54": "Declare fewer fields, or fewer fields in one index",
    "42": (
        "Something in the database does not fit: rename or remove what another program "
        "or somebody made there, and migrate again"
    ),
}
"""What to do about a SQLSTATE or a class of them that trying again does not heal."""


def _read_revision(connection: Connection) -> Revision | None:
    if connection.scalar(text("select to_regclass('store_meta')")) is None:
        return None
    look = text("select value::text from store_meta where name = :name")
    value: str | None = connection.scalar(look, {"name": SCHEMA_META})
    return Revision.from_json(None if value is None else value.encode())


def _read_description(
    connection: Connection, found: Revision | None, cleared: Collection[str] = ()
) -> Description | None:
    """The schema of the tables that are there, where a migration has noted it."""
    if found is None:
        return None
    look = text("select value from store_meta where name = :name")
    value = connection.scalar(look, {"name": DESCRIPTION_META})
    noted = None if value is None else Description.from_json(value)
    if noted is None or noted.fingerprint != found.schema:
        return None  # a version that notes nothing has migrated since
    there = {n: shape for n, shape in noted.collections.items() if n not in cleared}
    return msgspec.structs.replace(noted, collections=there)


def _refuse_newer_library(found: Revision | None, wanted: Revision, store: str) -> None:
    if found is not None and found.core not in KNOWN_REVISIONS:
        raise SchemaOutOfDate(describe_difference(store, found, wanted))


def _drop_leftovers(
    connection: Connection, found: Revision | None, schema: Schema, store: str
) -> list[str]:
    """Drop the empty tables of another schema; gives the names of the collections."""
    if found is None or found.schema == schema.fingerprint():
        return []
    former = _read_description(connection, found)
    return drop_leftover_tables(connection, found.collections, former, schema, store)


def _refuse_extra_collections(
    connection: Connection,
    found: Revision | None,
    wanted: Revision,
    store: str,
    options: MigrationOptions,
) -> None:
    """A database with more collections is left alone, unless they may be dropped."""
    if found is None or (
        options.drop and _read_description(connection, found) is not None
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


def _upgrade_core(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "pend_storage:migrations")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = REVISION_TABLE
    with _ALEMBIC:
        command.upgrade(config, "head")


def _write_meta(connection: Connection, name: str, value: dict[str, Any]) -> None:
    parameters: dict[str, Any] = {"name": name, "value": dump_json(value).decode()}
    connection.execute(
        text(
            "insert into store_meta (name, value) values (:name, cast(:value as jsonb))"
            " on conflict (name) do update set value = excluded.value"
            " where store_meta.value <> excluded.value"
        ),
        parameters,
    )
