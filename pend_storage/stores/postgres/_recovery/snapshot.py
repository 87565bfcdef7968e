"""Snapshot: all rows of a database at one exact position of its change log.

A transaction takes its snapshot while it holds the store lock alone, so no commit is
under way: each is wholly in the snapshot or wholly after it. The lock belongs to a
savepoint. Rolling back to that releases it, and the snapshot of the transaction remains.
So writers wait for two round trips, and one connection is enough, behind a pooler too.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from typing_extensions import override

from pend_storage._model.records import JSON
from pend_storage._model.snapshots import LogPoint, SnapshotReader, StoredRow
from pend_storage.codec import load_json
from pend_storage.errors import ConfigError, LockTimeout, StoreUnavailable
from pend_storage.phases import IDENTITY_META, ROLE_META, RoleState
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._client.lock_waits import lock_holders
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.own_names import EQ, OWN, TIMES
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)
from pend_storage.stores.postgres._functions.definitions import EXCLUSIVE_LOCK_TIMEOUT
from pend_storage.stores.postgres._functions.sequence_numbers import PRUNED
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._recovery.session import (
    lift_timeouts,
    recovery_session,
)
from pend_storage.stores.postgres._schema.record_json import record_json
from pend_storage.stores.postgres._schema.tables import (
    STORE_LOCK,
    key_column,
    own_table,
    quoted,
)
from pend_storage.stores.postgres._writes.commit_retry import (
    LockWaitTimeout,
    retry_exclusive,
)

__all__ = ["open_snapshot"]

_NO_PRIVILEGE: Final = "42501"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK: Final = Statement(
    b"select (extract(epoch from pg_catalog.clock_timestamp()) "
    + TIMES.encode()
    + b" 1000000::numeric)::bigint"
)
_LOG_END: Final = Statement(
    f"select c.sequence, c.epoch, ({PRUNED}) from (select) as one left join lateral "
    f"(select e.sequence, e.epoch from {OWN}changes as e order by e.sequence desc "
    "limit 1::bigint) as c on true".encode()
)
_META: Final = Statement(f"select m.name, m.value from {OWN}store_meta as m".encode())
_HEADER: Final = struct.Struct("!11sii")
_FIELDS: Final = struct.Struct("!hi")
_VERSION: Final = struct.Struct("!iqi")
_TRAILER: Final = -1


@contextmanager
def open_snapshot(
    connector: Connector, client: DatabaseClient, schema: Schema, *, wait: float
) -> Iterator[SnapshotReader]:
    """Open a snapshot; see :meth:`PostgresStore.snapshot`.

    Args:
        connector: opens the connection of the snapshot.
        client: describes the holders of the lock.
        schema: of the store, whose identity has been made.
        wait: seconds for which the store lock is requested.
    """
    with recovery_session(connector, schema, writing=False) as connection:
        at = _begin(connection, client, wait)
        try:
            lift_timeouts(connection)
            yield _Reader(connection, schema, client.name, at)
        finally:
            with suppress(ServerRefusal, ConnectionLost):
                connection.execute_text("rollback")


def _begin(
    connection: LibpqConnection, client: DatabaseClient, wait: float
) -> datetime:
    """Begin the transaction at an exact position; return the server's time of it."""
    try:
        return retry_exclusive(client, wait, lambda: _take_snapshot(connection))
    except LockWaitTimeout as error:
        holders = ", ".join(map(str, lock_holders(client)))
        raise LockTimeout(
            path=f"the store lock of {client.name}",
            seconds=wait,
            holder=holders or "another session",
        ) from error
    except ServerRefusal as refusal:
        if refusal.code != _NO_PRIVILEGE:
            raise
        table = f"{connection.schema}.{STORE_LOCK}"
        raise ConfigError(
            f"{client.name}: a snapshot holds up commits for an instant, and this user "
            f"may not ({refusal}). Use the URL of the application's role, or run: grant "
            f"select, update on {table} to this user; nothing was changed."
        ) from refusal


def _take_snapshot(connection: LibpqConnection) -> datetime:
    connection.execute_text("begin isolation level repeatable read, read only")
    try:
        # No query before the lock: the first one takes the snapshot.
        connection.execute_text("savepoint alone")
        connection.execute_text(f"set local lock_timeout = '{EXCLUSIVE_LOCK_TIMEOUT}'")
        connection.execute(statements.LOCK_STORE_EXCLUSIVE)
        micros = connection.execute(_CLOCK).get_value(0, 0)
        connection.execute_text("rollback to savepoint alone")
    except BaseException:
        with suppress(Exception):
            connection.execute_text("rollback")
        raise
    return _EPOCH + timedelta(microseconds=int(micros or 0))


