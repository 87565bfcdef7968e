"""The backend that the documentation shows keeps the whole contract."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from typing_extensions import override

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.testing import StoreContract, run_machine
from pend_storage.testing.domain import SCHEMA

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "sqlite_store.py"


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


SqliteStore: Callable[[Schema, Path], Store] = load(EXAMPLE).SqliteStore


def open_store(path: Path) -> Store:
    return SqliteStore(SCHEMA, path)


class TestSqliteStore(StoreContract):
    durable: ClassVar[bool] = True
    multi_process: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._folder_of_test = tmp_path
        self._files: dict[int, Path] = {}

    def _open(self, schema: Schema, path: Path) -> Store:
        store = SqliteStore(schema, path)
        self._files[id(store)] = path
        return store

    @override
    def make_store(self, schema: Schema) -> Store:
        return self._open(schema, self._folder_of_test / f"{len(self._files)}.db")

    @override
    def reopen(self, store: Store) -> Store:
        store.close()
        return self._open(store.schema, self._files[id(store)])

    @override
    def peek(self, store: Store, collection: str, key: str) -> dict[str, Any] | None:
        with closing(sqlite3.connect(self._files[id(store)])) as db:
            found = db.execute(
                "select body from rows where collection = ? and key = ?",
                (collection, key),
            ).fetchone()
        if found is None or found[0] is None:
            return None
        fields: dict[str, Any] = json.loads(found[0])
        return fields

    @override
    def opener(self, store: Store) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return open_store, (self._files[id(store)],)


def test_every_answer_and_every_error_is_that_of_the_memory_store(
    tmp_path: Path,
) -> None:
    numbers, files = itertools.count(), dict[int, Path]()

    def open_file(schema: Schema, path: Path) -> Store:
        store = SqliteStore(schema, path)
        files[id(store)] = path
        return store

    def reopen(store: Store) -> Store:
        store.close()
        return open_file(store.schema, files[id(store)])

    run_machine(
        lambda schema: open_file(schema, tmp_path / f"{next(numbers)}.db"),
        reopen=reopen,
        settings=settings(max_examples=max(1, settings().max_examples // 4)),
    )
