"""Writing a configuration file for a server that was found nearby."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pend_storage.config import DEFAULT_ENVIRONMENT
from pend_storage.config.database_url import shown_url, url_fault
from pend_storage.errors import ConfigError
from pend_storage.pend import LAYOUTS

__all__ = ["NewConfig", "find_directory", "write_config"]

_DATABASE: Final = "postgresql://localhost:5432/pend"
_DEPTH: Final = 3
"""How far below the current directory a server's files are looked for."""
_SKIPPED: Final = frozenset({"node_modules", "__pycache__", "backups"})
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")

_TEXT: Final = """\
# Configuration of pend_storage. One table for each environment; PEND_ENV or --env
# chooses one. What the environment variables say wins over this file:
# PEND_PHASE, PEND_JSON_DIRECTORY, PEND_DATABASE_URL, PEND_REDIS_URL, and
# DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD. Passwords belong there, not here.

[environments.{environment}]
# json-only: the JSON files alone. parallel: JSON first, PostgreSQL follows.
# postgres-primary: PostgreSQL first, JSON follows. postgres-only: PostgreSQL alone.
phase = "json-only"
# Whether a running server changes the phase by itself when the word above changes:
# auto_switch = false
# A module with SCHEMA (and LAYOUTS, the legacy files). This one is the Pend server's.
schema = "pend_storage.pend"

[environments.{environment}.json]
# Relative to this file.
directory = {directory}
# Legacy files that lie elsewhere, by their usual name:
# files = {{ "wallet-db.json" = "../wallets/wallet-db.json" }}
# Seconds after which the legacy files have what the store has.
# checkpoint_interval = 1.0

[environments.{environment}.postgres]
url = {database}
# Or take the whole URL from an environment variable:
# url_env = "DATABASE_URL"
# pool = 20
# Seconds:
# connect_timeout = 2.0
# idle_timeout = 30.0
# connection_max_age = 1800.0
# statement_timeout = 30.0
# Behind PgBouncer or another pooler, how it shares connections:
# pooler = "transaction"
# tls = {{ mode = "verify-full", root_certificate = "ca.pem" }}

# How the two stores are kept alike; these are the defaults. Seconds that a write waits for
# the secondary; share of the reads that are compared; days that change logs are kept:
# [environments.{environment}.dual_write]
# secondary_timeout = 1.0
# compare = 0.05
# retention_days = 7.0

# A flag in Redis reaches every process within a second, and wins over the word above:
# [environments.{environment}.redis]
# url_env = "REDIS_URL"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConfig:
    """A configuration file that was written."""

    file: Path
    environment: str
    directory: Path
    legacy_files: tuple[str, ...]
    """Files of a Pend server that are in the directory."""
    password_left_out: bool


def write_config(
    file: Path,
    *,
    environment: str | None = None,
    directory: Path | None = None,
    database: str | None = None,
    replace: bool = False,
) -> NewConfig:
    """Write a commented configuration file with one environment.

    Args:
        file: where.
        environment: its name; ``development`` if None.
        directory: the JSON directory; if None it is looked for below the file's.
        database: its URL. A password in it is left out.
        replace: write over a file that is there.

    Raises:
        ConfigError: the file is there already, a name or a URL is not fit.
    """
    name = environment or DEFAULT_ENVIRONMENT
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of an environment: use letters, digits, - "
            "and _."
        )
    if file.exists() and not replace:
        raise ConfigError(f"{file} is there already. Edit it, or use --force.")
    url, password_left_out = _without_password(database or _DATABASE)
    base = file.absolute().parent
    found = directory or find_directory(base) or base / "data"
    text = _TEXT.format(
        environment=name, directory=_quoted(_shown(found, base)), database=_quoted(url)
    )
    _write(file, text)
    return NewConfig(
        file=file.absolute(),
        environment=name,
        directory=found.absolute(),
        legacy_files=tuple(_legacy_files(found)),
        password_left_out=password_left_out,
    )


def _write(file: Path, text: str) -> None:
    try:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}. Choose another place by "
            "--config."
        ) from error


def find_directory(base: Path) -> Path | None:
    """The directory with the most files of a Pend server, not far below; or None."""
    counted = [(len(list(_legacy_files(d))), d) for d in _directories(base, _DEPTH)]
    best = max(counted, key=lambda pair: pair[0])
    return best[1] if best[0] else None


def _directories(base: Path, depth: int) -> Iterator[Path]:
    yield base
    if not depth:
        return
    try:
        with os.scandir(base) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
                and not entry.name.startswith(".")
                and entry.name not in _SKIPPED
                and "-backup-" not in entry.name
            ]
    except OSError:
        return  # not ours to look into
    for name in sorted(names):
        yield from _directories(base / name, depth - 1)


def _legacy_files(directory: Path) -> Iterator[str]:
    for layout in LAYOUTS:
        if (directory / layout.source).is_file():
            yield layout.file


def _without_password(url: str) -> tuple[str, bool]:
    fault = url_fault(url)
    if fault is not None:
        raise ConfigError(f"--database: {fault}")
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    bare = parts._replace(netloc=f"{user}{at}{place}").geturl() if colon else url
    if shown_url(bare) != bare:
        raise ConfigError(
            "--database: leave the password out of the URL, and set DB_PASSWORD."
        )
    return bare, bool(colon)


def _shown(directory: Path, base: Path) -> str:
    """Relative to the file where that is shorter."""
    absolute = directory.absolute()
    if absolute.is_relative_to(base):
        return str(absolute.relative_to(base))
    return str(absolute)


def _quoted(text: str) -> str:
    """As a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
