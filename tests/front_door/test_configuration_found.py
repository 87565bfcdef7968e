"""Search for the configuration of a command, and commands without one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pend_storage.config import load_settings
from pend_storage.errors import ConfigError
from tests.front_door.conftest import OPENS, Site, put

_TOML = '[environments.development.json]\ndirectory = "data"\n'
_DOWN = {"PEND_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none"}


def test_folders_above_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pend.toml").write_text(_TOML)
    (tmp_path / "app" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "app" / "deep")

    settings = load_settings(environ={})

    assert settings.file == tmp_path / "pend.toml"
    assert settings.require_json().directory == tmp_path / "data"


def test_the_nearest_file_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pend.toml").write_text(_TOML)
    (tmp_path / "app" / "deep").mkdir(parents=True)
    (tmp_path / "app" / "pend.toml").write_text(_TOML)
    monkeypatch.chdir(tmp_path / "app" / "deep")

    assert load_settings(environ={}).file == tmp_path / "app" / "pend.toml"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("given", ["pend.toml", "."])
def test_a_file_of_another_user_is_refused_however_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    (tmp_path / "pend.toml").write_text(_TOML)
    os.chown(tmp_path / given, 4321, 4321)
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    monkeypatch.setenv("SUDO_UID", "4321")  # root trusts no other user for it

    for path in (None, tmp_path / "pend.toml"):
        with pytest.raises(ConfigError, match=r"belongs to user 4321, who"):
            load_settings(path, environ={})
        assert (
            load_settings(path, environ={}, allow_foreign_owner=True).file is not None
        )
    monkeypatch.setenv("PEND_ALLOW_FOREIGN_OWNER", "1")
    assert load_settings(environ={}).file is not None


def test_without_a_file_an_environment_must_be_that_of_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="'prodction'; did you mean 'production'"):
        load_settings(None, "prodction", environ={**_DOWN, "PEND_ENV": "production"})
    with pytest.raises(ConfigError, match="no environment 'production'"):
        load_settings(None, "production", environ=_DOWN)
    named = load_settings(
        None, "production", environ={**_DOWN, "PEND_ENV": "production"}
    )
    assert named.environment == "production"


def test_a_schema_may_be_named_by_a_variable_or_an_option(tmp_path: Path) -> None:
    path = tmp_path / "pend.toml"
    path.write_text(_TOML)

    ways = [
        load_settings(path, environ={}),
        load_settings(path, environ={"PEND_SCHEMA": "a.b"}),
        load_settings(path, schema="c.d", environ={"PEND_SCHEMA": "a.b"}),
    ]

    assert [s.schema for s in ways] == ["pend_storage.pend", "a.b", "c.d"]
    assert [s.schema_named_by for s in ways] == [
        f"{path}, environments.development.schema",
        "the environment variable PEND_SCHEMA",
        "--schema",
    ]


CHANGING = [
    "db migrate",
    "db seed",
    "migrate json",
    "phase set parallel",
    "phase advance",
    "phase rollback",
    "repair",
    "relay",
    "rollback",
    "quarantine retry --all",
    "quarantine accept x --reason y",
    "doctor --elect json --yes",
]


LOOKING_INTO_RECORDS = [
    "db validate",
    "repair --dry-run",
    "phase set parallel --dry-run",
    "phase advance --dry-run",
    "phase rollback --dry-run",
    "rollback --dry-run",
]

LOOKING_PASSIVELY = {
    "quarantine list": 0,
    "quarantine show x": 2,
    "quarantine retry --all --dry-run": 0,
}
"""Commands that read a directory as it is, and their exit codes where no server opened it."""


@pytest.mark.parametrize("command", LOOKING_INTO_RECORDS)
def test_a_look_notes_no_schema_that_nobody_named(tmp_path: Path, command: str) -> None:
    site = Site(tmp_path, "")
    put(tmp_path / "data/economy.json", {"ann": {"wallet": 5}})
    where = {**_DOWN, "PEND_JSON_DIRECTORY": str(tmp_path / "data")}

    refused = site.run(*command.split(), "--json", **where)

    assert refused.code == 2
    assert "whose schema" in str(refused.document["error"])
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["economy.json"]


@pytest.mark.parametrize("command", LOOKING_PASSIVELY)
def test_a_passive_look_needs_no_schema_and_notes_none(
    tmp_path: Path, command: str
) -> None:
    site = Site(tmp_path, "")
    put(tmp_path / "data/economy.json", {"ann": {"wallet": 5}})
    where = {"PEND_JSON_DIRECTORY": str(tmp_path / "data")}

    result = site.run(*command.split(), "--json", **where)

    assert result.code == LOOKING_PASSIVELY[command]
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["economy.json"]


def test_a_directory_that_was_opened_needs_no_schema_to_be_looked_at(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, "")
    where = {"PEND_JSON_DIRECTORY": str(tmp_path / "data")}
    put(tmp_path / "data/wallet-db.json", {})
    first = site.run(*OPENS, "--schema", "pend_storage.pend", **where)

    again = site.run("quarantine", "list", **where)

    assert (first.code, again.code) == (0, 0)


@pytest.mark.parametrize("command", CHANGING)
def test_what_changes_something_needs_a_schema_that_somebody_named(
    tmp_path: Path, command: str
) -> None:
    site = Site(tmp_path, "")

    refused = site.run(*command.split(), "--json", **_DOWN)
    by_option = site.run(*command.split(), "--schema", "none.such", "--json", **_DOWN)
    by_variable = site.run(*command.split(), "--json", PEND_SCHEMA="none.such", **_DOWN)

    assert refused.code == 2
    message = refused.document["error"]["message"]
    assert message.startswith("there is no pend.toml here or in a folder above")
    assert "--schema or PEND_SCHEMA" in message
    for goes_on in (by_option, by_variable):
        assert "no pend.toml" not in goes_on.document["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_what_only_looks_says_where_its_settings_are_from(tmp_path: Path) -> None:
    site = Site(tmp_path, "")

    silent = site.run("status", PEND_SCHEMA="pend_storage.pend", **_DOWN)
    told = site.run("status", **_DOWN)
    document = site.run("status", "--json", **_DOWN)

    assert "the environment variables" in told.out
    assert "note: there is no pend.toml here or in a folder above" in told.err
    assert "the schema pend_storage.pend" in told.err
    assert "note:" not in silent.err
    assert document.err == ""
    assert document.document["result"]["configuration"] == "the environment variables"


def test_a_file_above_is_named(site: Site) -> None:
    site.data.mkdir()
    below = Site(site.data, site.url)

    found = below.run("status")
    named = below.run("status", "--config", str(site.config))

    assert f"note: the configuration is {site.config}" in found.err
    assert f"{site.config}, environments.development" in found.out
    assert "note:" not in named.err


def test_a_mistyped_environment_is_an_error(site: Site, tmp_path: Path) -> None:
    in_file = site.run("status", "--env", "devlopment")
    (tmp_path / "elsewhere").mkdir()
    site.config.unlink()
    nowhere = site.run("status", "--env", "prodction", **_DOWN)

    assert in_file.code == nowhere.code == 2
    assert "no environment 'devlopment'; did you mean 'development'" in in_file.err
    assert "there is no environment 'prodction'" in nowhere.err


def test_a_missing_directory_is_told_by_status_and_doctor(site: Site) -> None:
    status, doctor = site.run("status"), site.run("doctor")

    assert status.code == 1
    assert doctor.code != 0
    for out in (status.out, doctor.out):
        assert f"{site.data} does not exist" in out
    assert not site.data.exists()


def test_a_wanted_phase_that_nobody_set_is_not_blamed_on_a_variable(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, "")
    (tmp_path / "data").mkdir()

    result = site.run("status", PEND_JSON_DIRECTORY="data")

    assert (
        "nothing; it may be said by the environment variable PEND_PHASE" in result.out
    )
