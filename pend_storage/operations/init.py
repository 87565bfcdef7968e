"""Creation of a configuration file for a server whose JSON directory is nearby.

The files of the directory decide the schema that the configuration names. Pend's schema is
named only for the directory of a Pend server: in any other it would claim no file, and a
migration would move nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pend_storage._files.by_path import make_directories
from pend_storage._files.directory import Directory
from pend_storage._files.linked import LinkedFile
from pend_storage._layouts.folders import files_in, is_pattern
from pend_storage._layouts.layout import Layout
from pend_storage._shown import listed, shown
from pend_storage.config import DEFAULT_ENVIRONMENT, DEFAULT_SCHEMA, Settings
from pend_storage.config._database_url import has_secret, url_fault
from pend_storage.errors import ConfigError
from pend_storage.factory import load_schema
from pend_storage.inspect._directory_walk import find_files
from pend_storage.inspect._record_folders import folder_name
from pend_storage.operations.new_file import write_new
from pend_storage.pend import LAYOUTS
from pend_storage.schema import Schema

__all__ = [
    "NewConfig",
    "claimed_names",
    "find_directory",
    "is_claimed",
    "json_files",
    "write_config",
]

_VARIABLE: Final = "PEND_DATABASE_URL"
_DATABASE: Final = "postgresql://localhost:5432/pend"
_DEPTH: Final = 3
"""Levels of folders below the current directory in which legacy files are searched."""
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
# A module with SCHEMA (and LAYOUTS, the legacy files); pend_storage.pend is Pend's.
schema = {schema}

[environments.{environment}.json]
# Relative to this file.
directory = {directory}
# Legacy files that lie elsewhere, by their usual name:
# files = {{ "wallet-db.json" = "../wallets/wallet-db.json" }}
# Seconds after which the legacy files have what the store has.
# checkpoint_interval = 1.0

[environments.{environment}.postgres]
{database}
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
    """Result of writing a configuration file."""

    file: Path
    environment: str
    directory: Path
    schema: str
    """Name of the schema module."""
    legacy_files: tuple[str, ...]
    """Files and folders in the directory that the schema's layouts claim."""
    unclaimed: tuple[str, ...]
    """JSON files in the directory that no layout claims."""
    url_from: str | None
    """Environment variable with the database's URL, if it is set."""
    password_left_out: bool


def write_config(
    file: Path,
    *,
    environment: str | None = None,
    directory: Path | None = None,
    database: str | None = None,
    schema: str | None = None,
    replace: bool = False,
) -> NewConfig:
    """Write a commented configuration file with one environment.

    Args:
        file: path of the new file.
        environment: name of the environment; ``development`` if None.
        directory: the JSON directory, which must exist; if None it is searched below the
            folder of the file.
        database: URL of the database, without a password; if None, ``PEND_DATABASE_URL``
            where it is set.
        schema: name of the schema module, which must be importable; if None it is Pend's,
            and the directory must be a Pend server's.
        replace: overwrite an existing file.

    Raises:
        ConfigError: the file exists already, a name or a URL is invalid, there is no such
            directory, or it is not a Pend server's and no schema is given.
    """
    name = environment or DEFAULT_ENVIRONMENT
    file = file.absolute()
    _require_fit(name, file, replace=replace)
    line, url_from, password_left_out = _database_line(database)
    base = file.parent
    found = _directory(directory, base)
    names = json_files(found)
    module, known = _schema(schema, name, file, found, names)
    text = {"directory": _quoted(_shown(found, base)), "schema": _quoted(module)}
    _write(file, _TEXT.format(environment=name, database=line, **text))
    return NewConfig(
        file=file,
        environment=name,
        directory=found.absolute(),
        schema=module,
        legacy_files=tuple(n for n in known if _exists(found / n)),
        unclaimed=tuple(n for n in names if not is_claimed(n, known)),
        url_from=url_from,
        password_left_out=password_left_out,
    )


