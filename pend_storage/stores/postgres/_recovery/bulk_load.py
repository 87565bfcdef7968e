"""Bulk load: fills the empty tables of a store with the rows of a snapshot.

One transaction: indexes and references are dropped, the rows are copied, and all of them
are made again. It ends with everything there and valid, or with nothing changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import Final

import psycopg

from pend_storage._model.records import ChangedRecord
from pend_storage._model.snapshots import StoredRow
from pend_storage.errors import ConfigError, CorruptFile
from pend_storage.events import Progress
from pend_storage.phases import ROLE_META
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.connector import Connector
from pend_storage.stores.postgres._connection.own_names import EQ, OWN
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._recovery.index_rebuild import (
    drop_indexes,
    rebuild_indexes,
)
from pend_storage.stores.postgres._recovery.number_reservation import reserve_numbers
from pend_storage.stores.postgres._recovery.session import (
    lift_timeouts,
    recovery_session,
)
from pend_storage.stores.postgres._schema.tables import own_table
from pend_storage.stores.postgres._writes.bulk_copy import BulkCopier
from pend_storage.stores.postgres._writes.commit_batches import MOST_BYTES
from pend_storage.stores.postgres._writes.commit_retry import retry_exclusive

__all__ = ["load_snapshot"]

_PAGE: Final = 5_000
"""Rows of one COPY."""
_NO_PRIVILEGE: Final = "42501"
_BY_DATA: Final = frozenset({"22", "23"})
"""Classes of SQLSTATE with which the server refuses rows."""
_SOURCE: Final = "the snapshot that is loaded"
_COPY_TOMBSTONES: Final = f"copy {OWN}tombstones (collection, key, version) from stdin"


def load_snapshot(
    connector: Connector,
    client: DatabaseClient,
    schema: Schema,
    rows: Iterable[tuple[str, StoredRow]],
    *,
    wait: float,
    progress: Progress | None = None,
) -> int:
    """Load rows into empty tables; see :meth:`PostgresStore.load_snapshot`.

    Args:
        connector: opens the connection.
        client: describes the holders of locks.
        schema: of the store.
        rows: collection and row of each, grouped by collection.
        wait: seconds for which the tables are requested.
        progress: called with the rows done, and 0: how many there are is not known.
    """
    tables = [*(own_table(spec.name) for spec in schema), f"{OWN}tombstones"]
    with (
        recovery_session(connector, schema, writing=True) as connection,
        _alone(connection, client, tables, wait),
    ):
        _require_empty(connection, tables, client.name)
        with _owner_only(client.name):
            dropped = drop_indexes(connection, tables)
        loader = _Loader(connection, schema, progress)
        with _corrupt_rows():
            done = loader.load(rows)
            rebuild_indexes(connection, tables, dropped)
        reserve_numbers(connection, loader.top)
    return done


@contextmanager
def _alone(
    connection: LibpqConnection,
    client: DatabaseClient,
    tables: Sequence[str],
    wait: float,
) -> Iterator[None]:
    """Run the block in one transaction, with the tables locked for all others."""
    locked = f"lock table {', '.join(tables)}, {OWN}changes in access exclusive mode"

    def enter() -> None:
        connection.execute_text("begin isolation level read committed")
        try:
            connection.execute(statements.LIMIT_LOCK_WAIT)
            connection.execute(statements.LOCK_STORE_EXCLUSIVE)
            with _owner_only(client.name):
                connection.execute_text(locked)
        except BaseException:
            with suppress(Exception):
                connection.execute_text("rollback")
            raise

    retry_exclusive(client, wait, enter)
    try:
        lift_timeouts(connection)
        yield
    except BaseException:
        with suppress(Exception):
            connection.execute_text("rollback")
        raise
    connection.execute_text("commit")


def _require_empty(
    connection: LibpqConnection, tables: Sequence[str], store: str
) -> None:
    filled = " or ".join(
        f"exists (select from {table})" for table in [*tables, f"{OWN}changes"]
    )
    found = connection.execute(
        Statement(
            f"select {filled}, exists (select from {OWN}store_meta as m "
            f"where m.name {EQ} '{ROLE_META}'::text)".encode()
        )
    )
    for column, what in (
        (0, "has rows, tombstones or a change log"),
        (1, "has a role"),
    ):
        if found.get_value(0, column) == b"t":
            raise ConfigError(
                f"{store} {what}; a snapshot is loaded into an empty store only. Name "
                "a new database, and migrate it; nothing was changed."
            )


@contextmanager
def _owner_only(store: str) -> Iterator[None]:
    """Explain that only the owner of the tables may drop their indexes."""
    try:
        yield
    except ServerRefusal as refusal:
        if refusal.code != _NO_PRIVILEGE:
            raise
        raise ConfigError(
            f"{store}: loading drops the indexes of the tables and makes them again, "
            f"and this user may not ({refusal}). Use the URL of the role that owns the "
            "tables; nothing was changed."
        ) from refusal


@contextmanager
def _corrupt_rows() -> Iterator[None]:
    """Blame what was loaded where the server refuses values or rows."""
    try:
        yield
    except ServerRefusal as refusal:
        if refusal.code[:2] not in _BY_DATA:
            raise
        raise CorruptFile(
            f"its rows do not fit together, or do not fit the schema: {refusal}",
            path=_SOURCE,
        ) from refusal


class _Loader:
    """Copies rows and tombstones, page by page."""

    def __init__(
        self, connection: LibpqConnection, schema: Schema, progress: Progress | None
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._copiers = {spec.name: BulkCopier(spec) for spec in schema}
        self._progress = progress
        self._tombstones: list[tuple[str, str, int]] = []
        self._done = 0
        self.top = 0
        """Highest version of all."""

    def load(self, rows: Iterable[tuple[str, StoredRow]]) -> int:
        """Copy all rows; returns their number, tombstones included."""
        items = iter(rows)
        following = next(items, None)
        while following is not None:
            spec = self._schema[following[0]]
            page, following = self._page(spec, chain((following,), items))
            if page:
                self._copiers[spec.name].copy_page(self._connection, page)
            if len(self._tombstones) >= _PAGE:
                self._copy_tombstones()
            if self._progress is not None:
                self._progress(self._done, 0)
        self._copy_tombstones()
        return self._done

    def _page(
        self, spec: CollectionSpec, items: Iterator[tuple[str, StoredRow]]
    ) -> tuple[list[ChangedRecord], tuple[str, StoredRow] | None]:
        """Read rows of one collection; returns them, and the row behind them."""
        page: list[ChangedRecord] = []
        graves: list[tuple[str, str, int]] = []
        name, decode, key_of, size = spec.name, spec.codec.decode, spec.key_of, 0
        top, item = self.top, None
        for item in islice(items, _PAGE):
            collection, (key, version, body) = item
            if collection != name or size > MOST_BYTES:
                break
            top = max(top, version)
            if body is None:
                graves.append((name, key, version))
                continue
            record = decode(body)
            if key_of(record) != key:
                raise CorruptFile(
                    f"a row of {name} holds the record of another key", path=_SOURCE
                )
            size += len(body)
            page.append(ChangedRecord(name, key, version, record))
        else:
            item = next(items, None)
        self.top = top
        self._done += len(page) + len(graves)
        self._tombstones += graves
        return page, item

    def _copy_tombstones(self) -> None:
        if not self._tombstones:
            return
        rows, self._tombstones = self._tombstones, []
        connection = self._connection
        try:
            with connection.driver_connection.cursor().copy(
                connection.with_names(_COPY_TOMBSTONES).encode()
            ) as copy:
                for row in rows:
                    copy.write_row(row)
        except psycopg.OperationalError as error:
            raise ConnectionLost(str(error).strip(), sent=True) from error
        except psycopg.Error as error:
            code = error.sqlstate or "XX000"
            raise ServerRefusal(code, str(error).splitlines()[0]) from error
