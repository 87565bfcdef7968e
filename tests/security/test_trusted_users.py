"""Who may decide what a process reads and runs: configuration, code, directories."""

from __future__ import annotations

import importlib
import os
import py_compile
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage import _trusted_users
from pend_storage.config import Settings, load_settings
from pend_storage.factory import load_schema, schema_module_files
from pend_storage.operations.doctor import State, examine
from pend_storage.pend import LAYOUTS, SCHEMA
from tests.security.acting import OTHER

_TOML = '[environments.development]\nschema = "planted"\n[environments.development.json]\ndirectory = "data"\n'
_MODULE = "from pend_storage.pend import LAYOUTS, SCHEMA\nimport beside\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A configuration with a schema module that imports another one beside it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "pend.toml").write_text(_TOML)
    (tmp_path / "planted.py").write_text(_MODULE)
    (tmp_path / "beside.py").write_text("RAN = True\n")
    importlib.invalidate_caches()
    module = SCHEMA.module  # loading names the module that has it
    yield tmp_path
    SCHEMA.module = module
    for name in ("planted", "beside"):
        sys.modules.pop(name, None)


def loaded(folder: Path, *, allow: bool | None = None) -> Settings:
    """Settings and schema of a folder, as a program would load them."""
    settings = load_settings(
        folder / "pend.toml", environ={}, allow_foreign_owner=allow
    )
    load_schema(settings)
    return settings


def refused(folder: Path) -> str:
    """Message of the refusal; nothing of the module has run."""
    with pytest.raises(ps.ConfigError) as refusal:
        loaded(folder)
    assert "planted" not in sys.modules
    return str(refusal.value)


@pytest.mark.parametrize("name", ["pend.toml", ".", "planted.py", "beside.py"])
def test_what_every_user_may_write_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (folder / name).chmod(0o777)

    assert "may be written by every user" in refused(folder)
    monkeypatch.setenv("PEND_ALLOW_WRITABLE_CONFIG", "1")
    assert loaded(folder).file == folder / "pend.toml"


@needs_root
@pytest.mark.parametrize("name", ["pend.toml", ".", "planted.py", "beside.py"])
def test_what_belongs_to_a_third_user_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    os.chown(folder / name, OTHER, OTHER)

    assert f"belongs to user {OTHER}" in refused(folder)
    assert loaded(folder, allow=True).allow_foreign_owner
    monkeypatch.setenv("PEND_ALLOW_FOREIGN_OWNER", "1")
    assert loaded(folder).file == folder / "pend.toml"


@needs_root
@pytest.mark.parametrize("name", ["pend.toml", "planted.py"])
def test_what_a_shared_group_may_write_is_refused(folder: Path, name: str) -> None:
    os.chown(folder / name, 0, OTHER)
    (folder / name).chmod(0o664)

    assert f"may be written by its group {OTHER}" in refused(folder)


def test_the_private_group_of_the_owner_is_the_owner(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trusted_users, "_is_private_group", lambda *_: True)
    for name in ("pend.toml", ".", "planted.py"):
        (folder / name).chmod(0o775)

    assert loaded(folder).file == folder / "pend.toml"


def test_an_acl_is_no_private_group(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trusted_users, "_is_private_group", lambda *_: True)
    monkeypatch.setattr(_trusted_users, "_has_acl", lambda _: True)
    (folder / "pend.toml").chmod(0o664)

    assert "may be written by users of its ACL" in refused(folder)


def test_groups_of_the_system_are_private_where_they_have_no_other_member() -> None:
    assert _trusted_users._is_private_group(0, 0)
    assert _trusted_users._is_private_group(987_654, 987_654)  # of a container
    assert not _trusted_users._is_private_group(0, 987_654)
    assert not _trusted_users._is_private_group(987_654, 0)
    assert not _trusted_users._is_private_group(987_654, 987_655)


