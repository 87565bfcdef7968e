"""Messages of commands: missing extras, repeated calls, the first phase."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pend_storage.phases import Phase
from tests.front_door.conftest import Site, put
from tests.integration.cli.conftest import Result, clean_environment
from tests.integration.cli.stages import DOWN, bring_to

_WITHOUT = (
    "import sys; sys.modules[sys.argv[1]] = None; from pend_storage.cli._app import run; "
    "sys.exit(run(sys.argv[2:]))"
)


def without(package: str, site: Site, *arguments: str) -> Result:
    """Run a command where a package is not installed."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, package, *arguments],
        cwd=site.path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def json_alone(tmp_path: Path) -> Site:
    site = Site(tmp_path, "")
    site.configure('[environments.development.json]\ndirectory = "data"\n')
    put(site.data / "wallet-db.json", {f"0x{1:064x}": f"0x{1:040x}"})
    return site


@pytest.mark.parametrize("package", ["psycopg", "sqlalchemy", "alembic"])
def test_doctor_reports_a_package_that_is_missing(
    json_alone: Site, package: str
) -> None:
    alone = without(package, json_alone, "doctor")
    with json_alone.config.open("a") as more:
        more.write(f'[environments.development.postgres]\nurl = "{DOWN}"\n')
    both = without(package, json_alone, "doctor")

    assert alone.code == 0, alone.out + alone.err
    assert "ok    legacy files" in alone.out
    assert both.code == 2
    assert "ok    legacy files" in both.out
    assert f"needs the package {package}" in both.out
    assert "pip install 'pend_storage[postgres]'" in both.out


def test_demo_looks_before_it_begins(json_alone: Site) -> None:
    result = without("sqlalchemy", json_alone, "demo")

    assert result.code == 2
    assert result.out == ""
    assert "pip install 'pend_storage[demo]'" in result.err


def test_another_command_names_the_right_extra(json_alone: Site) -> None:
    with json_alone.config.open("a") as more:
        more.write(f'[environments.development.postgres]\nurl = "{DOWN}"\n')

    result = without("psycopg", json_alone, "db", "status")

    assert result.code == 2
    assert "pip install 'pend_storage[postgres]'" in result.err


def test_a_refused_database_is_told_in_sentences(site: Site) -> None:
    url = site.url.replace("pend_test", "no_such")

    result = site.run("db", "status", PEND_DATABASE_URL=url)

    assert result.code == 3
    assert (
        "does not exist. Create the database, or correct its name. Nothing"
        in result.err
    )
    assert "try again" not in result.err


def test_a_url_without_a_scheme_is_named_as_such(site: Site) -> None:
    result = site.run("db", "status", PEND_DATABASE_URL="foo")

    assert "must begin with postgresql://, and begins without that" in result.err


def test_a_store_that_cannot_be_asked_gives_no_empty_table(site: Site) -> None:
    site.data.mkdir()

    result = site.run("status", PEND_DATABASE_URL=DOWN)

    assert "cannot be asked" in result.out
    assert "what" not in result.out.split()
    assert "\n\n" not in result.out


def test_a_repeated_migration_counts_only_records(server: Site) -> None:
    bring_to(server, Phase.PARALLEL)

    result = server.run("migrate", "json", "--no-backup")

    assert result.code == 0
    assert "legacy_files" not in result.out
    assert "0 written" in result.out.splitlines()[-1]


def test_a_phase_that_must_wait_names_the_one_before(server: Site) -> None:
    result = server.run("phase", "set", "postgres-primary")

    assert result.code == 1
    assert "First: pend-storage phase set parallel" in result.out
    assert "the phase stays json-only" in result.out
