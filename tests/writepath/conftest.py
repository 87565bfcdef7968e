"""Stores of every kind over the files of a Pend server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.events import Event
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.validation import validate

KINDS = ["json", "postgres", *(phase.value for phase in Phase)]


@pytest.fixture
def events() -> list[Event]:
    """Events of the store."""
    return []


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(
    kind: str,
    tmp_path: Path,
    events: list[Event],
    new_migrated_database: Callable[[Schema], str],
) -> Iterator[Store]:
    """A store alone, or a pair in one of its phases."""
    if kind == "json":
        with a_json(tmp_path / "data", events) as json:
            yield json
        return
    url = new_migrated_database(SCHEMA)
    postgres = PostgresStore(SCHEMA, url, layouts=LAYOUTS, hook=events.append)
    if kind == "postgres":
        with postgres:
            yield postgres
        return
    pair = DualWriteStore(
        json=a_json(tmp_path / "data", events),
        postgres=postgres,
        backfill=backfill,
        validate=validate,
        hook=events.append,
        secondary_timeout=None,
        compare=0,
    )
    with pair:
        while pair.phase is not Phase(kind):
            pair.switch(_next(pair.phase), accept=CODES)
        yield pair


def a_json(directory: Path, events: list[Event]) -> JsonStore:
    return JsonStore(
        SCHEMA,
        directory,
        layouts=LAYOUTS,
        checkpoint_interval=None,
        hook=events.append,
    )


def _next(phase: Phase) -> Phase:
    phases = list(Phase)
    return phases[phases.index(phase) + 1]
