"""Commands of root on what belongs to others: they become the owner, or refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.front_door.conftest import OPENS, Site, put
from tests.security.acting import OTHER, THIRD, give

_MODULE = """
import os, pathlib
import pend_storage as ps
from pend_storage.pend import LAYOUTS, SCHEMA
pathlib.Path(__file__).with_name("ran-as").write_text(f"{os.getresuid()} {os.getgroups()}")
"""


def owners(directory: Path) -> set[tuple[int, int]]:
    """Owner and group of everything below a directory."""
    found = [path.lstat() for path in directory.rglob("*")]
    return {(status.st_uid, status.st_gid) for status in found}


def with_module(app: Site, name: str = "own_schema", where: str = ".") -> Path:
    """Write a schema module beside the configuration, and name it there."""
    module = app.path / where / f"{name.rpartition('.')[2]}.py"
    module.parent.mkdir(exist_ok=True)
    module.write_text(_MODULE, encoding="utf-8")
    app.config.write_text(
        f'[environments.development]\nschema = "{name}"\n' + app.config.read_text()
    )
    return module


def test_a_command_becomes_the_owner_of_the_configuration(app: Site) -> None:
    with_module(app)
    put(app.data / "wallet-db.json", {f"0x{1:064x}": f"0x{1:040x}"})
    give(app.path, OTHER)

    result = app.run(*OPENS)

    assert result.code == 0, result.err
    assert f"note: works as user {OTHER}, to whom {app.config} belongs" in result.err
    ran_as = (app.path / "ran-as").read_text()
    assert ran_as == f"{(OTHER, OTHER, OTHER)} [{OTHER}]"
    assert (app.data / ".pend-storage" / "format").exists()
    assert owners(app.path) == {(OTHER, OTHER)}


@pytest.mark.parametrize("owned", ["pend.toml", ".", "data", "own_schema.py"])
def test_any_of_its_files_decides(app: Site, owned: str) -> None:
    with_module(app)
    os.chown(app.path / owned, OTHER, OTHER)

    result = app.run("status")

    assert f"note: works as user {OTHER}" in result.err
    marker = app.path / "ran-as"
    assert not marker.exists() or not marker.read_text().startswith("(0")


def test_a_package_of_another_user_decides_as_well(app: Site) -> None:
    module = with_module(app, "parts.own_schema", "parts")
    os.chown(module.parent, OTHER, OTHER)

    assert f"note: works as user {OTHER}" in app.run("status").err


def test_a_link_of_another_user_to_a_directory_of_root_decides(app: Site) -> None:
    app.data.rename(app.path / "real")
    app.data.symlink_to("real")
    os.chown(app.data, OTHER, OTHER, follow_symlinks=False)

    assert f"note: works as user {OTHER}" in app.run("status").err


def test_legacy_files_that_lie_elsewhere_decide_as_well(app: Site) -> None:
    elsewhere = put(app.path / "elsewhere" / "w.json", {})
    os.chown(elsewhere, OTHER, OTHER)
    app.config.write_text(
        app.config.read_text() + f'files = {{ "wallet-db.json" = "{elsewhere}" }}\n'
    )

    assert f"note: works as user {OTHER}" in app.run("status").err


@pytest.mark.parametrize("other", ["data", "own_schema.py"])
def test_two_owners_are_refused_and_nothing_is_opened(app: Site, other: str) -> None:
    with_module(app)
    os.chown(app.config, OTHER, OTHER)
    os.chown(app.path / other, THIRD, THIRD)

    result = app.run("quarantine", "list")

    assert result.code == 2
    assert f"user {OTHER}" in result.err
    assert f"user {THIRD}" in result.err
    assert "--as-root" in result.err
    assert not (app.path / "ran-as").exists()
    assert not (app.data / ".pend-storage").exists()


def test_a_command_that_is_told_to_stays_root(app: Site) -> None:
    with_module(app)
    give(app.path, OTHER)

    result = app.run(*OPENS, "--as-root")

    assert result.code == 0, result.err
    assert "works as" not in result.err
    assert (app.path / "ran-as").read_text().startswith("(0, 0, 0)")
    assert {uid for uid, _ in owners(app.data)} == {
        OTHER
    }  # the server is not locked out


def test_the_variable_of_the_library_does_not_keep_a_command_root(app: Site) -> None:
    with_module(app)
    give(app.path, OTHER)

    app.run("quarantine", "list", PEND_ALLOW_FOREIGN_OWNER="1")

    assert (app.path / "ran-as").read_text().startswith(f"({OTHER}, ")


def test_where_the_owner_may_not_read_the_library_a_command_refuses(app: Site) -> None:
    give(app.path, OTHER)
    hidden = Site(app.path, "", program="tests.security.acting:hidden_from_owner")

    result = hidden.run("quarantine", "list")

    assert result.code == 2
    assert "a part of this installation" in result.err
    assert "--as-root" in result.err
    assert not (app.data / ".pend-storage").exists()


def test_where_the_user_cannot_be_changed_a_command_refuses(app: Site) -> None:
    give(app.path, OTHER)
    bound = Site(app.path, "", program="tests.security.acting:without_capabilities")

    result = bound.run("quarantine", "list")

    assert result.code == 2
    assert "cannot become that user" in result.err
    assert not (app.data / ".pend-storage").exists()


def test_an_inspection_becomes_the_owner_of_the_directory(app: Site) -> None:
    put(app.data / "a.json", {"a": 1})
    give(app.data, OTHER)

    result = app.run("inspect", "data")

    assert f"note: works as user {OTHER}, to whom data belongs" in result.err
    assert "a.json" in result.out


def test_a_new_configuration_belongs_to_the_owner_of_its_folder(app: Site) -> None:
    app.config.unlink()
    put(app.data / "wallet-db.json", {})
    give(app.path, OTHER)

    result = app.run("init")

    assert result.code == 0, result.err
    assert app.config.stat().st_uid == OTHER
    assert app.config.stat().st_mode & 0o022 == 0


def test_a_repaired_text_is_read_as_the_owner(app: Site) -> None:
    secret = app.path.parent / "secret"
    secret.write_text('{"root": "only"}')
    secret.chmod(0o600)
    put(app.data / "wallet-db.json", {})
    (app.path / "repaired.json").symlink_to(secret)
    give(app.path, OTHER)

    result = app.run("quarantine", "retry", "some-id", "--with", "repaired.json")

    assert result.code == 2
    assert "Permission denied" in result.err


def test_root_on_its_own_files_stays_root(app: Site) -> None:
    with_module(app)

    result = app.run("quarantine", "list")

    assert "works as" not in result.err
    assert (app.path / "ran-as").read_text().startswith("(0, 0, 0)")
