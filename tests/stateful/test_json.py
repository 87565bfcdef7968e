from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.testing import run_machine
from pend_storage.testing.bridge import BridgedStore
from pend_storage.testing.crowd import CrowdedStore

pytestmark = pytest.mark.timeout(900)

# Real commits are slower than those in memory.
A_QUARTER = settings(max_examples=max(1, settings().max_examples // 4))


def alone(store: Store) -> Store:
    return store


COMPANY: list[Callable[[Store], Store]] = [alone, BridgedStore, CrowdedStore]


@pytest.mark.parametrize("company", COMPANY)
def test_every_answer_and_every_error_is_that_of_the_memory_store(
    company: Callable[[Store], Store],
    tmp_path: Path,
) -> None:
    numbers = itertools.count()
    directories: dict[int, Path] = {}

    def make_store(schema: Schema) -> Store:
        number = next(numbers)
        shutil.rmtree(tmp_path / f"{number - 4}", ignore_errors=True)
        return open_store(schema, tmp_path / f"{number}")

    def open_store(schema: Schema, directory: Path) -> Store:
        store = company(JsonStore(schema, directory))
        directories[id(store)] = directory
        return store

    def reopen(store: Store) -> Store:
        store.close()
        return open_store(store.schema, directories[id(store)])

    run_machine(make_store, reopen=reopen, settings=A_QUARTER)