def test_nothing_can_be_written_on_a_read_only_file_system(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.chmod(0o777)  # as Kubernetes mounts a configuration
    monkeypatch.setattr(_trusted_users, "_is_read_only", lambda _: True)

    assert loaded(folder).file == folder / "pend.toml"


def test_a_sticky_folder_protects_the_files_of_each_user(folder: Path) -> None:
    folder.chmod(0o1777)

    assert loaded(folder).file == folder / "pend.toml"


@needs_root
def test_in_a_sticky_folder_a_link_of_another_user_is_refused(folder: Path) -> None:
    folder.chmod(0o1777)
    (folder / "pend.toml").rename(folder / "real.toml")
    (folder / "pend.toml").symlink_to("real.toml")
    os.chown(folder / "pend.toml", OTHER, OTHER, follow_symlinks=False)

    assert f"{folder / 'pend.toml'} belongs to user {OTHER}" in refused(folder)


@needs_root
def test_the_folder_of_a_links_target_counts(folder: Path) -> None:
    target = folder / "elsewhere"
    target.mkdir()
    (folder / "pend.toml").rename(target / "pend.toml")
    (folder / "pend.toml").symlink_to(target / "pend.toml")
    os.chown(target, OTHER, OTHER)

    assert f"{target} belongs to user {OTHER}" in refused(folder)


@needs_root
def test_compiled_code_of_another_user_is_refused(folder: Path) -> None:
    compiled = Path(str(py_compile.compile(str(folder / "planted.py"))))
    os.chown(compiled, OTHER, OTHER)

    assert f"{compiled} belongs to user {OTHER}" in refused(folder)


@needs_root
def test_a_module_of_the_search_path_is_checked_as_well(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = tmp_path_factory.mktemp("path")
    (folder / "planted.py").rename(other / "planted.py")
    os.chown(other / "planted.py", OTHER, OTHER)
    monkeypatch.syspath_prepend(str(other))

    assert f"{other / 'planted.py'} belongs to user {OTHER}" in refused(folder)


def test_a_schema_module_is_found_without_running_it(folder: Path) -> None:
    package = folder / "parts"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit\n")
    (package / "inner.py").write_text("raise SystemExit\n")

    def files_of(schema: str) -> list[Path]:
        settings = Settings(environment="x", file=folder / "pend.toml", schema=schema)
        return schema_module_files(settings)

    assert files_of("parts.inner") == [package / "__init__.py", package / "inner.py"]
    assert files_of("parts.none") == [package / "__init__.py"]
    for none in (
        "nowhere",
        "",
        ".",
        "parts..inner",
        "pend_storage.pend",
        "json",
        "sys",
    ):
        assert files_of(none) in ([], [package / "__init__.py"])


# -- directories ----------------------------------------------------------------------------


@needs_root
def test_root_does_not_open_the_directory_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, OTHER, OTHER)
    ways: list[Callable[[], object]] = [
        lambda: ps.JsonStore(SCHEMA, data, layouts=LAYOUTS).close(),
        lambda: ps.JsonStore(SCHEMA, data / "new").close(),
        lambda: ps.JsonStore.migrate(SCHEMA, data, layouts=LAYOUTS),
        lambda: ps.open_store(schema=SCHEMA, json=data).close(),
    ]

    for way in ways:
        with pytest.raises(ps.ConfigError) as refusal:
            way()
        for part in (str(data), str(OTHER), "chown", "PEND_ALLOW_FOREIGN_OWNER=1"):
            assert part in str(refusal.value)
    assert not [*data.iterdir()]

    ps.JsonStore(SCHEMA, data, allow_foreign_owner=True).close()
    monkeypatch.setenv("PEND_ALLOW_FOREIGN_OWNER", "1")
    ps.open_store(schema=SCHEMA, json=data).close()
    with pytest.raises(ps.ConfigError):
        ps.JsonStore(SCHEMA, data, allow_foreign_owner=False)


@needs_root
@pytest.mark.parametrize("linked", ["link", "target"])
def test_a_link_to_a_directory_has_two_owners(tmp_path: Path, linked: str) -> None:
    data = tmp_path / "target"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    os.chown(tmp_path / linked, OTHER, OTHER, follow_symlinks=False)

    with pytest.raises(ps.ConfigError, match=f"belongs to user {OTHER}"):
        ps.JsonStore(SCHEMA, tmp_path / "link")


@needs_root
def test_a_legacy_file_elsewhere_of_another_user_is_refused(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "wallets.json"
    data.mkdir()
    file.write_text("{}")
    os.chown(file, OTHER, OTHER)

    with pytest.raises(ps.ConfigError, match=f"belongs to user {OTHER}"):
        ps.JsonStore(SCHEMA, data, layouts=LAYOUTS, files={"wallet-db.json": file})


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "wallet-db.jsn", ""])
def test_a_path_for_a_file_that_no_layout_has_is_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ps.ConfigError, match="no layout has a file"):
        ps.JsonStore(
            SCHEMA, tmp_path, layouts=LAYOUTS, files={name: tmp_path / "y.json"}
        )
    assert not [*tmp_path.iterdir()]


def test_no_configuration_allows_itself(folder: Path) -> None:
    text = _TOML.replace("schema =", "allow_foreign_owner = true\nschema =")
    (folder / "pend.toml").write_text(text)

    with pytest.raises(ps.ConfigError, match="unknown member 'allow_foreign_owner'"):
        load_settings(folder / "pend.toml", environ={})


# -- the diagnosis ----------------------------------------------------------------------------


def found(settings: Settings) -> dict[str, tuple[State, str]]:
    """State and message of each check."""
    return {f.check: (f.state, f.message) for f in examine(settings).findings}


def test_doctor_reports_what_others_may_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEND_ALLOW_WRITABLE_CONFIG", "1")
    (folder / "pend.toml").chmod(0o666)
    (folder / "data").chmod(0o777)

    checks = found(load_settings(folder / "pend.toml", environ={}))

    state, message = checks["trust"]
    assert state is State.WARN
    assert f"{folder / 'pend.toml'} may be written by every user" in message
    state, message = checks["rights of others"]
    assert state is State.FAIL
    assert f"{folder / 'data'} may be written by every user" in message


@needs_root
def test_doctor_reports_a_directory_that_a_group_shares_and_the_owner(
    folder: Path,
) -> None:
    os.chown(folder / "data", OTHER, OTHER + 1)
    (folder / "data").chmod(0o775)
    settings = load_settings(folder / "pend.toml", environ={}, allow_foreign_owner=True)

    checks = found(settings)

    assert checks["rights of others"][0] is State.WARN
    assert checks["owner"][0] is State.WARN
    assert f"user {OTHER}" in checks["owner"][1]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_doctor_reports_a_redis_password_that_others_may_read(
    folder: Path, mode: int
) -> None:
    redis = "[environments.development.redis]\nurl = 'redis://:s3cret@localhost/0'\n"
    (folder / "pend.toml").write_text(_TOML + redis)
    (folder / "pend.toml").chmod(mode)

    checks = found(load_settings(folder / "pend.toml", environ={}))

    assert ("secrets" in checks) == (mode == 0o644)
    if mode == 0o644:
        assert "Redis password" in checks["secrets"][1]
        assert "s3cret" not in str(checks)
