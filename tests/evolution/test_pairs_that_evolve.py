"""Evolution of a pair: both stores are migrated to another schema, and the relay goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage.schema import Schema
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from tests.dualwrite.processes import wait_until
from tests.evolution.test_json_evolution import (
    MIGRATED,
    V1,
    Note,
    Retyped,
    Tagged,
    schema,
)

J, PAR, PG, P = ps.Phase
RETYPED = MIGRATED["retyped"][0]
TAGGED = schema(Tagged)


def pair(wanted: Schema, directory: Path, url: str) -> ps.DualWriteStore:
    return ps.DualWriteStore(
        json=JsonStore(wanted, directory, hook=lambda _: None),
        postgres=PostgresStore(wanted, url, pool_size=4, hook=lambda _: None),
        hook=lambda _: None,
    )


def both(wanted: Schema, directory: Path, url: str) -> list[dict[str, Any]]:
    """All rows of each store."""
    with (
        JsonStore(wanted, directory, checkpoint_interval=None) as json,
        PostgresStore(wanted, url) as postgres,
    ):
        return [rows(json), rows(postgres)]


def move(store: ps.DualWriteStore, phase: ps.Phase) -> None:
    for step in (PAR, PG, P):
        if store.phase is phase:
            return
        store.switch(step, accept=["backup", "validation"])
        if step is PAR:
            store.backfill()


def rows(store: ps.Store) -> dict[str, Any]:
    return {row.key: row[1:] for row in store.scan("notes", deleted=True)}


@pytest.fixture(params=[J, PAR, PG, P], ids=str)
def phase(request: pytest.FixtureRequest) -> ps.Phase:
    found: ps.Phase = request.param
    return found


@pytest.fixture
def used(
    phase: ps.Phase,
    tmp_path: Path,
    new_database: Callable[[], str],
) -> tuple[Path, str]:
    url = new_database()
    with PostgresStore(V1, url) as store:
        store.migrate()
    with pair(V1, tmp_path, url) as store:
        store.collection(Note).put_many([Note("a", "one", 1), Note("b", "two", 2)])
        move(store, phase)
        store.collection(Note).put(Note("c", "three", 3))
        store.collection(Note).delete("b")
        wait_until(lambda: store.lag().commits == 0)
    return tmp_path, url


def test_a_migration_of_both_stores_is_followed_by_the_relay(
    phase: ps.Phase, used: tuple[Path, str]
) -> None:
    directory, url = used

    JsonStore.migrate(RETYPED, directory)
    with PostgresStore(RETYPED, url) as postgres:
        postgres.migrate()

    with pair(RETYPED, directory, url) as store:
        assert store.phase is phase
        notes = store.collection(Retyped)
        assert list(notes.scan()) == [
            Retyped("a", "one", "1 stars"),
            Retyped("c", "three", "3 stars"),
        ]
        notes.put(Retyped("d", "four", "many"))
        notes.put(Retyped("a", "one", "some"))
        if phase in {PAR, PG}:
            wait_until(lambda: store.lag().commits == 0)
            assert store.validate().ok
            left, right = both(RETYPED, directory, url)
            assert left == right


def test_an_addition_is_taken_by_one_program_after_the_other(
    phase: ps.Phase, used: tuple[Path, str]
) -> None:
    directory, url = used
    with pair(V1, directory, url) as old:
        with PostgresStore(TAGGED, url) as postgres:
            postgres.migrate()
        old.collection(Note).put(Note("a", "by the old program"))
        with pair(TAGGED, directory, url) as new:
            tagged = new.collection(Tagged)
            tagged.put(Tagged("c", "three", 3, tag="kept"))
            old.collection(Note).put(Note("c", "by the old program"))
            old.collection(Note).put(Note("e", "by the old program"))
            assert tagged.get("c") == Tagged("c", "by the old program", tag="kept")

            if phase in {PAR, PG}:
                wait_until(lambda: new.lag().commits == 0)
                assert new.validate().ok
                left, right = both(TAGGED, directory, url)
                assert left == right
            assert tagged.get("a") == Tagged("a", "by the old program")
