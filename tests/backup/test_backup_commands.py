"""The commands create, archive, list, show and verify, in an environment of its own."""

from __future__ import annotations

import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest

import pend_storage as ps
from pend_storage.backup._archive import LEASE as ARCHIVE
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._creation import LEASE as CREATE
from pend_storage.backup._opening import open_repository
from pend_storage.schema import AUDIT
from pend_storage.stores.json import JsonStore
from pend_storage.testing.domain import SCHEMA, Tally, a_ship, a_tally
from tests.integration.cli.conftest import Site

NUMBER = "0123456789-a-phone-number"

CONFIG = """
[environments.development]
phase = "json-only"
schema = "pend_storage.testing.domain"
[environments.development.json]
directory = "data"
[environments.development.backup]
repository = "repository"
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a JSON directory, one file that no layout claims, and a repository."""
    made = Site(tmp_path, "")
    made.configure(CONFIG)
    made.data.mkdir()
    (made.data / "strange.json").write_text(f'{{"phone": "{NUMBER}"}}')
    with JsonStore(SCHEMA, made.data) as store:
        for number in range(10):
            store.collection("ships").put(a_ship(id=f"s{number}", name=NUMBER))
    return made


def write(site: Site, value: int) -> None:
    with JsonStore(SCHEMA, site.data) as store:
        store.collection(Tally).put(a_tally(name="t", value=value))


def parts(site: Site) -> list[Path]:
    return sorted((site.path / "repository" / "backups").rglob("*.zst*"))


