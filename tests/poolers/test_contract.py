"""The store contract, through PgBouncer in transaction mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg import sql
from typing_extensions import override

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.contract._changelog import ChangesContract
from pend_storage.testing.contract._concurrency import ConcurrencyContract
from pend_storage.testing.contract._feeding import ApplyContract
from pend_storage.testing.contract._grouping import CommitEachContract
from pend_storage.testing.contract._harness import Harness
from pend_storage.testing.contract._isolation import IsolationContract
from pend_storage.testing.contract._lifetime import ReopenContract
from pend_storage.testing.contract._locking import LockContract
from pend_storage.testing.contract._reading import GetContract
from pend_storage.testing.contract._rules import ReferenceContract, UniqueContract
from pend_storage.testing.contract._standing import EpochContract, MetaContract
from pend_storage.testing.contract._transactions import TransactionContract
from pend_storage.testing.contract._writing import CommitContract, PutContract
from pend_storage.testing.servers import EmbeddedPgBouncer


class Pooled(Harness):
    """A store behind the PgBouncer of the run."""

    durable: ClassVar[bool] = True
    has_locks: ClassVar[bool] = True
    can_purge: ClassVar[bool] = True
    can_snapshot: ClassVar[bool] = True
    can_reserve: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _databases(
        self,
        new_migrated_database: Callable[[Schema], str],
        bouncer: EmbeddedPgBouncer,
    ) -> None:
        self._new_database = new_migrated_database
        self._bouncer = bouncer
        self._urls: dict[int, str] = {}

    def _open(self, schema: Schema, url: str) -> Store:
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        through = self._bouncer.url_of(str(name))
        store = PostgresStore(schema, through, pooler="transaction")
        self._urls[id(store)] = url
        return store

    @override
    def make_store(self, schema: Schema) -> Store:
        return self._open(schema, self._new_database(schema))

    @override
    def reopen(self, store: Store) -> Store:
        store.close()
        return self._open(store.schema, self._urls[id(store)])

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        spec = store.schema[collection]
        statement = sql.SQL("select {}, {} from {} where {} = %s").format(
            *map(sql.Identifier, ("name", "value", collection, spec.key))
        )
        with psycopg.connect(self._urls[id(store)]) as connection:
            row = connection.execute(statement, (key,)).fetchone()
        return None if row is None else {"name": row[0], "value": int(row[1])}


class TestWritesThroughPgBouncer(
    Pooled,
    GetContract,
    PutContract,
    CommitContract,
    CommitEachContract,
    UniqueContract,
    ReferenceContract,
):
    pass


class TestTransactionsThroughPgBouncer(
    Pooled, TransactionContract, IsolationContract, ConcurrencyContract
):
    pass


class TestLocksThroughPgBouncer(Pooled, LockContract):
    pass


class TestLogAndRolesThroughPgBouncer(
    Pooled, ChangesContract, ApplyContract, MetaContract, EpochContract, ReopenContract
):
    pass
