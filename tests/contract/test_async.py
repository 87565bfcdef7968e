"""The contract through AsyncStore: its verbs, its collections, its transactions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from pend_storage.dualwrite import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.bridge import BridgedStore
from pend_storage.testing.domain import SCHEMA

from . import test_json, test_postgres
from .pairs import PairContract, look_inside

pytestmark = pytest.mark.timeout(120)


def open_json(directory: Path) -> Store:
    return BridgedStore(JsonStore(SCHEMA, directory))


def open_postgres(url: str) -> Store:
    return BridgedStore(PostgresStore(SCHEMA, url))


@pytest.mark.deep
class TestAsyncOverJson(test_json.TestJsonStore):
    @override
    def _open(self, schema: Schema, directory: Path) -> Store:
        store = BridgedStore(JsonStore(schema, directory))
        self._directories[id(store)] = directory
        return store

    @override
    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return open_json, (self._directories[id(store)],)


class TestAsyncOverPostgres(test_postgres.TestPostgresStore):
    @override
    def _open(self, schema: Schema, url: str) -> Store:
        store = BridgedStore(PostgresStore(schema, url))
        self._urls[id(store)] = url
        return store

    @override
    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return open_postgres, (self._urls[id(store)],)


class _OverPair(PairContract):
    @override
    def make_store(self, schema: Schema) -> Store:
        return BridgedStore(self.make_pair(schema))

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        assert isinstance(store, BridgedStore)
        assert isinstance(store.inner, DualWriteStore)
        return look_inside(store.inner, collection, key)


class TestAsyncInParallel(_OverPair):
    phase: ClassVar[Phase] = Phase.PARALLEL


@pytest.mark.deep
class TestAsyncInPostgresPrimary(_OverPair):
    phase: ClassVar[Phase] = Phase.POSTGRES_PRIMARY
