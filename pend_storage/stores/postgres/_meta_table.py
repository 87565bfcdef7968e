"""Meta table: named JSON values with compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pend_storage._model.diff import equal
from pend_storage._model.records import JSON
from pend_storage.codec import dump_json, load_json
from pend_storage.phases import ROLE_META
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.wire_format import Value
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._writes.commit_retry import retry_exclusive

__all__ = ["MetaTable"]


class MetaTable:
    """Named values of one store: role and epoch, marks, notes of the migration."""

    def __init__(self, client: DatabaseClient, *, retry_timeout: float) -> None:
        """Configure the table.

        Args:
            client: executes the statements.
            retry_timeout: seconds for which the store lock is requested, in all.
        """
        self._client: Final = client
        self._retry_timeout: Final = retry_timeout

    def get(self, name: str) -> JSON:
        """Value of an entry; None if there is none."""
        result = self._client.fetch(statements.META, (name.encode(),))
        value = result.get_value(0, 0) if result.ntuples else None
        return None if value is None else load_json(value)

    def compare_and_set(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        """Set an entry if it and the given others have the expected values.

        Args:
            name: of the entry.
            expected: its present value; None: absent.
            value: its new value; None: deleted.
            given: values of other entries, checked in the same transaction.

        Raises:
            StoreUnavailable: ``outcome_known`` is False where it may have been set.
        """
        if expected is None and value is None and not given:
            return self.get(name) is None

        def attempt(connection: LibpqConnection) -> bool:
            with connection.transaction():
                if name == ROLE_META:
                    connection.execute(statements.LIMIT_LOCK_WAIT)
                    connection.execute(statements.LOCK_STORE_EXCLUSIVE)
                others = (given or {}).items()
                if not all(_has_value(connection, *item) for item in others):
                    return False
                if expected is None and value is None:
                    return _has_value(connection, name, None)
                result = connection.execute(*_update(name, expected, value))
                return bool(result.command_tuples)

        def with_retry(connection: LibpqConnection) -> bool:
            return retry_exclusive(
                self._client, self._retry_timeout, lambda: attempt(connection)
            )

        return self._client.execute_write(with_retry, idempotent=False)


def _has_value(connection: LibpqConnection, name: str, value: JSON) -> bool:
    """Return whether an entry has a value; its row is locked until the transaction ends."""
    result = connection.execute(statements.META_FOR_SHARE, (name.encode(),))
    found = result.get_value(0, 0) if result.ntuples else None
    return equal(None if found is None else load_json(found), value)


def _update(
    name: str, expected: JSON, value: JSON
) -> tuple[Statement, tuple[Value, ...]]:
    key = name.encode()
    if expected is None:
        return statements.META_INSERT, (key, dump_json(value))
    if value is None:
        return statements.META_DELETE, (key, dump_json(expected))
    return statements.META_UPDATE, (key, dump_json(value), dump_json(expected))
