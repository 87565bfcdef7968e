"""Rows of a snapshot: written in parts, read back equal, and every damage is found."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._snapshot_files import read_rows
from pend_storage.backup._streams import Keys
from pend_storage.backup._unclaimed import file_contents, write_files
from pend_storage.errors import CorruptFile
from tests.backup.snapshots_made import flip, harbour, write_backup


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(str(tmp_path / "repository"), create=True)


def read(repository: Repository, manifest: BackupManifest) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for name, row in read_rows(repository, manifest, Keys()):
        found.setdefault(name, []).append(row)
    return found


def test_rows_are_read_as_they_were_written(repository: Repository) -> None:
    rows = harbour()
    manifest = write_backup(repository, rows)
    assert read(repository, manifest) == rows
    facts = manifest.collections["ships"]
    assert (facts.rows, facts.tombstones) == (49, 2)
    assert manifest.collections["logs"].rows == 0


def test_parts_have_one_collection_and_a_bounded_size(repository: Repository) -> None:
    manifest = write_backup(repository, harbour(300), part_bytes=10_000)
    parts = [part for part in manifest.parts if part.collection == "ships"]
    assert len(parts) > 3
    assert sum(part.items for part in parts) == 301
    assert max(part.content_size for part in manifest.parts) < 11_000
    assert len({part.name for part in manifest.parts}) == len(manifest.parts)


def test_a_part_can_be_read_alone(repository: Repository) -> None:
    manifest = write_backup(repository, harbour())
    found = list(read_rows(repository, manifest, Keys(), collections=["berths"]))
    assert [name for name, _ in found] == ["berths"] * 5


def test_a_flipped_byte_at_every_place_of_a_part_is_found(
    repository: Repository,
) -> None:
    manifest = write_backup(repository, harbour(30))
    for part in manifest.parts:
        for place in range(0, part.size, 7):
            before = flip(repository, part.name, place)
            with pytest.raises(CorruptFile):
                read(repository, manifest)
            repository.put(part.name, [before])
    assert read(repository, manifest) == harbour(30)


def test_a_truncated_part_is_found(repository: Repository) -> None:
    manifest = write_backup(repository, harbour(30))
    part = manifest.parts[-1]
    text = repository.read(part.name)
    for size in range(0, part.size, 5):
        repository.put(part.name, [text[:size]])
        with pytest.raises(CorruptFile):
            read(repository, manifest)


def test_a_missing_part_is_found(repository: Repository) -> None:
    manifest = write_backup(repository, harbour())
    repository.delete(manifest.parts[1].name)
    with pytest.raises(FileNotFoundError):
        read(repository, manifest)


def test_a_part_of_another_backup_is_found(repository: Repository) -> None:
    manifest = write_backup(repository, harbour(30))
    point = msgspec.structs.replace(manifest.point, sequence=501)
    with pytest.raises(CorruptFile, match="another backup"):
        read(repository, msgspec.structs.replace(manifest, point=point))


def test_rows_that_a_manifest_does_not_count_are_found(repository: Repository) -> None:
    manifest = write_backup(repository, harbour(300), part_bytes=10_000)
    fewer = tuple(p for p in manifest.parts if p is not manifest.parts[2])
    with pytest.raises(CorruptFile, match="not those that were written"):
        read(repository, msgspec.structs.replace(manifest, parts=fewer))


def test_files_are_read_as_they_were_written(
    repository: Repository, tmp_path: Path
) -> None:
    contents = {
        "a.json": b"{}\n",
        "d/b.json": b'\n{"size": 3}\n\x00',
        "empty.json": b"",
    }
    files = {}
    for number, (name, data) in enumerate(contents.items()):
        files[name] = tmp_path / f"{number}.json"
        files[name].write_bytes(data)
    files["gone.json"] = tmp_path / "never"
    part, digests = write_files(files, repository, Keys(), folder="backups/x")
    assert dict(file_contents(repository, part, Keys())) == contents
    assert set(digests) == set(contents)
    assert part.items == 3
