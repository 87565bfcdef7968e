"""Restores to every position of a random history, on each store from each store."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pend_storage._model.snapshots import RESTORED_META, StoredRow
from pend_storage._restored import note_of
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._reachable import archive_of
from pend_storage.backup._restore import RestoreReport, restore
from pend_storage.backup._target import parse_target, resolve
from pend_storage.phases import Role
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, a_log, a_tally

from .repositories import ENVIRONMENT, KEYS, a_repository, archive, back_up

Opened: TypeAlias = Callable[[], AbstractContextManager[Store]]
State: TypeAlias = dict[tuple[str, str], tuple[int, Any]]

KEY = st.sampled_from(["a", "b", "c", "d/é@1"])
STEP = st.one_of(
    st.tuples(st.just("put"), KEY),
    st.tuples(st.just("delete"), KEY),
    st.tuples(st.just("both"), KEY),
    st.just(("back_up", "")),
    st.just(("archive", "")),
)
_numbers = itertools.count()


@pytest.fixture
def openers(
    new_migrated_database: Callable[[Schema], str], request: pytest.FixtureRequest
) -> dict[str, Opened]:
    @contextmanager
    def memory() -> Iterator[Store]:
        with MemoryStore(SCHEMA) as store:
            yield store

    @contextmanager
    def json() -> Iterator[Store]:
        with (
            tempfile.TemporaryDirectory() as folder,
            JsonStore(SCHEMA, Path(folder, "data"), checkpoint_interval=None) as store,
        ):
            yield store

    @contextmanager
    def postgres() -> Iterator[Store]:
        with PostgresStore(SCHEMA, new_migrated_database(SCHEMA)) as store:
            yield store

    return {"memory": memory, "json": json, "postgres": postgres}


def state_of(store: Store) -> State:
    """Rows and tombstones, with their versions and encoded bodies."""
    return {
        (spec.name, row.key): (
            row.version,
            None if row.record is None else spec.codec.encode(row.record),
        )
        for spec in store.schema
        for row in store.scan(spec.name, deleted=True)
    }


def canonical(store: Store) -> dict[str, set[StoredRow]]:
    with store.snapshot() as reader:
        return {spec.name: set(reader.rows(spec.name)) for spec in store.schema}


def write(store: Store, step: str, key: str) -> None:
    number = next(_numbers)
    if step == "put":
        store.collection("logs").put(a_log(key, text=f"text {number}"))
    elif step == "delete":
        store.collection("logs").delete(key)
    else:
        with store.transaction() as tx:
            tx.collection("logs").put(a_log(key, text=f"both {number}"))
            tx.collection("tallies").put(a_tally(key, value=number))


def to(catalog: Catalog, text: str, store: Store, **options: Any) -> RestoreReport:
    found = archive_of(catalog, KEYS, environment=ENVIRONMENT)
    resolved = resolve(parse_target(text), found, text=text)
    return restore(resolved, catalog, KEYS, store, **options)


def check_history(
    source: Opened, target: Opened, steps: list[tuple[str, str]], pick: st.DataObject
) -> None:
    """Make a history with backups, and restore to a position of it."""
    with tempfile.TemporaryDirectory() as folder, source() as store:
        repository = a_repository(Path(folder, "repository"))
        write(store, "put", "a")
        first = back_up(store, repository).point.sequence
        states: dict[int, State] = {first: state_of(store)}
        for step, key in steps:
            if step == "back_up":
                back_up(store, repository)
            elif step == "archive":
                archive(store, repository)
            else:
                write(store, step, key)
                sequence = max([c.sequence for c in store.changes()])
                states[sequence] = state_of(store)
        archive(store, repository)
        near = {n + d for n in states for d in (-1, 0, 1)}
        last = max(states)
        wanted = pick.draw(
            st.sampled_from(sorted(n for n in near if first <= n <= last))
        )
        with target() as restored:
            report = to(Catalog(repository), str(wanted), restored)
            expected = states[max(n for n in states if n <= wanted)]
            assert state_of(restored) == expected
            assert report.point.sequence == wanted
            assert restored.role().role is Role.DETACHED
            assert restored.identity() != store.identity()
            note = note_of(restored)
            assert note is not None
            assert (note.state, note.sequence) == ("sealed", wanted)
            assert restored.meta("restore-loaded") is None
            assert restored.head() >= last or report.above >= last
            assert restored.meta(RESTORED_META) is not None


QUICK = settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FEW = settings(
    max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(st.lists(STEP, max_size=12), st.data())
def test_every_position_in_memory(
    openers: dict[str, Opened], steps: list[tuple[str, str]], pick: st.DataObject
) -> None:
    check_history(openers["memory"], openers["memory"], steps, pick)


@pytest.mark.parametrize("source", ["json", "postgres"])
@pytest.mark.parametrize("target", ["json", "postgres"])
@FEW
@given(st.lists(STEP, min_size=4, max_size=12), st.data())
def test_every_position_from_each_store_on_each_store(
    openers: dict[str, Opened],
    source: str,
    target: str,
    steps: list[tuple[str, str]],
    pick: st.DataObject,
) -> None:
    check_history(openers[source], openers[target], steps, pick)
