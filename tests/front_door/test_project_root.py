"""The JSON files lie in the root of a project, beside its code and its tools."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

import pend_storage as ps
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json._unclaimed_files import DATA, is_included
from tests.front_door.conftest import Site, put

_WALLETS = {f"0x{1:064x}": f"0x{1:040x}"}


@pytest.fixture
def project(site: Site) -> Site:
    put(site.path / "wallet-db.json", _WALLETS)
    for name in (
        "package.json",
        ".git/config.json",
        ".venv/lib/data.json",
        "env/lib/data.json",
        "node_modules/left-pad/package.json",
        "src/__pycache__/a.json",
        "x-backup-20260131T120000Z/data/b.json",
    ):
        put(site.path / name, {})
    (site.path / "env" / "pyvenv.cfg").touch()
    (site.path / "server.py").write_text("import json\n")
    site.configure(site.config.read_text().replace('"data"', '"."'))
    return site


def test_what_belongs_to_tools_is_neither_copied_nor_told_of(
    project: Site, tmp_path: Path
) -> None:
    project.ok("db", "migrate")
    project.ok("db", "seed")

    result = project.run(
        "migrate", "json", "--backup-to", str(tmp_path / "copies"), "--json"
    )

    document = result.document["result"]
    copied = json.loads(
        (Path(document["backup"]["path"]) / "manifest.json").read_text()
    )
    assert result.code == 0, result.out
    assert set(copied["files"]) == {"data/wallet-db.json", "data/package.json"}
    assert document["unclaimed"] == [str(project.path / "package.json")]


def test_patterns_say_which_files_are_data(project: Site) -> None:
    project.configure(
        project.config.read_text().replace(
            'directory = "."', 'directory = "."\ninclude = ["*.json", "!package.json"]'
        )
    )

    status = project.run("doctor", "--json")

    checks = {f["check"] for f in status.document["result"]["findings"]}
    assert "unclaimed files" not in checks


def test_one_command_tells_of_them_once(project: Site) -> None:
    project.ok("db", "migrate")
    project.ok("db", "seed")

    first = project.run("migrate", "json", "--no-backup")
    later = project.run("quarantine", "list")
    doctor = project.run("doctor")

    assert (first.out + first.err).count("package.json") == 1
    assert "package.json" not in later.out + later.err
    assert (doctor.out + doctor.err).count("package.json") == 1


def test_a_copy_keeps_what_the_store_keeps(tmp_path: Path) -> None:
    from pend_storage.backup import copy_directory
    from pend_storage.stores.json import keeper_of

    data = tmp_path / "data"
    put(data / "wallet-db.json", _WALLETS)
    put(data / "deep" / "odd.txt", {})
    (data / "notes.txt").touch()
    ps.JsonStore(SCHEMA, data, layouts=LAYOUTS).close()

    copy = copy_directory(data, keeps=keeper_of({"wallet-db.json", "deep/odd.txt"}))

    names = {str(p.relative_to(copy.path / "data")) for p in copy.path.rglob("*")
             if p.is_file() and p.is_relative_to(copy.path / "data")}  # fmt: skip
    own = {name for name in names if name.startswith(".pend-storage/")}
    assert names - own == {"wallet-db.json", "deep/odd.txt", "user_profiles.json"}
    assert {str(p.relative_to(data)) for p in data.glob(".pend-storage/**/*")
            if p.is_file()} == own  # fmt: skip


@pytest.mark.parametrize(
    ("path", "patterns", "included"),
    [
        ("a.json", DATA, True),
        ("deep/a.jsonl", DATA, True),
        ("DEEP/A.JSON", DATA, True),
        ("A.Jsonl", ("*.jsonl",), True),
        ("A.json", ("a.json",), False),
        ("a.txt", DATA, False),
        ("deep/a.json", ("/*.json",), False),
        ("a.json", ("/*.json",), True),
        ("package.json", ("*.json", "!package.json"), False),
        ("deep/package.json", ("*.json", "!/package.json"), True),
        ("package.json", ("!package.json", "*.json"), True),
        ("a.json", (), False),
    ],
)
def test_of_the_patterns_that_fit_the_last_one_decides(
    path: str, patterns: tuple[str, ...], included: bool
) -> None:
    assert is_included(PurePosixPath(path), patterns) is included
