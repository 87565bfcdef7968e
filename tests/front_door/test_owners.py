"""Root at work in a server's directory: what it makes belongs to the server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.pend import LAYOUTS, SCHEMA
from tests.front_door.conftest import OPENS, Site, put

_SERVER = 4321

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give files away"
)


def strangers(directory: Path) -> list[str]:
    """Owners: files of a directory that belong to another user than the server's."""
    return [
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.lstat().st_uid != _SERVER or path.lstat().st_gid != _SERVER
    ]


def test_files_that_a_command_makes_belong_to_the_owner_of_the_directory(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, "")
    site.configure('[environments.development.json]\ndirectory = "data"\n')
    wallets = put(site.data / "wallet-db.json", {f"0x{1:064x}": f"0x{1:040x}"})
    for path in (site.data, wallets):
        os.chown(path, _SERVER, _SERVER)

    result = site.run(*OPENS, "--as-root")

    assert result.code == 0, result.err
    assert (site.data / "user_profiles.json").exists()
    assert strangers(site.data) == []


def test_folders_belong_to_whom_the_folder_above_belongs_to(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, _SERVER, _SERVER)

    with ps.JsonStore(SCHEMA, data, layouts=LAYOUTS, allow_foreign_owner=True) as store:
        store.legacy("explorer-data/identity-map.json")["a"] = 1

    assert (data / "explorer-data" / "identity-map.json").exists()
    assert strangers(data) == []
