from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.testing import StoreContract
from pend_storage.testing.domain import SCHEMA

pytestmark = pytest.mark.timeout(120)


def open_store(directory: Path) -> Store:
    return JsonStore(SCHEMA, directory)


class TestJsonStore(StoreContract):
    durable: ClassVar[bool] = True
    multi_process: ClassVar[bool] = True
    has_locks: ClassVar[bool] = True
    can_purge: ClassVar[bool] = True
    can_snapshot: ClassVar[bool] = True
    can_reserve: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._root = tmp_path
        self._directories: dict[int, Path] = {}

    def _open(self, schema: Schema, directory: Path) -> Store:
        store = JsonStore(schema, directory)
        self._directories[id(store)] = directory
        return store

    @override
    def make_store(self, schema: Schema) -> Store:
        return self._open(schema, self._root / f"{len(self._directories)}")

    @override
    def reopen(self, store: Store) -> Store:
        store.close()
        return self._open(store.schema, self._directories[id(store)])

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        store.close()  # which brings the files up to date
        file = self._directories[id(store)] / f"{collection}.json"
        records = json.loads(file.read_text()) if file.exists() else {}
        name = store.schema[collection].key
        if isinstance(records, dict):
            records = [{name: place, **fields} for place, fields in records.items()]
        return next((record for record in records if record[name] == key), None)

    @override
    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return open_store, (self._directories[id(store)],)
