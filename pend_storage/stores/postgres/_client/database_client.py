"""Database client: executes statements on checked connections, with retries.

The only module that maps what a connection raises to the errors of the library.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from psycopg.pq.abc import PGresult

from pend_storage.errors import PendStorageError, SchemaOutOfDate, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.connection_probe import (
    ensure_numbering,
    probe_connection,
)
from pend_storage.stores.postgres._client.failover_detector import FailoverDetector
from pend_storage.stores.postgres._client.schema_revision import require_current
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.pool import Pool
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)
from pend_storage.stores.postgres._connection.server_facts import ProbeResult
from pend_storage.stores.postgres._connection.wire_format import Value
from pend_storage.stores.postgres._queries import statements

__all__ = ["DatabaseClient"]

T = TypeVar("T")

_ATTEMPTS: Final = 3
_FRESH: Final = 1.0
"""Seconds for which the facts of a new connection count as current."""


class _LostWhileVerifying(ConnectionLost):
    """The connection broke during its probe, before it was used."""


class DatabaseClient:
    """Client of a database that has been migrated to a schema. Thread-safe."""

    def __init__(
        self, schema: Schema, connector: Connector, pool: Pool, hook: Hook
    ) -> None:
        self.name = str(connector.address)
        """Name of the store in error messages."""
        self._schema = schema
        self._pool = pool
        self._failover_detector = FailoverDetector(self.name, pool, hook)
        self._hook = hook
        self._weakness = connector.address.weakness
        """In what the connection is weaker than a verified one, until it was reported."""
        self._added_by: str | None = None
        """Module of a newer program that has extended the schema."""

    @property
    def generation(self) -> int:
        """Number of times that a connection led to another server than those before."""
        return self._failover_detector.generation

    def fetch(self, statement: Statement, values: Sequence[Value] = ()) -> PGresult:
        """Execute a read-only statement; retried once, on a new connection if needed.

        Raises:
            StoreUnavailable: no answer to the second attempt either.
        """
        return self._fetch(lambda connection: connection.execute(statement, values))

    def _fetch(self, read: Callable[[LibpqConnection], T]) -> T:
        try:
            return self._execute_once(read)
        except ServerRefusal as refusal:
            if not refusal.is_transient:
                raise refusal.public(self.name) from refusal
        except ConnectionLost:
            pass  # the server may have been restarted
        try:
            return self._execute_once(read)
        except ServerRefusal as refusal:
            raise refusal.public(self.name) from refusal
        except ConnectionLost as lost:
            raise StoreUnavailable(lost.reason, store=self.name) from lost

    def incarnation(self) -> str:
        """Probe the identity of the database behind the address now.

        Raises:
            StoreUnavailable: it cannot be reached.
        """

        def read(connection: LibpqConnection) -> str:
            facts = probe_connection(connection).facts
            self._failover_detector.observe(connection, facts)
            return facts.incarnation

        return self._fetch(read)

    def execute_write(
        self,
        attempt: Callable[[LibpqConnection], T],
        *,
        idempotent: bool,
        explain: Callable[[], None] | None = None,
    ) -> T:
        """Execute a unit of work that writes, with retries.

        Args:
            attempt: the work, as a whole or not at all.
            idempotent: whether the work may be repeated where its outcome is unknown.
            explain: raises the violated rule after a constraint violation; if it
                returns, no rule is violated any more, and the work is retried.

        Raises:
            StoreUnavailable: ``outcome_known`` is False where the work may have been
                done.
        """
        left = _ATTEMPTS
        while True:
            left -= 1
            try:
                return self._execute_once(attempt, writing=True)
            except ServerRefusal as refusal:
                if refusal.is_violation and explain is not None:
                    explain()
                if not left or not (refusal.is_transient or refusal.is_violation):
                    raise refusal.public(self.name) from refusal
            except ConnectionLost as lost:
                if not left or (lost.sent and not idempotent):
                    raise self.lost_error(lost) from lost

    def execute_once(self, statement: Statement, values: Sequence[Value]) -> PGresult:
        """Execute a commit once; the caller maps its errors.

        Raises:
            ServerRefusal: the server answered with an error.
            ConnectionLost: it did not answer.
        """
        return self._execute_once(
            lambda connection: connection.execute(statement, values), writing=True
        )

    def _execute_once(
        self, attempt: Callable[[LibpqConnection], T], *, writing: bool = False
    ) -> T:
        """Execute once; what is bound to the session, once more on a new one."""
        connection = self.acquire(writing=writing)
        try:
            return attempt(connection)
        except ServerRefusal as refusal:
            if not refusal.is_session_bound:
                raise
            connection.is_retired = True
            # A server that was just found read-only needs no second check.
            is_fresh = time.monotonic() - connection.opened_at < _FRESH
            if (
                is_fresh
                and connection.facts is not None
                and connection.facts.is_read_only
            ):
                raise
        finally:
            self._pool.release(connection)
        self._pool.invalidate()  # the others lead to the same server, or hold the same plans
        connection = self.acquire(writing=writing)
        try:
            return attempt(connection)
        except ServerRefusal as refusal:
            connection.is_retired = refusal.is_session_bound
            raise
        finally:
            self._pool.release(connection)

    def lost_error(self, lost: ConnectionLost) -> StoreUnavailable:
        """Public error for a connection that broke during a write."""
        return StoreUnavailable(
            lost.reason, store=self.name, outcome_known=not lost.sent
        )

    def acquire(self, *, writing: bool = False) -> LibpqConnection:
        """Acquire a connection to a database that fits the schema; release it.

        Args:
            writing: whether numbers will be assigned on it. A read changes nothing.

        Raises:
            SchemaOutOfDate: the database does not fit.
            ConfigError: the server or its address must be corrected.
            StoreUnavailable: it cannot be reached.
        """
        try:
            try:
                return self._verified(self._pool.acquire(), writing=writing)
            except _LostWhileVerifying:
                # The probe and the notes are idempotent.
                return self._verified(self._pool.acquire(), writing=writing)
        except ConnectionLost as lost:
            raise StoreUnavailable(lost.reason, store=self.name) from lost

    def _verified(
        self, connection: LibpqConnection, *, writing: bool
    ) -> LibpqConnection:
        """Verify once that a connection leads to the right database."""
        try:
            if connection.facts is None:
                self._check(connection)
            if writing and connection.probe_result is not None:
                self._ensure_numbering(connection, connection.probe_result)
        except ConnectionLost as lost:
            raise _LostWhileVerifying(lost.reason, sent=False) from lost
        return connection

    def invalidate(self) -> None:
        """Verify the database's revision again before its next use."""
        self._pool.invalidate()

    def record_incarnation(self) -> None:
        """Store the server's incarnation in a database that was just migrated.

        Later reads then have nothing to store.
        """
        self.invalidate()
        with contextlib.suppress(PendStorageError):  # raised by its next use
            self._pool.release(self.acquire(writing=True))

    def require_primary(self, epoch: int | None) -> None:
        """Check the role where a read has nothing to fetch.

        Raises:
            StaleEpoch: the store is not primary at the epoch.
            StoreUnavailable: the store is closed, or the server cannot be reached.
        """
        if epoch is None:
            self.require_open()
        else:
            self.fetch(statements.GUARD, (b"%d" % epoch,))

    def require_open(self) -> None:
        """Refuse to work after :meth:`close`.

        Raises:
            StoreUnavailable: the store is closed.
        """
        if self._pool.is_closed:
            raise StoreUnavailable("the store is closed", store=self.name)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _check(self, connection: LibpqConnection) -> None:
        with self._discard_on_error(connection):
            found = require_current(connection, self._schema, self.name)
            self._failover_detector.observe(connection, found.facts)
            connection.probe_result = found
            before, self._added_by = self._added_by, found.added_by
        self._report_weakness()
        if found.added_by is not None and before is None:
            self._hook(
                Event(
                    "schema-behind",
                    f"{self.name}: a newer program ({found.added_by}) has added to the "
                    "schema. This program goes on reading and writing, and keeps what it "
                    "does not know; the change log and following are left to programs "
                    "with the newer schema",
                    logging.WARNING,
                )
            )

    def _report_weakness(self) -> None:
        weakness, self._weakness = self._weakness, None
        if weakness is not None:
            self._hook(
                Event(
                    "connection-unverified",
                    f"{self.name} is on another machine, and {weakness}. Set "
                    'postgres.tls.mode (sslmode in the URL) to "verify-full", or leave it '
                    "out",
                    logging.WARNING,
                    {"store": self.name, "weakness": weakness},
                )
            )

    def require_full_schema(self) -> None:
        """Refuse what a program with an older schema cannot do without a loss.

        Call it with a connection acquired: acquiring is what finds it out.

        Raises:
            SchemaOutOfDate: a newer program has extended the schema.
        """
        if self._added_by is not None:
            raise SchemaOutOfDate(
                f"{self.name}: a newer program ({self._added_by}) has added to the "
                "schema, so this one cannot pass on whole records. Leave that to the "
                "newer program, or update this one; nothing was changed."
            )

    def _ensure_numbering(
        self, connection: LibpqConnection, found: ProbeResult
    ) -> None:
        with self._discard_on_error(connection):
            ensure_numbering(connection, found)
            connection.probe_result = None

    @contextlib.contextmanager
    def _discard_on_error(self, connection: LibpqConnection) -> Iterator[None]:
        """Close a connection whose verification fails."""
        try:
            yield
        except ServerRefusal as refusal:
            self._discard(connection)
            raise refusal.public(self.name) from refusal
        except BaseException:
            self._discard(connection)
            raise

    def _discard(self, connection: LibpqConnection) -> None:
        """Close an unverified connection: the next one is probed anew."""
        connection.is_retired = True
        self._pool.release(connection)
