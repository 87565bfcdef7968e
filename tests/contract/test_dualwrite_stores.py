"""The contract over the real stores: a directory and a database, each of them primary."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg import sql
from typing_extensions import override

from pend_storage.dualwrite import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA

from .pairs import Contract, Everyday, PairHarness

pytestmark = pytest.mark.timeout(120)


def open_pair(directory: Path, url: str) -> Store:
    return DualWriteStore(
        json=JsonStore(SCHEMA, directory), postgres=PostgresStore(SCHEMA, url)
    )


class RealPair(PairHarness):
    durable: ClassVar[bool] = True
    multi_process: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _servers(
        self, tmp_path: Path, new_migrated_database: Callable[[Schema], str]
    ) -> None:
        self._root = tmp_path
        self._new_database = new_migrated_database
        self._places: list[tuple[Path, str]] = []
        self._place_of: dict[int, tuple[Path, str]] = {}

    @override
    def make_stores(self, schema: Schema) -> tuple[Store, Store]:
        directory = self._root / f"{len(self._places)}"
        url = self._new_database(schema)
        self._places.append((directory, url))
        return JsonStore(schema, directory), PostgresStore(schema, url)

    @override
    def make_store(self, schema: Schema) -> Store:
        store = super().make_store(schema)
        self._place_of[id(store)] = self._places[-1]
        return store

    @override
    def reopen(self, store: Store) -> Store:
        store.close()
        directory, url = self._place_of[id(store)]
        again = DualWriteStore(
            json=JsonStore(store.schema, directory),
            postgres=PostgresStore(store.schema, url),
        )
        self._place_of[id(again)] = directory, url
        return again

    @override
    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return open_pair, self._place_of[id(store)]


class Parallel(RealPair):
    phase = Phase.PARALLEL

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        """Rows of the database."""
        assert isinstance(store, DualWriteStore)
        store.catch_up()
        spec = store.schema[collection]
        statement = sql.SQL("select {}, {} from {} where {} = %s").format(
            *map(sql.Identifier, ("name", "value", collection, spec.key))
        )
        with psycopg.connect(self._place_of[id(store)][1]) as connection:
            row = connection.execute(statement, (key,)).fetchone()
        return None if row is None else {"name": row[0], "value": int(row[1])}


class PostgresPrimary(RealPair):
    phase = Phase.POSTGRES_PRIMARY

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        """Records of the files."""
        assert isinstance(store, DualWriteStore)
        store.catch_up()
        store.close()  # which brings the files up to date
        file = self._place_of[id(store)][0] / f"{collection}.json"
        records = json.loads(file.read_text()) if file.exists() else {}
        name = store.schema[collection].key
        return next(
            ({name: place, **rest} for place, rest in records.items() if place == key),
            None,
        )


class TestParallel(Parallel, Everyday):
    """JSON is primary."""


class TestPostgresPrimary(PostgresPrimary, Everyday):
    """PostgreSQL is primary."""


@pytest.mark.deep
class TestAllInParallel(Parallel, Contract):
    """JSON is primary, and everything is asked."""


@pytest.mark.deep
class TestAllInPostgresPrimary(PostgresPrimary, Contract):
    """PostgreSQL is primary, and everything is asked."""
