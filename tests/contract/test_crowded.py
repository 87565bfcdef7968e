"""The contract where no call goes alone: what merging does, done to every call."""

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
from pend_storage.testing.crowd import CrowdedStore
from pend_storage.testing.domain import SCHEMA

from . import test_json, test_postgres
from .pairs import PairContract, look_inside

pytestmark = pytest.mark.timeout(120)


def open_json(directory: Path) -> Store:
    return CrowdedStore(JsonStore(SCHEMA, directory))


def open_postgres(url: str) -> Store:
    return CrowdedStore(PostgresStore(SCHEMA, url))


@pytest.mark.deep
class TestCrowdedJson(test_json.TestJsonStore):
    @override
    def _open(self, schema: Schema, directory: Path) -> Store:
        store = CrowdedStore(JsonStore(schema, directory))
        self._directories[id(store)] = directory
        return store

    @override
    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return open_json, (self._directories[id(store)],)


class TestCrowdedPostgres(test_postgres.TestPostgresStore):
    @override
    def _open(self, schema: Schema, url: str) -> Store:
        store = CrowdedStore(PostgresStore(schema, url))
        self._urls[id(store)] = url
        return store

    @override
    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return open_postgres, (self._urls[id(store)],)


class TestCrowdedPair(PairContract):
    phase: ClassVar[Phase] = Phase.PARALLEL

    @override
    def make_store(self, schema: Schema) -> Store:
        return CrowdedStore(self.make_pair(schema))

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        assert isinstance(store, CrowdedStore)
        assert isinstance(store.inner, DualWriteStore)
        return look_inside(store.inner, collection, key)
