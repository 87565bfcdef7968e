"""Catalog: what is listed is complete; the rest is named with its reason."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pend_storage.backup._catalog import Catalog
from pend_storage.backup._manifest import FORMAT, pack
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.errors import ConfigError
from tests.backup.snapshots_made import a_manifest, flip, harbour, publish, write_backup


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(str(tmp_path / "repository"), create=True)


def ids(repository: Repository) -> list[str]:
    return [manifest.id for manifest in Catalog(repository).backups()]


def test_backups_are_listed_in_the_order_of_their_ends(repository: Repository) -> None:
    for hour in (3, 1, 2):
        manifest = a_manifest(f"b-{hour}")
        publish(
            repository,
            msgspec.structs.replace(
                manifest, finished_at=f"2026-01-31T0{hour}:00:00+00:00"
            ),
        )
    assert ids(repository) == ["b-1", "b-2", "b-3"]


def test_many_manifests_are_read(repository: Repository) -> None:
    for number in range(30):
        publish(repository, a_manifest(f"b-{number:02d}"))
    assert len(ids(repository)) == 30


def test_what_has_no_manifest_is_not_listed(repository: Repository) -> None:
    manifest = write_backup(repository, harbour())
    repository.delete(f"backups/{manifest.id}/manifest.json")
    catalog = Catalog(repository)
    assert catalog.backups() == []
    assert catalog.damaged() == []
    assert catalog.interrupted() == sorted(part.name for part in manifest.parts)


def test_a_damaged_manifest_is_named(repository: Repository) -> None:
    manifest = write_backup(repository, harbour())
    flip(repository, f"backups/{manifest.id}/manifest.json", 40)
    catalog = Catalog(repository)
    assert catalog.backups() == []
    [damage] = catalog.damaged()
    assert damage.backup == manifest.id
    assert catalog.interrupted() == []


def test_a_missing_part_and_one_of_another_size_are_named(
    repository: Repository,
) -> None:
    first = write_backup(repository, harbour(), backup_id="first")
    second = write_backup(repository, harbour(), backup_id="second")
    repository.delete(first.parts[0].name)
    repository.put(second.parts[1].name, [b"short"])
    catalog = Catalog(repository)
    assert catalog.backups() == []
    found = {damage.name: damage.reason for damage in catalog.damaged()}
    assert found[first.parts[0].name] == "it is missing"
    assert "5 bytes" in found[second.parts[1].name]


def test_a_copied_manifest_is_no_backup(repository: Repository) -> None:
    manifest = write_backup(repository, harbour())
    text = repository.read(f"backups/{manifest.id}/manifest.json")
    repository.put("backups/other/manifest.json", [text])
    assert ids(repository) == [manifest.id]
    [damage] = Catalog(repository).damaged()
    assert damage.backup == "other"


def test_a_manifest_of_a_newer_version_is_refused(repository: Repository) -> None:
    newer = msgspec.structs.replace(a_manifest("x"), format=FORMAT + 1)
    repository.put("backups/x/manifest.json", [pack(newer)])
    with pytest.raises(ConfigError, match="Upgrade it"):
        Catalog(repository).backups()


def test_a_part_of_an_id_is_enough(repository: Repository) -> None:
    for name in (
        "20260131T120000Z-snapshot-aaaaaa",
        "20260131T130000Z-snapshot-aabbcc",
    ):
        publish(repository, a_manifest(name))
    catalog = Catalog(repository)
    assert catalog.backup("aabbcc").id.endswith("aabbcc")
    assert catalog.backup("20260131T12").id.endswith("aaaaaa")
    with pytest.raises(ConfigError, match="names 2 backups"):
        catalog.backup("snapshot")
    with pytest.raises(ConfigError, match="did you mean '20260131T130000Z"):
        catalog.backup("20260131T130000Z-snapshot-aabbcd")
    for word in ("", "aab", "nothing"):
        with pytest.raises(ConfigError, match=r"there is no backup|names 2"):
            catalog.backup(word)


def test_a_damaged_backup_is_refused_as_damaged(repository: Repository) -> None:
    manifest = write_backup(repository, harbour())
    repository.delete(manifest.parts[0].name)
    with pytest.raises(ConfigError, match="is damaged"):
        Catalog(repository).backup(manifest.id)


def test_facts_are_kept_in_their_order(repository: Repository) -> None:
    catalog = Catalog(repository)
    catalog.add_fact("b", "verified", ok=True, detail={"deep": True})
    catalog.add_fact("b", "verified", ok=False, detail={})
    catalog.add_fact("c", "pinned", ok=True, detail={})
    found = Catalog(repository).facts("b")
    assert [(f.kind, f.ok) for f in found] == [("verified", True), ("verified", False)]
    assert found[0].detail == {"deep": True}
    assert [f.kind for f in catalog.facts("c")] == ["pinned"]
