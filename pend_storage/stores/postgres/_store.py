"""PostgreSQL store: implements the store contract on one database."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Literal

from typing_extensions import override

from pend_storage._layouts.layout import Layout, one_each
from pend_storage._model.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Outcome,
    Pending,
    Row,
)
from pend_storage._model.storable_text import is_key
from pend_storage._schema_changes import Evolution
from pend_storage._whole_files.exclusive_use import IsHeld
from pend_storage.events import Hook, guarded, log_event
from pend_storage.instrumentation import Instruments
from pend_storage.instrumentation._timing import counting, hook_of, timing
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema
from pend_storage.stores.postgres._change_log import ChangeLog
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.connector import Address, Connector
from pend_storage.stores.postgres._connection.own_names import DEFAULT_SCHEMA
from pend_storage.stores.postgres._connection.pool import Pool
from pend_storage.stores.postgres._connection.wire_format import number, text_array
from pend_storage.stores.postgres._database_report import (
    DatabaseReport,
    inspect_database,
)
from pend_storage.stores.postgres._meta_table import MetaTable
from pend_storage.stores.postgres._named_locks import NamedLocks
from pend_storage.stores.postgres._queries.rows import rows_of, tombstone_rows_of
from pend_storage.stores.postgres._queries.statements import CollectionStatements
from pend_storage.stores.postgres._query_reader import QueryReader
from pend_storage.stores.postgres._recovery.methods import RecoveryMethods
from pend_storage.stores.postgres._writes.applier import Applier
from pend_storage.stores.postgres._writes.committer import Committer
from pend_storage.stores.postgres._writes.violations import (
    as_operations,
    raise_violation,
)

__all__ = ["PostgresStore"]


class PostgresStore(RecoveryMethods):
    """Store in a PostgreSQL database, version 15 or newer."""

    _is_read_only: ClassVar[bool] = False
    """Whether the server refuses every write, and no function of the library is called."""

    def __init__(
        self,
        schema: Schema,
        url: str,
        *,
        layouts: Sequence[Layout] = (),
        pool_size: int = 20,
        pool_timeout: float = 10.0,
        connect_timeout: float = 2.0,
        idle_timeout: float = 30.0,
        connection_max_age: float | None = 1800.0,
        statement_timeout: float = 30.0,
        pooler: Literal["transaction"] | None = None,
        application_name: str = "pend_storage",
        database_schema: str = DEFAULT_SCHEMA,
        hook: Hook = log_event,
        instruments: Instruments | None = None,
    ) -> None:
        """Configure the store; connects to nothing before it is needed.

        Args:
            schema: the collections; :meth:`migrate` creates their tables.
            url: ``postgresql://user:password@host:port/database``, with any setting of
                libpq as a parameter (``sslmode``, ``sslrootcert``, ...).
            layouts: the legacy files that :meth:`legacy` can show.
            pool_size: maximum number of connections.
            pool_timeout: seconds to wait for a connection where all are in use.
            connect_timeout: seconds to wait for a new connection.
            idle_timeout: seconds after which an unused connection is closed.
            connection_max_age: seconds after which a connection is not reused, less up
                to a tenth; None: never. Behind an address with several servers,
                connections move to the present one in that time without any error.
            statement_timeout: seconds that one statement may take.
            pooler: ``"transaction"`` behind PgBouncer in transaction mode; migrations
                need a URL that goes straight to the server.
            application_name: shown in ``pg_stat_activity``.
            database_schema: schema of the database with the tables and functions;
                :meth:`migrate` creates it. ``search_path`` is not consulted.
            hook: receives events for the operator.
            instruments: get the duration of each call, and the events; None: no clock is
                read for them.

        Raises:
            ConfigError: the URL cannot be parsed, the schema does not fit, or
                ``database_schema`` is not a plain name.
        """
        self.schema = schema
        self.layouts: tuple[Layout, ...] = one_each(layouts)
        for layout in self.layouts:
            layout.require(schema)
        self.address: Address = Address.parse(url)
        self._connector = Connector(
            address=self.address,
            connect_timeout=connect_timeout,
            statement_timeout=statement_timeout,
            pooler=pooler,
            application_name=application_name,
            schema=database_schema,
            read_only=self._is_read_only,
        )
        self._hook = hook_of(guarded(hook), instruments)
        self._timing = timing(instruments, "postgres", self._hook)
        pool = Pool(
            self._connector.open,
            size=pool_size,
            wait=pool_timeout,
            idle_timeout=idle_timeout,
            response_timeout=self._connector.response_timeout,
            max_age=connection_max_age,
        )
        self._client = DatabaseClient(schema, self._connector, pool, self._hook)
        self._locks = NamedLocks(
            self.name, self._connector.open, pooled=pooler is not None
        )
        self._lock_wait = statement_timeout
        self._assemble(pool_size)

    def _assemble(self, pool_size: int) -> None:
        """Make the parts that work through the client."""
        self._statements = {
            spec.name: CollectionStatements(spec, guards=not self._is_read_only)
            for spec in self.schema
        }
        self._committer = Committer(
            self,
            self._client,
            self._statements,
            size=pool_size,
            retry_timeout=self._lock_wait,
            count=counting(self._timing),
        )
        self._applier = Applier(
            self.schema, self._client, self._statements, retry_timeout=self._lock_wait
        )
        self._change_log = ChangeLog(self.schema, self._client, self._hook)
        self._meta_table = MetaTable(self._client, retry_timeout=self._lock_wait)
        self._query_reader = QueryReader(self._client)
        self._commit_counter = itertools.count(1)
        self._last_commit = 0

    @property
    def name(self) -> str:
        """Name in error messages: the address, without user and password."""
        return str(self.address)

    def migrate(
        self,
        *,
        wait: float = 60.0,
        drop: bool = False,
        drop_empty: bool = False,
        dry_run: bool = False,
    ) -> Evolution:
        """Migrate an empty or older database to the schema; idempotent.

        Any number of processes may do so at once, while others work. Renames and
        conversions of values are declared in the schema
        (:class:`~pend_storage.Evolve`); nothing is deleted without consent. Where
        another session holds a lock that it needs, it requests the lock for a second at
        a time, and lets all others proceed in between.

        Args:
            wait: seconds for which it requests its locks.
            drop: whether what the schema lacks may be deleted.
            drop_empty: whether empty tables of another schema may be dropped.
            dry_run: whether to roll back, and only report the statements.

        Returns:
            What was changed, or would be, with the statements.

        Raises:
            SchemaOutOfDate: the database is newer than the library or the schema, or
                would lose data.
            ConfigError: the user lacks a privilege, the server lacks an extension, or
                the database is not encoded in UTF8.
            StoreUnavailable: it cannot be reached, or a lock was not granted in time;
                the error names the sessions that hold it.
        """
        from pend_storage.stores.postgres._migration.migrate import (  # noqa: PLC0415 - slow
            MigrationOptions,
            migrate,
        )

        options = MigrationOptions(drop=drop, drop_empty=drop_empty, dry_run=dry_run)
        done = migrate(
            self.schema, self._connector, self._hook, wait=wait, options=options
        )
        if not dry_run:
            self._client.record_incarnation()
        return done

    @override
    def incarnation(self) -> str:
        """Identity of the database behind the address at this moment.

        System identifier and timeline of the cluster, object ids of the database and of
        its change log: ``7713733295023466614/1/16384/16402``. It is read over a
        connection. It differs after a failover, a restore and a move; a part that the
        server hides is empty.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        return self._client.incarnation()

    def inspect(self) -> DatabaseReport:
        """Report on the database for operators, migrated or not.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        return inspect_database(self.schema, self._connector)

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        known = self._known(collection)
        wanted = list(keys)
        if not wanted:
            self._client.require_primary(epoch)
            return {}
        if deleted:
            values = (text_array(filter(is_key, wanted)), number(epoch))
            result = self._client.fetch(known.read_deleted, values)
            rows = tombstone_rows_of(known.spec, result)
        elif len(wanted) == 1:
            rows = self._read_one(known, wanted[0], epoch)
        else:
            rows = self._read_many(known, wanted, epoch)
        found = {row.key: row for row in rows}
        if len(wanted) == 1:
            return found
        return {key: found[key] for key in wanted if key in found}

    def _read_one(
        self, known: CollectionStatements, key: str, epoch: int | None
    ) -> list[Row]:
        if not is_key(key):
            self._client.require_primary(epoch)
            return []
        if epoch is None:
            result = self._client.fetch(known.read_one, (key.encode(),))
        else:
            values = (key.encode(), b"%d" % epoch)
            result = self._client.fetch(known.read_one_guarded, values)
        return rows_of(known.spec, result)

    def _read_many(
        self, known: CollectionStatements, keys: list[str], epoch: int | None
    ) -> list[Row]:
        array = text_array(filter(is_key, keys))
        if epoch is None:
            return rows_of(known.spec, self._client.fetch(known.read_many, (array,)))
        values = (array, b"%d" % epoch)
        return rows_of(known.spec, self._client.fetch(known.read_many_guarded, values))

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        return self._query_reader.query(self._known(collection), query, epoch)

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        return self._query_reader.count(self._known(collection), where, epoch)

    @override
    def together(
        self,
        queries: Sequence[tuple[str, Query]] = (),
        counts: Sequence[tuple[str, Condition]] = (),
        *,
        epoch: int | None = None,
    ) -> tuple[list[list[Row]], list[int]]:
        asked = [(self._known(name), query) for name, query in queries]
        counted = [(self._known(name), where) for name, where in counts]
        return self._query_reader.together(asked, counted, epoch)

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        known = self._known(collection)
        yield from self._query_reader.scan(known, after, epoch, deleted=deleted)

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        return self._change_log.changes(after)

    @override
    def find_commit(self, token: str) -> Change | None:
        return self._committer.find(token)

    @override
    def pending(self, after: int) -> Pending:
        return self._change_log.pending(after)

    @override
    def prune(self, upto: int) -> None:
        self._change_log.prune(upto)

    @override
    def purge(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> bool:
        return self._change_log.purge(self, collection, keys, tombstones=tombstones)

    @override
    def head(self) -> int:
        return self._change_log.head()

    @override
    def meta(self, name: str) -> JSON:
        return self._meta_table.get(name)

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        try:
            return self._committer.commit(batch, epoch)
        finally:
            self._last_commit = next(self._commit_counter)

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        try:
            return self._committer.commit_each(batches, epoch)
        finally:
            self._last_commit = next(self._commit_counter)

    @override
    def moment(self) -> object:
        return self._last_commit

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        work = self._applier.plan(records, mark)

        def attempt(connection: LibpqConnection) -> int:
            self._client.require_full_schema()
            return self._applier.apply(connection, work, epoch)

        def explain() -> None:
            raise_violation(self, as_operations(records))

        return self._client.execute_write(attempt, idempotent=True, explain=explain)

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        return self._meta_table.compare_and_set(name, expected, value, given=given)

    @override
    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        self._client.require_open()
        return self._locks.lock(name, timeout)

    @override
    def close(self) -> None:
        self._locks.close()
        self._client.close()

    def _known(self, collection: str) -> CollectionStatements:
        known = self._statements.get(collection)
        return (
            self._statements[self.schema[collection].name] if known is None else known
        )