def flip(path: Path) -> None:
    text = bytearray(path.read_bytes())
    text[len(text) // 2] ^= 1
    path.write_bytes(bytes(text))


def test_a_backup_is_made_listed_shown_and_verified(site: Site) -> None:
    made = site.ok("backup", "create", "--label", "before the release", "--keep")
    assert made["records"] == 10
    write(site, 1)
    archived = site.ok("backup", "archive")
    assert archived["commits"] == 11
    listing = site.ok("backup", "list")
    [backup] = listing["backups"]
    assert backup["id"] == made["id"]
    assert backup["label"] == "before the release"
    assert backup["state"] == "verified"
    assert backup["pinned"] is True
    assert backup["drilled_at"] is None
    assert backup["window"]["earliest"]["sequence"] == "10"
    assert backup["window"]["latest"]["sequence"] == "11"
    assert backup["window"]["gap"] is None
    shown = site.ok("backup", "show", made["id"][-6:])
    assert shown["collections"]["ships"]["rows"] == 10
    assert list(shown["files"]) == ["strange.json"]
    for more in (["--all"], [made["id"], "--deep"]):
        verified = site.ok("backup", "verify", *more)
        assert verified["backups"] == [made["id"]]
        assert verified["damaged"] == []
    again = site.ok("backup", "list")["backups"][0]
    assert again["verified_at"] > backup["verified_at"]
    for command in ("list", "show snapshot", "verify"):
        text = site.run("backup", *command.split())
        assert text.code == 0, text
        assert made["id"] in text.out or "whole" in text.out


def test_damage_is_found_and_kept(site: Site) -> None:
    made = site.ok("backup", "create")
    other = site.ok("backup", "create")
    part = next(p for p in parts(site) if made["id"] in str(p))
    flip(part)
    result = site.run("backup", "verify", "--json")
    assert result.code == 1
    [damage] = result.document["damaged"]
    assert damage["name"] in str(part)
    assert damage["affected"] == [made["id"]]
    listing = site.run("backup", "list", "--json")
    assert listing.code == 1
    states = {b["id"]: b["state"] for b in listing.document["backups"]}
    assert states == {made["id"]: "damaged", other["id"]: "verified"}
    assert site.run("backup", "verify", other["id"]).code == 0
    assert site.run("backup", "verify", made["id"]).code == 1
    assert site.run("backup", "show", made["id"]).code == 1


def test_a_missing_part_and_a_damaged_manifest_are_found(site: Site) -> None:
    made = site.ok("backup", "create")
    parts(site)[0].unlink()
    other = site.ok("backup", "create")
    flip(site.path / "repository" / "backups" / other["id"] / "manifest.json")
    result = site.run("backup", "verify", "--json")
    assert result.code == 1
    found = {d["affected"][0]: d["reason"] for d in result.document["damaged"]}
    assert found[made["id"]] == "it is missing"
    assert "not what was written" in found[other["id"]]
    assert site.run("backup", "verify", made["id"]).code == 1
    assert site.run("backup", "list").code == 1


def test_a_segment_taken_from_the_middle_is_a_gap(site: Site) -> None:
    made = site.ok("backup", "create")
    for value in range(3):
        write(site, value)
        site.ok("backup", "archive")
    log = site.path / "repository" / "log"
    manifests = sorted(log.glob("*.json"))
    removed = manifests[1]
    for path in log.glob(f"{removed.stem}*"):
        path.unlink()
    listing = site.run("backup", "list", "--json")
    assert listing.code == 1
    assert len(listing.document["gaps"]) == 1
    window = listing.document["backups"][0]["window"]
    assert window["latest"]["sequence"] == "11"
    assert "is missing" in window["gap"]
    result = site.run("backup", "verify", "--json")
    assert result.code == 1
    assert result.document["damaged"][0]["affected"] == [made["id"]]
    assert site.run("backup", "verify", made["id"]).code == 1


def test_a_damaged_segment_leaves_the_backup_good(site: Site) -> None:
    made = site.ok("backup", "create")
    write(site, 1)
    site.ok("backup", "archive")
    [segment] = (site.path / "repository" / "log").glob("*.zst")
    flip(segment)
    result = site.run("backup", "verify", "--json")
    assert result.code == 1
    [damage] = result.document["damaged"]
    assert damage["affected"] == [made["id"]]
    listing = site.run("backup", "list", "--json")
    assert listing.code == 1
    [backup] = listing.document["backups"]
    assert backup["state"] == "verified"
    assert segment.name in backup["log_faults"][0]


def test_a_gap_of_the_log_is_found_once(site: Site) -> None:
    site.ok("backup", "create")
    write(site, 1)
    site.ok("backup", "archive")
    shutil.rmtree(site.data / ".pend-storage")
    write(site, 2)
    result = site.run("backup", "archive", "--json")
    assert result.code == 1, result.out + result.err
    assert len(result.document["gaps"]) == 1
    assert site.run("backup", "archive").code == 0
    listing = site.run("backup", "list", "--json")
    assert listing.code == 1
    assert listing.document["gaps"]


def test_two_at_once_are_refused(site: Site) -> None:
    site.ok("backup", "create")
    repository = open_repository(str(site.path / "repository"))
    for lease, command in ((CREATE, "create"), (ARCHIVE, "archive")):
        with repository.lease(lease):
            result = site.run("backup", command, "--json")
        assert result.code == 3, result.out
        assert result.document["error"]["type"] == "LockTimeout"


def test_no_repository_is_a_wrong_configuration(site: Site) -> None:
    site.configure(CONFIG.partition("[environments.development.backup]")[0])
    for command in ("create", "archive", "list", "verify"):
        result = site.run("backup", command)
        assert result.code == 2, result.out + result.err
        assert "no repository of backups is configured" in result.err
    assert site.run("backup", "verify", "x", "--all").code == 2


def test_commands_that_look_write_no_repository(site: Site) -> None:
    for command in ("list", "verify"):
        assert site.run("backup", command).code == 2
    assert not (site.path / "repository").exists()


def test_an_unknown_id_is_refused_with_a_suggestion(site: Site) -> None:
    made = site.ok("backup", "create")
    wrong = made["id"][:-1] + ("0" if made["id"][-1] != "0" else "1")
    result = site.run("backup", "show", wrong)
    assert result.code == 2
    assert f"did you mean {made['id']!r}" in result.err


def test_nothing_secret_is_shown_or_stored_in_the_clear(site: Site) -> None:
    identity = pyrage.x25519.Identity.generate()
    site.configure(CONFIG + f'encrypt_to = ["{identity.to_public()}"]\n')
    outputs = [
        site.run("backup", *command.split())
        for command in (
            "create -vv",
            "archive -vv",
            "list --json",
            "list",
            "show snapshot --json",
            "show snapshot",
            "verify --deep -vv",
        )
    ]
    assert all(result.code == 0 for result in outputs), outputs
    known = {"PEND_BACKUP_IDENTITY": str(identity)}
    outputs.append(site.run("backup", "verify", "--deep", "--json", **known))
    assert outputs[-1].document["unread"] == []
    assert outputs[-1].code == 0
    wrong = str(pyrage.x25519.Identity.generate())
    outputs.append(site.run("backup", "verify", PEND_BACKUP_IDENTITY=wrong))
    assert outputs[-1].code == 1
    assert site.ok("backup", "list")["backups"][0]["state"] == "verified"
    for result in outputs:
        assert NUMBER not in result.out + result.err
        assert str(identity) not in result.out + result.err
    for path in (site.path / "repository").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
        if path.is_file():
            text = path.read_bytes()
            assert NUMBER.encode() not in text
            assert str(identity).encode() not in text


def test_following_ends_after_the_segment_under_way(site: Site) -> None:
    site.ok("backup", "create")
    process = subprocess.Popen(
        [
            *site.command("backup", "archive", "--follow", "--json"),
            "--interval",
            "0.1",
        ],
        cwd=site.path,
        env=site.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for value in range(3):
            write(site, value)
            deadline = time.monotonic() + 60
            while _archived(site) < 11 + value:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert '"ok":true' in out
    assert site.ok("backup", "archive")["commits"] == 0
    assert site.run("backup", "list").code == 0


def _archived(site: Site) -> int:
    """Return the sequence up to which the log is archived."""
    repository = open_repository(str(site.path / "repository"))
    return max((s.upto for s in Catalog(repository).segments()), default=0)


@pytest.fixture
def both(tmp_path: Path, new_migrated_database: Callable[[ps.Schema], str]) -> Site:
    """A site with both stores."""
    made = Site(tmp_path, new_migrated_database(SCHEMA))
    made.configure(
        CONFIG + f'[environments.development.postgres]\nurl = "{made.url}"\n'
    )
    made.data.mkdir()
    with JsonStore(SCHEMA, made.data) as store:
        for number in range(10):
            store.collection("ships").put(a_ship(id=f"s{number}"))
    return made


def test_a_backup_removes_the_blocker_of_a_pair(both: Site) -> None:
    site = both
    site.ok("phase", "set", "parallel")
    site.run("db", "validate")
    before = site.run("phase", "advance", "--dry-run", "--json").document
    assert "backup" in {b["code"] for b in before["blockers"]}
    made = site.ok("backup", "create")
    assert made["note"] is None
    after = site.run("phase", "advance", "--dry-run", "--json").document
    assert "backup" not in {b["code"] for b in after["blockers"]}


def test_a_pair_is_archived_through_its_switches(both: Site) -> None:
    site = both
    site.ok("phase", "set", "parallel")
    with ps.open_store(site.config) as store:
        assert isinstance(store, ps.DualWriteStore)
        store.backfill()
    made = site.ok("backup", "create")
    accept = [
        word
        for code in ("validation", "lag", "quarantine", "backup", "unclaimed")
        for word in ("--accept", code)
    ]
    value = 0

    def write_some() -> None:
        nonlocal value
        with ps.open_store(site.config) as store:
            for _ in range(3):
                value += 1
                store.collection(Tally).put(a_tally(name="t", value=value))

    commits = site.ok("backup", "archive")["commits"]
    for phase in ("postgres-primary", "parallel"):
        write_some()
        commits += site.ok("backup", "archive")["commits"]
        write_some()
        site.ok("phase", "set", phase, *accept)
        write_some()
    commits += site.ok("backup", "archive")["commits"]
    with ps.open_store(site.config) as store:
        noted = sorted(row.record.action for row in store.scan(AUDIT))
    # Each of the three switches has an entry, and the last two sealed those before them.
    assert noted == ["seal"] * 2 + ["switch"] * 3
    assert commits == 10 + value + len(noted)
    listing: dict[str, Any] = site.ok("backup", "list")
    [backup] = listing["backups"]
    assert backup["window"]["gap"] is None
    assert backup["window"]["latest"]["epoch"] > made["point"]["epoch"]
    site.ok("phase", "set", "postgres-primary", *accept)
    second = site.ok("backup", "create")
    assert second["point"]["identity"] != made["point"]["identity"]
    newest = site.ok("backup", "list")["backups"][1]
    assert newest["side"] == "postgres"
    assert newest["server"].split(".")[0].isdecimal()
    assert site.ok("backup", "verify", "--deep")["damaged"] == []
