"""Stores of every kind with the files of :mod:`tests.views.making`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pend_storage import DualWriteStore
from pend_storage.pend import SCHEMA
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from tests.views.making import LAYOUTS

KINDS = ["json", "postgres", "parallel", "postgres-primary"]


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    new_migrated_database: Callable[[Schema], str],
) -> Iterator[Store]:
    made = make(request.param, tmp_path, new_migrated_database)
    with made:
        yield made


def make(kind: str, directory: Path, database: Callable[[Schema], str]) -> Store:
    if kind == "json":
        return files(directory)
    postgres = PostgresStore(SCHEMA, database(SCHEMA), layouts=LAYOUTS)
    if kind == "postgres":
        return postgres
    pair = DualWriteStore(
        json=files(directory), postgres=postgres, compare=0.0, hook=lambda _: None
    )
    phases = [Phase.PARALLEL, Phase.POSTGRES_PRIMARY]
    for phase in phases[: phases.index(Phase(kind)) + 1]:
        pair.switch(phase, accept=("backfill", "validation", "backup", "quarantine"))
    return pair


def files(directory: Path) -> JsonStore:
    return JsonStore(
        SCHEMA,
        directory,
        layouts=LAYOUTS,
        checkpoint_interval=None,
        hook=lambda _: None,
    )


@pytest.fixture
def memory_store() -> MemoryStore:
    return MemoryStore(SCHEMA, layouts=LAYOUTS)
