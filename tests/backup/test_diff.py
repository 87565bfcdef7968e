"""Comparisons by value: of what was restored, of backups, and of the live store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage.errors import ConfigError
from pend_storage.operations.backup.diff import diff
from pend_storage.operations.backup.restore import restore
from pend_storage.pend import User
from pend_storage.schema import Schema
from pend_storage.testing.domain import SCHEMA

from .sites import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Backup with a, b and old; since then a was changed, old deleted, new added."""
    made = Site.with_json(tmp_path_factory.mktemp("diff") / "site")
    made.write(("a", "good"), ("b", "good"), ("old", "x"))
    made.back_up()
    made.write(("a", "BAD"), ("old", None), ("new", "x"))
    made.archive()
    return made


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document = json.loads(capsys.readouterr().out)
    report: dict[str, Any] = document["result"]["report"]
    return report


def kinds(report: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["kind"] for item in report["divergences"]}


def backup_of(site: Site) -> str:
    (name,) = [p.name for p in (site.path / "repository" / "backups").iterdir()]
    return name


def test_a_backup_and_the_live_store(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.run("backup", "diff", backup_of(site), "--json") == 1
    report = found(capsys)
    assert kinds(report) == {"a": "different", "old": "missing", "new": "extra"}
    (changed,) = [d for d in report["divergences"] if d["key"] == "a"]
    assert changed["differences"] == [
        {"path": ["text"], "left": "good", "right": "BAD"}
    ]
    assert report["found"] == 3


def test_both_ways(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.run("backup", "diff", "live", backup_of(site), "--json") == 1
    assert kinds(found(capsys)) == {"a": "different", "old": "extra", "new": "missing"}


def test_the_end_of_the_archive_is_the_live_store(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.run("backup", "diff", "latest") == 0
    assert "equal: " in capsys.readouterr().out


def test_two_positions_of_the_archive(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.run("backup", "diff", "before:logs/old@5", "latest") == 1
    out = capsys.readouterr().out
    assert "logs['old'] only left" in out
    assert "logs['new'] only right" in out
    assert "logs['a']" not in out


@pytest.mark.parametrize("kind", ["json", "postgres"])
def test_a_restored_store_and_the_backup_it_is_from(
    site: Site,
    tmp_path: Path,
    new_migrated_database: Callable[[Schema], str],
    kind: str,
) -> None:
    side = str(tmp_path / "side") if kind == "json" else new_migrated_database(SCHEMA)
    restore(site.settings, backup_of(site), side)
    assert diff(site.settings, side, backup_of(site)).ok
    report = diff(site.settings, side).report
    assert (report.found, report.ok) == (3, False)


def test_one_collection_and_a_limit(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    name = backup_of(site)
    assert site.run("backup", "diff", name, "--collection", "tallies") == 0
    capsys.readouterr()
    assert site.run("backup", "diff", name, "--collection", "logs", "--limit", "1") == 1
    out = capsys.readouterr().out
    assert "and 2 more" in out
    assert "tallies" not in out
    assert site.run("backup", "diff", name, "--collection", "log") == 2
    assert "logs" in capsys.readouterr().err


def test_what_is_no_side(site: Site, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(ConfigError, match="has no store"):
        diff(site.settings, str(tmp_path / "plain"))
    assert not any((tmp_path / "plain").iterdir()), "it was not made one"
    with pytest.raises(ConfigError, match="is no target"):
        diff(site.settings, "no such side")
    with pytest.raises(ConfigError, match="begins without that"):
        diff(site.settings, "sqlite3://x")


def test_personal_values_are_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site.with_json(tmp_path / "site")
    config = site.path / "pend.toml"
    text = config.read_text().replace(
        "pend_storage.testing.domain", "pend_storage.pend"
    )
    config.write_text(text)
    user = User(
        phone_hash="0x" + "a" * 64,
        blockchain_address="0x" + "b" * 40,
        metadata={"city": "Utrecht"},
    )
    with site.open() as store:
        store.collection("users").put(user)
    site.back_up()
    with site.open() as store:
        later = replace(user, tier=3, metadata={"city": "Groningen"})
        store.collection("users").put(later)
    assert site.run("backup", "diff", backup_of(site)) == 1
    out = capsys.readouterr().out
    assert "tier: 0 is not 3" in out
    assert "metadata" in out
    assert "Utrecht" not in out
    assert "Groningen" not in out
