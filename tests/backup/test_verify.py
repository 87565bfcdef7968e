"""Verification: every damage is found, and each backup that it affects is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pyrage
import pytest

from pend_storage import MemoryStore
from pend_storage._model.snapshots import StoredRow
from pend_storage.backup._archive import LEASE, Archiver
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._segments import manifest_name
from pend_storage.backup._streams import Keys
from pend_storage.backup._verify import (
    Verifying,
    log_damage,
    verify_backup,
    with_affected,
)
from pend_storage.errors import ConfigError
from pend_storage.testing.domain import SCHEMA, Tally, a_berth, a_cargo, a_tally
from tests.backup.snapshots_made import encoded, flip, harbour, publish, write_backup


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(str(tmp_path / "repository"), create=True)


def faults(
    repository: Repository,
    manifest: BackupManifest,
    *,
    deep: bool = False,
    rows: bool = True,
) -> list[str]:
    schema = SCHEMA if deep else None
    found = verify_backup(repository, manifest, Keys(), schema=schema, rows=rows)
    assert all(damage.backup == manifest.id for damage in found)
    return [damage.reason for damage in found]


def test_a_whole_backup_has_no_damage(repository: Repository) -> None:
    manifest = write_backup(repository, harbour(300))
    assert faults(repository, manifest) == []
    assert faults(repository, manifest, deep=True) == []


@pytest.fixture(params=[True, False], ids=["rows", "hashes"])
def rows(request: pytest.FixtureRequest) -> bool:
    """Whether each row is read, or only what it is stored in."""
    read: bool = request.param
    return read


def test_a_flipped_byte_at_every_place_is_found(
    repository: Repository, rows: bool
) -> None:
    manifest = write_backup(repository, harbour(20))
    for part in manifest.parts:
        for place in range(0, part.size, 11):
            before = flip(repository, part.name, place)
            [damage] = verify_backup(repository, manifest, Keys(), rows=rows)
            assert damage.name == part.name
            repository.put(part.name, [before])
    assert faults(repository, manifest) == []


def test_every_truncation_is_found(repository: Repository, rows: bool) -> None:
    manifest = write_backup(repository, harbour(20))
    part = manifest.parts[0]
    text = repository.read(part.name)
    for size in range(0, part.size, 9):
        repository.put(part.name, [text[:size]])
        assert faults(repository, manifest, rows=rows)
    repository.put(part.name, [text + text])  # a second frame after the first
    assert faults(repository, manifest, rows=rows)
    repository.delete(part.name)
    assert faults(repository, manifest, rows=rows) == ["it is missing"]


def test_rows_that_are_not_counted_are_found(
    repository: Repository, rows: bool
) -> None:
    manifest = write_backup(repository, harbour(300), part_bytes=10_000)
    assert faults(repository, manifest, rows=rows) == []
    fewer = tuple(p for p in manifest.parts if p is not manifest.parts[2])
    short = msgspec.structs.replace(manifest, parts=fewer)
    [reason] = faults(repository, short, rows=rows)
    assert "of ships" in reason
    assert "written" in reason


def test_a_backup_with_damage_in_one_part_names_that_part_only(
    repository: Repository,
) -> None:
    manifest = write_backup(repository, harbour(300), part_bytes=10_000)
    flip(repository, manifest.parts[2].name, 100)
    [damage] = verify_backup(repository, manifest, Keys())
    assert damage.name == manifest.parts[2].name


def test_an_unknown_kind_is_refused(repository: Repository) -> None:
    manifest = write_backup(repository, harbour())
    other = msgspec.structs.replace(manifest, kind="physical")
    with pytest.raises(ConfigError, match="kind physical"):
        verify_backup(repository, other, Keys())


# -- records --------------------------------------------------------------------------------


def deep_faults(repository: Repository, rows: dict[str, list[StoredRow]]) -> list[str]:
    manifest = write_backup(repository, rows)
    assert faults(repository, manifest) == []
    return faults(repository, manifest, deep=True)


def test_a_record_that_is_none_of_its_schema_is_found(repository: Repository) -> None:
    [fault] = deep_faults(repository, {"ships": [StoredRow("s1", 1, b'{"id":"s1"}')]})
    assert fault.startswith("ships['s1']: ")


def test_a_record_with_another_key_is_found(repository: Repository) -> None:
    row = encoded("berths", a_berth(id="b1"), 1)
    [fault] = deep_faults(repository, {"berths": [row._replace(key="b2")]})
    assert "another key" in fault


def test_a_reference_that_leads_nowhere_is_found(repository: Repository) -> None:
    row = encoded("berths", a_berth(id="b1", neighbour_id="b9"), 1)
    [fault] = deep_faults(repository, {"berths": [row]})
    assert "berths['b1'].neighbour_id refers to berths['b9']" in fault


def test_a_reference_to_a_deleted_record_is_found(repository: Repository) -> None:
    row = encoded("berths", a_berth(id="b1", neighbour_id="b9"), 1)
    [fault] = deep_faults(repository, {"berths": [row, StoredRow("b9", 2, None)]})
    assert "which is not there" in fault


def test_a_value_that_occurs_twice_is_found(repository: Repository) -> None:
    berths = [a_berth(id=f"b{n}", pier="north", number=7) for n in (1, 2)]
    rows = [encoded("berths", berth, 1) for berth in berths]
    [fault] = deep_faults(repository, {"berths": rows})
    assert "berths['b2'] has the same pier, number as 'b1'" in fault
    others = [replace(berth, number=None) for berth in berths]
    rows = [encoded("berths", berth, 1) for berth in others]
    assert (
        faults(
            repository,
            write_backup(repository, {"berths": rows}, backup_id="nulls"),
            deep=True,
        )
        == []
    )


def test_records_of_another_schema_are_not_decoded(repository: Repository) -> None:
    manifest = write_backup(repository, harbour())
    other = msgspec.structs.replace(manifest, schema_fingerprint="0" * 16)
    verifying = Verifying(repository, Keys(), schema=SCHEMA)
    assert verifying.backup(other) == []
    assert verifying.undecoded == [manifest.id]


# -- encryption -----------------------------------------------------------------------------


def test_without_an_identity_the_stored_bytes_are_compared(
    repository: Repository,
) -> None:
    identity = pyrage.x25519.Identity.generate()
    sealed = Keys([str(identity.to_public())])
    manifest = write_backup(repository, harbour(), keys=sealed)
    verifying = Verifying(repository, sealed)
    assert verifying.backup(manifest) == []
    assert verifying.unread == [part.name for part in manifest.parts]
    whole = Verifying(repository, Keys(identities=[str(identity)]), schema=SCHEMA)
    assert whole.backup(manifest) == []
    assert whole.unread == []
    part = manifest.parts[0]
    flip(repository, part.name, part.size // 2)
    for keys in (sealed, Keys(identities=[str(identity)])):
        [damage] = Verifying(repository, keys).backup(manifest)
        assert damage.name == part.name


def test_an_identity_that_does_not_fit_is_a_fault(repository: Repository) -> None:
    identity = pyrage.x25519.Identity.generate()
    manifest = write_backup(
        repository, harbour(), keys=Keys([str(identity.to_public())])
    )
    other = str(pyrage.x25519.Identity.generate())
    found = Verifying(repository, Keys(identities=[other])).backup(manifest)
    assert len(found) == len(manifest.parts)
    assert "no identity that was given" in found[0].reason


# -- the log --------------------------------------------------------------------------------


@pytest.fixture
def archived(repository: Repository) -> Catalog:
    """Three segments of three commits each, after one another."""
    store = MemoryStore(SCHEMA)
    with repository.lease(LEASE) as lease:
        for number in range(3):
            for value in range(3):
                tally = a_tally(name="t", value=3 * number + value)
                store.collection(Tally).put(tally)
            Archiver([store], repository, Keys(), lease).run()
    catalog = Catalog(repository)
    entries = [s for s in catalog.segments() if s.entries]
    assert len(entries) == 3
    for number, segment in enumerate(entries):
        manifest = write_backup(repository, {}, backup_id=f"before-{number}")
        point = msgspec.structs.replace(
            manifest.point,
            identity=segment.identity,
            epoch=segment.epoch,
            sequence=segment.after,
        )
        repository.delete(f"backups/{manifest.id}/manifest.json")
        publish(repository, msgspec.structs.replace(manifest, point=point))
    return Catalog(repository)


def test_a_damaged_segment_names_the_backups_that_need_it(archived: Catalog) -> None:
    repository = archived.repository
    middle = [s for s in archived.segments() if s.entries][1]
    for place in range(0, middle.part.size, 13):
        before = flip(repository, middle.part.name, place)
        [damage] = Verifying(repository, Keys()).segment(middle)
        assert with_affected(archived, damage).affected == ("before-0", "before-1")
        repository.put(middle.part.name, [before])
    assert Verifying(repository, Keys(), schema=SCHEMA).segment(middle) == []


def test_a_damaged_manifest_of_a_segment_names_the_windows_that_it_cuts(
    archived: Catalog,
) -> None:
    middle = [s for s in archived.segments() if s.entries][1]
    flip(archived.repository, manifest_name(middle.id), 30)
    now = Catalog(archived.repository)
    [damage] = now.damaged()
    assert damage.name == manifest_name(middle.id)
    assert with_affected(now, damage).affected == ("before-0", "before-1")
    [gap] = log_damage(now)
    assert "is missing" in gap.reason


def test_a_segment_that_was_removed_is_damage(archived: Catalog) -> None:
    middle = [s for s in archived.segments() if s.entries][1]
    archived.repository.delete(manifest_name(middle.id))
    archived.repository.delete(middle.part.name)
    now = Catalog(archived.repository)
    assert now.damaged() == []
    [damage] = log_damage(now)
    assert set(with_affected(now, damage).affected) == {"before-0", "before-1"}


def test_entries_that_are_cut_off_are_found(archived: Catalog) -> None:
    segment = next(s for s in archived.segments() if s.entries)
    fewer = msgspec.structs.replace(segment, entries=segment.entries + 1)
    [damage] = Verifying(archived.repository, Keys()).segment(fewer)
    assert "3 entries, not 4" in damage.reason


def test_a_segment_with_a_record_of_no_schema_is_found_when_it_is_decoded(
    archived: Catalog,
) -> None:
    segment = next(s for s in archived.segments() if s.entries)
    other = msgspec.structs.replace(segment, identity="f" * 32)
    [damage] = Verifying(archived.repository, Keys()).segment(other)
    assert "another store" in damage.reason


def test_cargo_is_checked_with_its_references(repository: Repository) -> None:
    cargo = a_cargo(id="c1", ship_id="nowhere")
    [fault] = deep_faults(repository, {"cargo": [encoded("cargo", cargo, 1)]})
    assert "ships['nowhere']" in fault
