"""Recovery methods: the part of the store's contract that backups and restores need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from typing_extensions import override

from pend_storage._model.snapshots import (
    KeyChange,
    SnapshotReader,
    StoredChange,
    StoredRow,
)
from pend_storage._model.storable_text import is_key
from pend_storage.events import Progress
from pend_storage.store import Store
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.server_errors import ServerRefusal
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._queries.statements import CollectionStatements
from pend_storage.stores.postgres._recovery import number_reservation, record_history
from pend_storage.stores.postgres._recovery.bulk_load import load_snapshot
from pend_storage.stores.postgres._recovery.log_replay import load_changes
from pend_storage.stores.postgres._recovery.snapshot import open_snapshot
from pend_storage.stores.postgres._writes.commit_retry import retry_exclusive

__all__ = ["RecoveryMethods"]

_RESTORE_POINT: Final = Statement(
    b"select pg_catalog.pg_create_restore_point($1::text)"
)
_NOT_POSSIBLE: Final = frozenset({"42501", "55000"})
"""SQLSTATEs without the privilege, on a standby, and with ``wal_level = minimal``."""


class RecoveryMethods(Store):
    """Snapshots, loading and histories of a PostgreSQL store."""

    _connector: Connector
    _client: DatabaseClient
    _statements: dict[str, CollectionStatements]
    _lock_wait: float
    """Seconds for which the store lock is requested, in all."""

    @override
    @contextmanager
    def snapshot(self) -> Iterator[SnapshotReader]:
        self._client.require_open()
        self.identity()
        with open_snapshot(
            self._connector, self._client, self.schema, wait=self._lock_wait
        ) as reader:
            yield reader

    @override
    def load_snapshot(
        self, rows: Iterable[tuple[str, StoredRow]], *, progress: Progress | None = None
    ) -> int:
        self._client.require_open()
        return load_snapshot(
            self._connector,
            self._client,
            self.schema,
            rows,
            wait=self._lock_wait,
            progress=progress,
        )

    @override
    def load_changes(self, changes: Iterable[StoredChange]) -> int:
        self._client.require_open()
        return load_changes(
            self._connector, self._client, self.schema, changes, wait=self._lock_wait
        )

    @override
    def reserve_numbers(self, above: int) -> None:
        def attempt(connection: LibpqConnection) -> None:
            with connection.transaction():
                connection.execute(statements.LIMIT_LOCK_WAIT)
                connection.execute(statements.LOCK_STORE_EXCLUSIVE)
                number_reservation.reserve_numbers(connection, above)

        def with_retry(connection: LibpqConnection) -> None:
            retry_exclusive(self._client, self._lock_wait, lambda: attempt(connection))

        self._client.execute_write(with_retry, idempotent=True)

    @override
    def record_history(
        self, collection: str, key: str, *, before: int | None = None
    ) -> Iterator[KeyChange]:
        known = self._statements[self.schema[collection].name]
        if not is_key(key):
            return iter(())
        return record_history.record_history(self._client, known, key, before)

    def create_restore_point(self, name: str) -> bool:
        """Mark this moment in the server's write-ahead log, for ``recovery_target_name``.

        Args:
            name: of the point, 63 bytes at most.

        Returns:
            False where the user lacks the privilege, or the server keeps no such log.

        Raises:
            StoreUnavailable: it cannot be reached.
        """

        def attempt(connection: LibpqConnection) -> bool:
            try:
                connection.execute(_RESTORE_POINT, (name.encode(),))
            except ServerRefusal as refusal:
                if refusal.code not in _NOT_POSSIBLE:
                    raise
                return False
            return True

        return self._client.execute_write(attempt, idempotent=True)
