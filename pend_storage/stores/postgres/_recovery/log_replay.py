"""Log replay: applies many entries of a change log at once.

Of each key only the newest change of a chunk is applied, by the function that applies
the changes of another store; so the result is the same. A chunk is one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pend_storage._model.snapshots import StoredChange, StoredRecord
from pend_storage.errors import ConfigError, CorruptFile
from pend_storage.phases import ROLE_META
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.server_errors import (
    ServerRefusal,
    raise_stale,
)
from pend_storage.stores.postgres._connection.wire_format import (
    bigint_array,
    flag,
    json_array,
    text_array,
)
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._recovery.session import recovery_session
from pend_storage.stores.postgres._writes.commit_batches import MOST_BYTES
from pend_storage.stores.postgres._writes.commit_retry import retry_exclusive

__all__ = ["load_changes"]

_CHUNK: Final = 100_000
"""Keys of one transaction. The more there are, the more entries are not applied at all."""
_CHUNK_BYTES: Final = 4 * MOST_BYTES
_PART: Final = 10_000
"""Keys of one call."""


def load_changes(
    connector: Connector,
    client: DatabaseClient,
    schema: Schema,
    changes: Iterable[StoredChange],
    *,
    wait: float,
) -> int:
    """Apply entries of a change log; see :meth:`PostgresStore.load_changes`.

    A writer may get a lower number than the commit whose record it refers to, so a
    chunk may end between the two. Then it goes on with the next one.

    Args:
        connector: opens the connection.
        client: describes the holders of locks.
        schema: of the store.
        changes: in the order of the log.
        wait: seconds for which the store lock is requested, for each chunk.
    """
    entries = 0
    with recovery_session(connector, schema, writing=True) as connection:
        chunk = _Chunk(schema)
        refused: ServerRefusal | None = None
        for change in changes:
            entries += 1
            chunk.add(change)
            if chunk.is_full:
                refused = _try_apply(connection, client, chunk, wait)
                if refused is None:
                    chunk = _Chunk(schema)
                else:
                    chunk.extend()
        if chunk.newest:
            refused = _try_apply(connection, client, chunk, wait)
            if refused is not None:
                raise ConfigError(
                    f"{client.name}: with the last entry of the log the records break a "
                    f"rule: {refused}. The commit that completes them has a higher "
                    "number: choose a later target."
                ) from refused
    return entries


class _Chunk:
    """Newest change of each key, of some entries of the log."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.newest: dict[tuple[str, str], StoredRecord] = {}
        self._bytes = 0
        self._most = _CHUNK
        self._most_bytes = _CHUNK_BYTES

    def add(self, change: StoredChange) -> None:
        """Add an entry."""
        newest, schema = self.newest, self._schema
        for record in change.records:
            place = (schema[record.collection].name, record.key)
            known = newest.get(place)
            if known is None or record.version > known.version:
                newest[place] = record
                gone = b"" if known is None else known.body or b""
                self._bytes += len(record.body or b"") - len(gone)

    @property
    def is_full(self) -> bool:
        """True if it should be applied."""
        return len(self.newest) >= self._most or self._bytes >= self._most_bytes

    def extend(self) -> None:
        """Let it take as much again."""
        self._most, self._most_bytes = 2 * self._most, 2 * self._most_bytes

    def parts(self) -> Iterator[list[tuple[str, str, int, bytes | None]]]:
        """Divide it into calls of bounded size, with whole records of this schema."""
        part: list[tuple[str, str, int, bytes | None]] = []
        size = 0
        for (collection, key), record in self.newest.items():
            body = record.body
            if body is not None:  # an entry of an older schema lacks members
                spec = self._schema[collection]
                whole = spec.codec.decode(body)
                if spec.key_of(whole) != key:
                    raise CorruptFile(
                        f"an entry for {collection} holds the record of another key",
                        path="the change log that is loaded",
                    )
                body = spec.codec.encode(whole)
                size += len(body)
            part.append((collection, key, record.version, body))
            if size >= MOST_BYTES or len(part) >= _PART:
                yield part
                part, size = [], 0
        if part:
            yield part


def _try_apply(
    connection: LibpqConnection, client: DatabaseClient, chunk: _Chunk, wait: float
) -> ServerRefusal | None:
    """Apply a chunk, or return why a unique value or a reference refuses it."""
    try:
        retry_exclusive(client, wait, lambda: _apply(connection, client.name, chunk))
    except ServerRefusal as refusal:
        if not refusal.is_violation:
            raise
        return refusal
    return None


def _apply(connection: LibpqConnection, store: str, chunk: _Chunk) -> None:
    with connection.transaction():
        connection.execute_text("set local statement_timeout = 0")
        connection.execute(statements.LIMIT_LOCK_WAIT)
        connection.execute(statements.LOCK_STORE_EXCLUSIVE)
        if connection.execute(statements.META, (ROLE_META.encode(),)).ntuples:
            raise ConfigError(
                f"{store} has a role; a change log is loaded into a store that stands "
                "alone. Name a new database, and restore into that; nothing was changed."
            )
        for part in chunk.parts():
            collections, keys, versions, bodies = zip(*part, strict=True)
            values = (
                None,
                text_array(collections),
                text_array(keys),
                bigint_array(versions),
                json_array(bodies),
                b"%d" % max(versions),
                None,
                None,
                None,
                flag(True),  # noqa: FBT003 - the store lock is held
            )
            answer = connection.execute(statements.APPLY, values).get_value(0, 0)
            raise_stale((answer or b"").decode(), store)
