"""Creation of a backup: published at the end, or never; alone; exact."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pend_storage import DualWriteStore, MemoryStore, crashpoints
from pend_storage._model.snapshots import StoredRow
from pend_storage.backup import _creation as creation
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._creation import (
    LEASE,
    Description,
    create_snapshot,
    remove_interrupted,
)
from pend_storage.backup._log_reading import Source, source_of
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._snapshot_files import read_rows
from pend_storage.backup._streams import Keys
from pend_storage.backup._verify import verify_backup
from pend_storage.errors import CorruptFile, LockTimeout, StoreUnavailable
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.testing import run_until_crash
from pend_storage.testing.crash import Report
from pend_storage.testing.domain import SCHEMA, Tally, a_ship, a_tally

ABOUT = Description(environment="production", library="1")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(str(tmp_path / "repository"), create=True)


def create(repository: Repository, *stores: Store) -> BackupManifest:
    with repository.lease(LEASE, wait=10) as lease:
        remove_interrupted(Catalog(repository), lease)
        return create_snapshot(stores, repository, Keys(), lease, ABOUT)


def rows(repository: Repository, manifest: BackupManifest) -> list[StoredRow]:
    return [row for _, row in read_rows(repository, manifest, Keys())]


def test_a_backup_has_what_the_store_has(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    ships = store.collection("ships")
    for number in range(20):
        ships.put(a_ship(id=f"s{number}"))
    ships.delete("s3")
    manifest = create(repository, store)
    found = {row.key: row for row in rows(repository, manifest)}
    stored = {row.key: row for row in store.scan("ships", deleted=True)}
    assert {key: row.version for key, row in found.items()} == {
        key: row.version for key, row in stored.items()
    }
    assert found["s3"].body is None
    assert manifest.point.sequence == store.head()
    assert manifest.point.identity == store.identity()
    assert manifest.verified_at is not None
    assert Catalog(repository).backups() == [manifest]
    assert verify_backup(repository, manifest, Keys(), schema=SCHEMA) == []


def test_the_cut_is_exact_under_writers(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    ended = threading.Event()
    with JsonStore(SCHEMA, tmp_path / "data") as store:

        def work(name: str) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                with store.transaction() as tx:
                    for half in ("a", "b"):
                        tx.collection(Tally).put(
                            a_tally(name=f"{name}{half}", value=number)
                        )

        writers = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
        for writer in writers:
            writer.start()
        try:
            backups = [create(repository, store) for _ in range(4)]
        finally:
            ended.set()
            for writer in writers:
                writer.join()
        log = list(store.changes())
    for manifest in backups:
        expected = {
            record.key: record.version
            for change in log
            if change.sequence <= manifest.point.sequence
            for record in change.records
        }
        found = {row.key: row.version for row in rows(repository, manifest)}
        assert found == expected


@pytest.fixture
def pair() -> Iterator[DualWriteStore]:
    with DualWriteStore(
        json=MemoryStore(SCHEMA), postgres=MemoryStore(SCHEMA), relay_interval=None
    ) as store:
        yield store


def test_the_primary_is_backed_up_whichever_it_is(
    pair: DualWriteStore, repository: Repository
) -> None:
    accept = ["validation", "lag", "quarantine", "backup", "unclaimed"]
    pair.switch("parallel", accept=accept)
    pair.backfill()
    json, postgres = pair.stores
    for store, phase in (
        (json, "postgres-primary"),
        (postgres, "parallel"),
        (json, ""),
    ):
        pair.collection("ships").put(a_ship(id=f"s{phase}"))
        manifest = create(repository, *pair.stores)
        assert manifest.point.identity == store.identity()
        assert manifest.point.epoch == store.role().epoch
        if phase:
            pair.catch_up()
            pair.switch(phase, accept=accept)
    known = Catalog(repository).backups()
    places = [(m.point.epoch, m.point.sequence) for m in known]
    assert places == sorted(places)


# -- interrupted, and alone -----------------------------------------------------------------


def _create_in_child(report: Report, directory: Path, place: str) -> None:
    with JsonStore(SCHEMA, directory) as store:
        report(create(open_repository(place), store).id)


@pytest.mark.parametrize(
    ("point", "published"),
    [
        ("backup.part-written", False),
        ("backup.verified", False),
        ("backup.published", True),
        ("lease.taken", False),
    ],
)
def test_a_kill_leaves_nothing_half(
    repository: Repository, tmp_path: Path, point: str, *, published: bool
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    with JsonStore(SCHEMA, directory) as store:
        for number in range(10):
            store.collection("ships").put(a_ship(id=f"s{number}"))
    place = str(tmp_path / "repository")
    outcome = run_until_crash(_create_in_child, directory, place, point=point)
    assert outcome.killed, outcome.errors
    assert len(Catalog(repository).backups()) == published
    assert Catalog(repository).damaged() == []
    with JsonStore(SCHEMA, directory) as store:
        manifest = create(repository, store)
    known = Catalog(repository)
    assert len(known.backups()) == 1 + published
    assert known.interrupted() == []
    assert verify_backup(repository, manifest, Keys(), schema=SCHEMA) == []


def test_a_second_creator_waits_or_is_refused(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    with (
        repository.lease(LEASE),
        pytest.raises(LockTimeout, match="create"),
        repository.lease(LEASE),
    ):
        pytest.fail("two creators at once")
    assert create(repository, store).id


def test_what_is_damaged_on_its_way_is_not_published(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    store.collection("ships").put(a_ship(id="s1"))

    def damage(point: str) -> None:
        if point == "backup.part-written":
            [name] = Catalog(repository).interrupted()
            text = bytearray(repository.read(name))
            text[-9] ^= 1
            repository.put(name, [bytes(text)])

    with crashpoints.handled(damage), pytest.raises(CorruptFile):
        create(repository, store)
    assert Catalog(repository).backups() == []
    create(repository, store)
    assert Catalog(repository).interrupted() == []


def test_a_lost_part_is_not_published(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    store.collection("ships").put(a_ship(id="s1"))

    def lose(point: str) -> None:
        if point == "backup.part-written":
            for name in Catalog(repository).interrupted():
                repository.delete(name)

    with crashpoints.handled(lose), pytest.raises(CorruptFile, match="not there"):
        create(repository, store)
    assert Catalog(repository).backups() == []


def test_a_lost_lease_publishes_nothing(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    store.collection("ships").put(a_ship(id="s1"))

    def require() -> None:
        raise LockTimeout(path="create", seconds=0)

    with (
        repository.lease(LEASE) as lease,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(lease, "require", require)
        with pytest.raises(LockTimeout):
            create_snapshot([store], repository, Keys(), lease, ABOUT)
    assert Catalog(repository).backups() == []


def test_a_repository_without_room_is_refused_before_anything_is_written(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(SCHEMA)
    store.collection("ships").put(a_ship(id="s1"))
    monkeypatch.setattr(creation, "_RESERVE", 1 << 62)
    with pytest.raises(StoreUnavailable, match="make room"):
        create(repository, store)
    assert repository.list("backups/") == []


def test_a_switch_between_is_tried_again(
    pair: DualWriteStore, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = ["validation", "lag", "quarantine", "backup", "unclaimed"]
    pair.switch("parallel", accept=accept)
    pair.backfill()
    pair.collection("ships").put(a_ship(id="s1"))
    pair.catch_up()
    calls: list[Source] = []

    def switching(stores: tuple[Store, ...]) -> Source:
        source = source_of(stores)
        if not calls:
            pair.switch("postgres-primary", accept=accept)
        calls.append(source)
        return source

    monkeypatch.setattr(creation, "source_of", switching)
    manifest = create(repository, *pair.stores)
    assert len(calls) == 2
    assert manifest.point.identity == pair.stores[1].identity()
