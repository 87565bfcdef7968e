"""Recovery session: a connection outside of the pool, for work that takes long.

A snapshot or a load may take an hour. Neither occupies a connection of the pool, and the
timeouts of single statements do not count for it. A peer that is gone is noticed by the
keepalives of the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pend_storage.errors import SchemaOutOfDate, StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.connection_probe import ensure_numbering
from pend_storage.stores.postgres._client.schema_revision import require_current
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.own_names import EQ
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)

__all__ = ["lift_timeouts", "public_errors", "recovery_session"]

_MAX_SILENCE: Final = 6 * 3600.0
"""Seconds of one statement, such as the building of an index of a very large table."""
_LIFT_TIMEOUTS: Final = Statement(
    (
        "select pg_catalog.set_config(s.name, '0'::text, true) "
        f"from pg_catalog.pg_settings as s where s.name {EQ} any (array["
        "'statement_timeout', 'idle_in_transaction_session_timeout', "
        "'transaction_timeout', 'lock_timeout']::text[])"
    ).encode()
)
"""``transaction_timeout`` exists since PostgreSQL 17."""


@contextmanager
def recovery_session(
    connector: Connector, schema: Schema, *, writing: bool
) -> Iterator[LibpqConnection]:
    """Open a connection to a database that fits the schema, outside of the pool.

    Args:
        connector: opens connections to the database.
        schema: of the store; whole records are needed.
        writing: whether versions will be written.

    Raises:
        SchemaOutOfDate: the database does not fit, or a newer program has added to it.
        ConfigError: the server or its address must be corrected.
        StoreUnavailable: it cannot be reached.
    """
    store = str(connector.address)
    with public_errors(store):
        connection = LibpqConnection(
            connector.open().detach(),
            prepare=connector.pooler is None,
            response_timeout=_MAX_SILENCE,
            schema=connector.schema,
        )
        try:
            found = require_current(connection, schema, store)
            if found.added_by is not None:
                raise SchemaOutOfDate(
                    f"{store}: a newer program ({found.added_by}) has added to the "
                    "schema, so this one cannot copy whole records. Use the newer "
                    "program, or update this one; nothing was changed."
                )
            if writing:
                ensure_numbering(connection, found)
            yield connection
        finally:
            connection.close()


@contextmanager
def public_errors(store: str) -> Iterator[None]:
    """Map what a connection raises to the errors of the library.

    Args:
        store: name of the store in error messages.
    """
    try:
        yield
    except ServerRefusal as refusal:
        raise refusal.public(store) from refusal
    except ConnectionLost as lost:
        raise StoreUnavailable(lost.reason, store=store) from lost


def lift_timeouts(connection: LibpqConnection) -> None:
    """Lift all timeouts of the server for the rest of the transaction."""
    connection.execute(_LIFT_TIMEOUTS)
