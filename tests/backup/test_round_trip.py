"""Restores to every position of a random history, on each store from each store."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from pend_storage._files.directory import Directory
from pend_storage._model.snapshots import RESTORED_META, StoredRow
from pend_storage._restored import note_of
from pend_storage.backup._catalog import MANIFEST, Catalog, folder_of
from pend_storage.backup._folder_repository import FolderRepository
from pend_storage.backup._losses import losses
from pend_storage.backup._reachable import archive_of
from pend_storage.backup._restore import RestoreReport, restore
from pend_storage.backup._target import parse_target, resolve
from pend_storage.errors import ConfigError, CorruptFile
from pend_storage.events import Progress
from pend_storage.phases import Role
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, a_berth, a_log, a_ship, a_tally
from pend_storage.testing.servers import temporary_postgres

from .repositories import ENVIRONMENT, KEYS, a_repository, archive, back_up
from .servers import newest

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


@contextmanager
def newest_postgres() -> Iterator[str]:
    """URL of a server of version 18."""
    settings = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "8MB"}
    with temporary_postgres(bindir=newest(), settings=settings) as server:
        yield server.url


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


def a_rich_history(store: Store) -> None:
    """Records with every kind of value, references, tombstones."""
    store.collection("berths").put_many([a_berth(), a_berth("2", number=2)])
    store.collection("ships").put(
        a_ship(
            berth_id="2",
            cargo_grams=10**30,
            price=Decimal("12.3400"),
            draught=Decimal("1E+5"),
            speed=1e23,
            papers={"deep": [1, 1.0, 1e23, "é\u2028", None, {"b": 2, "a": 1}]},
            anything=[True, 0, -0.5],
        )
    )
    for number in range(3):
        store.collection("tallies").put(a_tally("t", value=number))
    store.collection("logs").put(a_log("gone"))
    store.collection("logs").delete("gone")


def passed_on(source: Store, target: Store, folder: Path) -> dict[str, set[StoredRow]]:
    """Restore a store's backup into another one, and compare; returns its rows."""
    repository = a_repository(folder)
    back_up(source, repository)
    to(Catalog(repository), "latest", target)
    rows = canonical(target)
    assert rows == canonical(source)
    return rows


@pytest.mark.parametrize("archived", [False, True])
def test_values_are_byte_equal_over_postgresql_15_and_18_and_json(
    openers: dict[str, Opened], tmp_path: Path, *, archived: bool
) -> None:
    with (
        openers["postgres"]() as first,
        newest_postgres() as url,
        PostgresStore(SCHEMA, url) as newest,
        openers["json"]() as files,
        openers["postgres"]() as last,
    ):
        newest.migrate()
        if archived:  # the values come by the log, and not by the snapshot
            repository = a_repository(tmp_path / "log")
            first.collection("logs").put(a_log("before"))
            back_up(first, repository)
            a_rich_history(first)
            archive(first, repository)
            to(Catalog(repository), "latest", newest)
            assert canonical(newest) == canonical(first)
        else:
            a_rich_history(first)
            passed_on(first, newest, tmp_path / "1")
        passed_on(newest, files, tmp_path / "2")
        assert passed_on(files, last, tmp_path / "3") == canonical(first)
        assert len(canonical(last)["logs"]) == 1 + archived


class Forgetful(MemoryStore):
    """A store that loses the last row of a snapshot."""

    @override
    def load_snapshot(
        self, rows: Iterable[tuple[str, StoredRow]], *, progress: Progress | None = None
    ) -> int:
        return super().load_snapshot([*rows][:-1], progress=progress)


def test_what_has_arrived_is_compared_with_the_manifest(tmp_path: Path) -> None:
    with MemoryStore(SCHEMA) as source, Forgetful(SCHEMA) as target:
        source.collection("logs").put_many([a_log("a"), a_log("b")])
        repository = a_repository(tmp_path)
        back_up(source, repository)
        with pytest.raises(CorruptFile, match=r"differs .* logs \(1 records"):
            to(Catalog(repository), "latest", target)
        note = note_of(target)
        assert note is not None
        assert note.state == "filling", "no process opens it"
        with pytest.raises(CorruptFile, match="Drop it"):
            to(Catalog(repository), "latest", target)


def test_a_progress_bar_ends_at_its_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with MemoryStore(SCHEMA) as source, MemoryStore(SCHEMA) as target:
        source.collection("logs").put_many([a_log("a"), a_log("b")])
        repository = a_repository(tmp_path)
        back_up(source, repository)
        source.collection("logs").put(a_log("c"))
        archive(source, repository)
        report = to(
            Catalog(repository),
            "latest",
            target,
            progress=lambda done, total: seen.append((done, total)),
        )
    total = report.rows + report.changes
    assert seen[-1][0] == seen[-1][1] >= total
    assert all(done <= of for done, of in seen)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 100])
def test_many_losses_are_counted_without_reading_all(tmp_path: Path, most: int) -> None:
    with MemoryStore(SCHEMA) as source:
        repository = a_repository(tmp_path)
        write(source, "put", "a")
        back_up(source, repository)
        for key in ("b", "c", "d", "e"):
            write(source, "put", key)
            if key != "e":
                archive(source, repository)
        catalog = Catalog(repository)
        found = archive_of(catalog, KEYS)
        start = str(found.backups[0].point.sequence)
        resolved = resolve(parse_target(start), found, text=start)
        lost = losses(resolved, catalog, KEYS, [source], most=most)
        assert (lost.commits, lost.archived, lost.unknown) == (4, 3, None)
        assert lost.keys == len(lost.first) == min(most, 4)
        assert lost.is_partial == (most <= 4)
        assert lost.highest >= source.head()


def test_a_backup_that_was_pruned_before_its_lease(tmp_path: Path) -> None:
    with MemoryStore(SCHEMA) as source, MemoryStore(SCHEMA) as target:
        write(source, "put", "a")
        repository = a_repository(tmp_path)
        backup = back_up(source, repository)
        catalog = Catalog(repository)
        found = archive_of(catalog, KEYS)
        resolved = resolve(parse_target("latest"), found, text="latest")
        repository.delete(f"{folder_of(backup.id)}/{MANIFEST}")
        with pytest.raises(ConfigError, match="pruned at this moment"):
            restore(resolved, catalog, KEYS, target)
        assert note_of(target) is None, "nothing was begun"


def test_an_object_that_is_missing(tmp_path: Path) -> None:
    with MemoryStore(SCHEMA) as source, MemoryStore(SCHEMA) as target:
        write(source, "put", "a")
        repository = a_repository(tmp_path)
        backup = back_up(source, repository)
        catalog = Catalog(repository)
        found = archive_of(catalog, KEYS)
        resolved = resolve(parse_target("latest"), found, text="latest")
        repository.delete(backup.parts[0].name)
        with pytest.raises(CorruptFile, match="is missing"):
            restore(resolved, catalog, KEYS, target)


class ReadOnly(FolderRepository):
    """A repository whose folder this user may only read."""

    @override
    def put(
        self, name: str, content: Iterable[bytes], *, create_only: bool = False
    ) -> int:
        raise ConfigError(f"{name}: permission denied. Correct the permissions.")


def test_a_repository_that_may_only_be_read(tmp_path: Path) -> None:
    with MemoryStore(SCHEMA) as source, MemoryStore(SCHEMA) as target:
        write(source, "put", "a")
        back_up(source, a_repository(tmp_path))
        catalog = Catalog(ReadOnly(Directory(tmp_path)))
        to(catalog, "latest", target)
        assert canonical(target) == canonical(source)
