"""PostgreSQL as a store."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal

from typing_extensions import override

from pend_storage.codec import dump_json, load_json
from pend_storage.diff import equal
from pend_storage.errors import ChangesExpired, StoreUnavailable
from pend_storage.events import Hook, guarded, log_event
from pend_storage.holding import IsHeld
from pend_storage.layout import Layout, one_each
from pend_storage.phases import ROLE_META
from pend_storage.query import Condition, Query
from pend_storage.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Outcome,
    Pending,
    Row,
)
from pend_storage.schema import Schema
from pend_storage.schema_changes import Evolution
from pend_storage.store import Store
from pend_storage.stores.postgres import statements
from pend_storage.stores.postgres.applying import Applier
from pend_storage.stores.postgres.backlog import Backlog
from pend_storage.stores.postgres.commit_batches import MOST_BYTES
from pend_storage.stores.postgres.committer import Committer
from pend_storage.stores.postgres.conditions import (
    count_statement,
    query_statement,
    together_statement,
)
from pend_storage.stores.postgres.connections import Address, Connector
from pend_storage.stores.postgres.exclusive import NamedLocks
from pend_storage.stores.postgres.inspect import DatabaseReport, inspect_database
from pend_storage.stores.postgres.link import Link, Statement
from pend_storage.stores.postgres.pool import Pool
from pend_storage.stores.postgres.repeating import unhurried
from pend_storage.stores.postgres.rows import (
    CHANGE_RECORDS,
    change_of,
    parted_rows_of,
    rows_of,
    tombstone_rows_of,
)
from pend_storage.stores.postgres.server import Server
from pend_storage.stores.postgres.shapes import Shapes
from pend_storage.stores.postgres.statements import CollectionStatements
from pend_storage.stores.postgres.violations import operations_of, raise_violation
from pend_storage.stores.postgres.wire import Value, number, text_array
from pend_storage.text import is_storable, storable_part

__all__ = ["PostgresStore"]


_PAGE: Final = 1000
"""Rows of a scan that are in memory at a time."""
_CHANGES_PAGE: Final = 200
"""Commits of the change log that are in memory at a time, of so many bytes as go together
in one call, but for the last one."""


class PostgresStore(Store):
    """A PostgreSQL database, version 15 or newer, as a store."""

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
        hook: Hook = log_event,
    ) -> None:
        """Understand the settings; nothing is connected to before it is needed.

        Args:
            schema: the collections; :meth:`migrate` makes their tables.
            url: ``postgresql://user:password@host:port/database``, with any setting of
                libpq as a parameter (``sslmode``, ``sslrootcert``, ...).
            layouts: the legacy files that :meth:`legacy` can show.
            pool_size: how many connections at most.
            pool_timeout: seconds to wait for one where all are in use.
            connect_timeout: seconds to wait for a new one.
            idle_timeout: seconds after which an unused one is closed.
            connection_max_age: seconds after which one is not used again, less up to a
                tenth; None: never. Behind an address with several servers, connections
                move to the present one in that time without any error.
            statement_timeout: seconds that one statement may take.
            pooler: ``"transaction"`` behind PgBouncer in transaction mode; migrations
                need a URL that goes straight to the server.
            application_name: shown in ``pg_stat_activity``.
            hook: gets told what an operator should know.

        Raises:
            ConfigError: the URL cannot be understood, or the schema does not fit.
        """
        self.schema = schema
        self.layouts = one_each(layouts)
        for layout in self.layouts:
            layout.require(schema)
        self.address = Address.parse(url)
        self._connector = Connector(
            address=self.address,
            connect_timeout=connect_timeout,
            statement_timeout=statement_timeout,
            pooler=pooler,
            application_name=application_name,
        )
        self._hook = guarded(hook)
        pool = Pool(
            self._connector.open,
            size=pool_size,
            wait=pool_timeout,
            idle_timeout=idle_timeout,
            patience=self._connector.patience,
            max_age=connection_max_age,
        )
        self._server = Server(schema, self._connector, pool, self._hook)
        self._statements = {spec.name: CollectionStatements(spec) for spec in schema}
        self._committer = Committer(
            self,
            self._server,
            self._statements,
            size=pool_size,
            patience=statement_timeout,
        )
        self._applier = Applier(
            schema, self._server, self._statements, patience=statement_timeout
        )
        self._backlog = Backlog(self._server)
        self._patience = statement_timeout
        self._shapes = Shapes()
        self._locks = NamedLocks(
            self.name, self._connector.open, pooled=pooler is not None
        )
        self._moments = itertools.count(1)
        self._moment = 0

    @property
    def name(self) -> str:
        """How errors call the store: where it is, without user and password."""
        return str(self.address)

    def migrate(
        self,
        *,
        wait: float = 60.0,
        drop: bool = False,
        drop_empty: bool = False,
        dry_run: bool = False,
    ) -> Evolution:
        """Bring an empty or older database to the schema; harmless to repeat.

        Any number of processes may do so at once, while others work. What was renamed, and
        how values are converted, is declared in the schema
        (:class:`~pend_storage.Evolve`); nothing is deleted without consent. Where
        somebody holds a lock that it needs, it asks for the lock for a second at a time,
        and lets everybody else pass in between.

        Args:
            wait: seconds for which it tries to have the locks.
            drop: whether what the schema does not have any more may be deleted.
            drop_empty: whether tables that were made with another schema may be dropped
                as far as they are empty.
            dry_run: whether only to find out what would be run. It is run, and undone.

        Returns:
            What was changed, or would be, with the statements.

        Raises:
            SchemaOutOfDate: the database is newer than the library or the schema, or
                would have to lose something.
            ConfigError: the user may not do it, the server lacks an extension, or the
                database is not encoded in UTF8.
            StoreUnavailable: it cannot be reached, or the locks could not be had in
                time; the error names who has them.
        """
        from pend_storage.stores.postgres.migrate import (  # noqa: PLC0415 - slow
            Wish,
            migrate,
        )

        wish = Wish(drop=drop, drop_empty=drop_empty, dry_run=dry_run)
        done = migrate(self.schema, self._connector, self._hook, wait=wait, wish=wish)
        if not dry_run:
            self._server.settle()
        return done

    @override
    def incarnation(self) -> str:
        """What stands behind the address at this moment.

        System identifier and timeline of the cluster, object ids of the database and of
        its change log: ``7713733295023466614/1/16384/16402``. It is asked over a
        connection. It differs after a failover, a restore and a move; a part that the
        server does not tell is empty.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        return self._server.incarnation()

    def inspect(self) -> DatabaseReport:
        """What an operator wants to know of the database, migrated or not.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        return inspect_database(self.schema, self._connector)

    # -- looking ------------------------------------------------------------------

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
            self._require_primary(epoch)
            return {}
        if deleted:
            result = self._server.ask(
                known.read_deleted,
                (text_array(filter(is_storable, wanted)), number(epoch)),
            )
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
        if not is_storable(key):
            self._require_primary(epoch)
            return []
        if epoch is None:
            result = self._server.ask(known.read_one, (key.encode(),))
        else:
            values = (key.encode(), b"%d" % epoch)
            result = self._server.ask(known.read_one_guarded, values)
        return rows_of(known.spec, result)

    def _read_many(
        self, known: CollectionStatements, keys: list[str], epoch: int | None
    ) -> list[Row]:
        array = text_array(filter(is_storable, keys))
        if epoch is None:
            return rows_of(known.spec, self._server.ask(known.read_many, (array,)))
        values = (array, b"%d" % epoch)
        return rows_of(known.spec, self._server.ask(known.read_many_guarded, values))

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        known = self._known(collection)
        if query.limit == 0:
            self._require_primary(epoch)
            return []
        statement, values = query_statement(known, query, epoch)
        statement = self._shapes.known(statement)
        return rows_of(known.spec, self._server.ask(statement, values))

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        known = self._known(collection)
        statement, values = count_statement(known, where, epoch)
        statement = self._shapes.known(statement)
        return int(self._server.ask(statement, values).get_value(0, 0) or 0)

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
        if not asked and not counted:
            self._require_primary(epoch)
            return [], []
        statement, values = together_statement(asked, counted, epoch)
        result = self._server.ask(self._shapes.known(statement), values)
        return parted_rows_of([known.spec for known, _ in asked], len(counted), result)

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
        statement = known.page_deleted if deleted else known.page
        while True:
            start = storable_part(after or "").encode()
            values = (start, number(epoch), b"%d" % _PAGE)
            rows = tombstone_rows_of(known.spec, self._server.ask(statement, values))
            yield from (row for row in rows if after is None or row.key > after)
            if len(rows) < _PAGE:
                return
            after = rows[-1].key

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        horizon = self._server.ask(statements.HORIZON).get_value(0, 0)
        self._server.require_whole()
        change: Change | None = None
        while True:
            values = (b"%d" % after, horizon, b"%d" % _CHANGES_PAGE, b"%d" % MOST_BYTES)
            result = self._server.ask(statements.CHANGES, values)
            if change is not None:
                self._require_continued(change)
            size = 0
            for index in range(result.ntuples):
                size += len(result.get_value(index, CHANGE_RECORDS) or b"")
                change = change_of(self.schema, result, index)
                yield change
                after = change.sequence
            if result.ntuples < _CHANGES_PAGE and size < MOST_BYTES:
                return

    def _require_continued(self, change: Change) -> None:
        """See that the page just read continues the log that the one before was of.

        Asked after the page was: if the entry before it is still there, both are of one
        history, whatever server has answered.
        """
        try:
            oldest = self._backlog.pending(change.sequence - 1).oldest
        except ChangesExpired:
            oldest = None
        if oldest != change.at:
            raise StoreUnavailable(
                "while its change log was read, another server came in its place, or the "
                "log was pruned; it has to be read again",
                store=self.name,
            )

    @override
    def find_commit(self, token: str) -> Change | None:
        return self._committer.find(token)

    @override
    def pending(self, after: int) -> Pending:
        return self._backlog.pending(after)

    @override
    def prune(self, upto: int) -> None:
        horizon = int(self._server.ask(statements.HORIZON).get_value(0, 0) or 0)
        values = (b"%d" % min(upto, horizon),)
        self._server.write(
            lambda link: link.run(statements.PRUNE, values), harmless=True
        )

    @override
    def head(self) -> int:
        return int(self._server.ask(statements.HEAD).get_value(0, 0) or 0)

    @override
    def meta(self, name: str) -> JSON:
        result = self._server.ask(statements.META, (name.encode(),))
        value = result.get_value(0, 0) if result.ntuples else None
        return None if value is None else load_json(value)

    def _require_primary(self, epoch: int | None) -> None:
        """What a look at nothing still has to check."""
        if epoch is not None:
            self._server.ask(statements.GUARD, (b"%d" % epoch,))
        else:
            self._server.require_open()

    # -- writing ------------------------------------------------------------------

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        try:
            return self._committer.commit(batch, epoch)
        finally:
            self._moment = next(self._moments)

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        try:
            return self._committer.commit_each(batches, epoch)
        finally:
            self._moment = next(self._moments)

    @override
    def moment(self) -> object:
        return self._moment

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        work = self._applier.prepare(records, mark)

        def attempt(link: Link) -> int:
            self._server.require_whole()
            return self._applier.apply(link, work, epoch)

        def judge() -> None:
            raise_violation(self, operations_of(records))

        return self._server.write(attempt, harmless=True, judge=judge)

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        if expected is None and value is None and not given:
            return self.meta(name) is None

        def attempt(link: Link) -> bool:
            with link.transaction():
                if name == ROLE_META:
                    link.run(statements.HASTEN)
                    link.run(statements.STORE_ALONE)
                if not all(_is_held(link, *item) for item in (given or {}).items()):
                    return False
                if expected is None and value is None:
                    return _is_held(link, name, None)
                result = link.run(*_meta_change(name, expected, value))
                return bool(result.command_tuples)

        def unhurriedly(link: Link) -> bool:
            return unhurried(self._server, self._patience, lambda: attempt(link))

        return self._server.write(unhurriedly, harmless=False)

    @override
    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        self._server.require_open()
        return self._locks.lock(name, timeout)

    @override
    def close(self) -> None:
        self._locks.close()
        self._server.close()

    def _known(self, collection: str) -> CollectionStatements:
        known = self._statements.get(collection)
        return (
            self._statements[self.schema[collection].name] if known is None else known
        )


def _is_held(link: Link, name: str, value: JSON) -> bool:
    """Whether a meta entry has a value, which it keeps until the transaction ends."""
    result = link.run(statements.META_HELD, (name.encode(),))
    found = result.get_value(0, 0) if result.ntuples else None
    return equal(None if found is None else load_json(found), value)


def _meta_change(
    name: str, expected: JSON, value: JSON
) -> tuple[Statement, tuple[Value, ...]]:
    place = name.encode()
    if expected is None:
        return statements.META_INSERT, (place, dump_json(value))
    if value is None:
        return statements.META_DELETE, (place, dump_json(expected))
    values = (place, dump_json(value), dump_json(expected))
    return statements.META_UPDATE, values