def _require_fit(name: str, file: Path, *, replace: bool) -> None:
    """Refuse a name that no environment can have, and a file that exists."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{shown(name)} cannot be the name of an environment: use letters, digits, - "
            "and _."
        )
    if file.exists() and not replace:
        raise ConfigError(f"{file} is there already. Edit it, or use --force.")


def _directory(given: Path | None, base: Path) -> Path:
    """Choose the JSON directory: the given one, or one that is found, or ``data``.

    Raises:
        ConfigError: there is no such directory.
    """
    found = given or find_directory(base) or base / "data"
    if found.is_dir():
        return found
    if given is None:
        raise ConfigError(
            f"no directory of a Pend server was found below {base}, and there is no "
            f"{found}. Name the directory: pend-storage init --directory DIR"
        )
    what = "is not a directory" if found.exists() else "does not exist"
    raise ConfigError(f"--directory: {found} {what}. Correct it, or make it first.")


def json_files(directory: Path) -> list[str]:
    """List the JSON files below a directory, relative to it."""
    return [found.name for found in find_files(directory)[0]]


def is_claimed(name: str, known: Collection[str]) -> bool:
    """Return whether a file is claimed, by its name or by its folder."""
    return name in known or folder_name(name) in known


def claimed_names(schema: Schema, layouts: Iterable[Layout]) -> tuple[str, ...]:
    """List the files that a schema module claims: of layouts, and of other collections."""
    given = tuple(layouts)
    taken = {layout.collection for layout in given}
    others = [f"{spec.name}.json" for spec in schema if spec.name not in taken]
    return tuple(dict.fromkeys([*(layout.source for layout in given), *others]))


def _exists(file: Path) -> bool:
    """Return whether a file exists, or any file that matches a pattern."""
    if is_pattern(file.name):
        return file.parent.is_dir() and any(files_in(file))
    return file.is_file()


def _schema(
    given: str | None, environment: str, file: Path, directory: Path, names: list[str]
) -> tuple[str, tuple[str, ...]]:
    """Choose the schema module of a directory.

    Returns:
        Its name, and the files that it claims.

    Raises:
        ConfigError: there is no such module; or none is given, and the directory is not
            a Pend server's.
    """
    if given is not None:
        module = given.removesuffix(".py").replace("/", ".")
        wanted = Settings(environment=environment, file=file, schema=module)
        found = load_schema(wanted)
        return module, claimed_names(found.schema, found.layouts)
    pends = tuple(layout.source for layout in LAYOUTS)
    claimed = sum(is_claimed(name, pends) for name in names)
    # Half of the files: one of a common name, such as users.json, proves nothing.
    if claimed and claimed * 2 >= len(names):
        return DEFAULT_SCHEMA, pends
    raise ConfigError(_unknown_server_message(directory, names, claimed))


def _unknown_server_message(directory: Path, names: list[str], claimed: int) -> str:
    if not names:
        return (
            f"{directory} has no JSON file, so nothing says whose records will be in it. "
            "Name the module that declares them: pend-storage init --schema MODULE "
            "(pend_storage.pend for a Pend server)."
        )
    few = f", only {claimed} of which are" if claimed else ", none of which is"
    return (
        f"{directory} has {len(names):,} JSON files{few} a Pend server's: "
        f"{listed(names, 5)}. Have a schema written for them: pend-storage inspect "
        f"{directory} --out schema.py --check; then name it: pend-storage init "
        f"--directory {directory} --schema schema"
    )


def _readable(made: Directory, parent: Directory) -> None:
    """Let every user enter a new folder, as the server that reads the file in it does."""
    made.adopt_folder(parent, 0o755)


def _write(file: Path, text: str) -> None:
    """Write the file; one that is there is replaced, with its mode and owner."""
    try:
        make_directories(file.parent, _readable)
        with LinkedFile(file) as place:
            old = place.status()
            if old is not None:
                place.directory.replace(place.name, [text.encode()], model=old)
                return
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}. Choose another place by "
            "--config."
        ) from error
    write_new(file, text)


def find_directory(base: Path) -> Path | None:
    """Find the directory with the most files of a Pend server, up to three levels below."""
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
        return  # no permission to read it
    for name in sorted(names):
        yield from _directories(base / name, depth - 1)


def _legacy_files(directory: Path) -> Iterator[str]:
    for layout in LAYOUTS:
        if (directory / layout.source).is_file():
            yield layout.file


def _database_line(given: str | None) -> tuple[str, str | None, bool]:
    """Return the line of the file for the database.

    With it comes the environment variable that has the URL, if it is set, and whether a
    password was left out.
    """
    if given is None and os.environ.get(_VARIABLE):
        return f'url_env = "{_VARIABLE}"', _VARIABLE, False
    url, left_out = _without_password(given or _DATABASE)
    line = (
        f"url = {_quoted(url)}\n# Or take the whole URL from an environment variable:\n"
        '# url_env = "DATABASE_URL"'
    )
    return line, None, left_out


def _without_password(url: str) -> tuple[str, bool]:
    fault = url_fault(url)
    if fault is not None:
        raise ConfigError(f"--database: {fault}")
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    bare = parts._replace(netloc=f"{user}{at}{place}").geturl() if colon else url
    if has_secret(bare):
        raise ConfigError(
            "--database: leave the password out of the URL, and set DB_PASSWORD."
        )
    return bare, bool(colon)


def _shown(directory: Path, base: Path) -> str:
    """Return the path relative to the file where the directory is below it."""
    absolute = directory.absolute()
    if absolute.is_relative_to(base):
        return str(absolute.relative_to(base))
    return str(absolute)


def _quoted(text: str) -> str:
    """Return a text as a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
