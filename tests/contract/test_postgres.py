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
from pend_storage.testing import StoreContract
from pend_storage.testing.domain import SCHEMA

pytestmark = pytest.mark.timeout(120)


def open_store(url: str) -> Store:
    return PostgresStore(SCHEMA, url)


class TestPostgresStore(StoreContract):
    durable: ClassVar[bool] = True
    multi_process: ClassVar[bool] = True
    has_locks: ClassVar[bool] = True
    can_purge: ClassVar[bool] = True
    can_snapshot: ClassVar[bool] = True
    can_reserve: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _databases(self, new_migrated_database: Callable[[Schema], str]) -> None:
        self._new_database = new_migrated_database
        self._urls: dict[int, str] = {}

    def _open(self, schema: Schema, url: str) -> Store:
        store = PostgresStore(schema, url)
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

    @override
    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return open_store, (self._urls[id(store)],)