class _Reader(SnapshotReader):
    """Reader of the snapshot that a connection holds."""

    def __init__(
        self, connection: LibpqConnection, schema: Schema, store: str, at: datetime
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._store = store
        self._is_reading = False
        self.at = at
        self.meta: Mapping[str, JSON] = dict(_meta(connection))
        epoch = RoleState.from_meta(self.meta.get(ROLE_META)).epoch
        self.point = LogPoint(
            identity=str(self.meta.get(IDENTITY_META, "")),
            epoch=epoch,
            sequence=self._sequence(epoch),
        )

    def _sequence(self, epoch: int) -> int:
        """Highest number in the snapshot: of the log, of what was pruned, of a row.

        Rows that were applied have the numbers of another log. A store that has
        committed in its present epoch has none above its own.
        """
        result = self._connection.execute(_LOG_END)
        end, at, pruned = (int(result.get_value(0, n) or 0) for n in range(3))
        if end and epoch and at == epoch:
            return end
        tables = [f"{OWN}tombstones", *(own_table(spec.name) for spec in self._schema)]
        highest = ", ".join(
            f"(select pg_catalog.max(t.version) from {table} as t)" for table in tables
        )
        query = Statement(f"select greatest({highest})".encode())
        version = self._connection.execute(query).get_value(0, 0)
        return max(end, pruned, int(version or 0))

    @override
    def rows(self, collection: str) -> Iterator[StoredRow]:
        spec = self._schema[collection]
        key = f"t.{quoted(key_column(spec))}"
        live = (
            f"select {key}, t.version, ({record_json(spec, 't')})::text "
            f"from {own_table(spec.name)} as t"
        )
        dead = (
            f"select d.key, d.version, null::text from {OWN}tombstones as d "
            f"where d.collection {EQ} '{spec.name}'::text"
        )
        return self._rows(spec.codec, live, dead)

    def _rows(self, codec: Any, *queries: str) -> Iterator[StoredRow]:
        decode, encode = codec.decode, codec.encode
        for query in queries:
            for key, version, body in self._copied(query):
                # The server spaces its JSON, and pads times.
                text = None if body is None else encode(decode(body))
                yield StoredRow(key, version, text)

    def _copied(self, query: str) -> Generator[tuple[str, int, bytes | None]]:
        """Stream the rows of a query with the columns key, version and body.

        Abandoned before its end, it leaves the snapshot as it was.
        """
        if self._is_reading:
            raise RuntimeError("finish one iteration over rows before the next one")
        connection, self._is_reading = self._connection, True
        copy = connection.with_names(f"copy ({query}) to stdout (format binary)")
        try:
            connection.execute_text("savepoint rows")
            is_whole = False
            try:
                with connection.driver_connection.cursor().copy(copy.encode()) as data:
                    yield from _parse(data)
                is_whole = True
            finally:
                if not is_whole:
                    with suppress(ServerRefusal, ConnectionLost):
                        connection.execute_text("rollback to savepoint rows")
            connection.execute_text("release savepoint rows")
        except psycopg.Error as error:
            reason = str(error).strip() or "the connection broke"
            raise StoreUnavailable(reason, store=self._store) from error
        except (ServerRefusal, ConnectionLost) as error:
            raise StoreUnavailable(str(error), store=self._store) from error
        finally:
            self._is_reading = False


def _meta(connection: LibpqConnection) -> Iterator[tuple[str, JSON]]:
    result = connection.execute(_META)
    for row in range(result.ntuples):
        name, value = result.get_value(row, 0), result.get_value(row, 1)
        yield (name or b"").decode(), load_json(value or b"null")


def _parse(copy: psycopg.Copy) -> Iterator[tuple[str, int, bytes | None]]:
    """Decode binary COPY data of three columns: text, bigint, text or null.

    A message of the server has one row; the first one begins with the header.
    https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
    """
    read, start = copy.read, _HEADER.size
    fields, numbers = _FIELDS.unpack_from, _VERSION.unpack_from
    while data := read():
        count = int.from_bytes(data[start : start + 2], signed=True)
        if count == _TRAILER:
            start = 0
            continue
        _, length = fields(data, start)
        end = start + _FIELDS.size + length
        key = bytes(data[start + _FIELDS.size : end]).decode()
        _, version, length = numbers(data, end)
        body = None if length < 0 else bytes(data[end + _VERSION.size :])
        start = 0
        yield key, version, body
