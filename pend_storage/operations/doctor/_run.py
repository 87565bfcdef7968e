"""Run of all checks of a diagnosis, in the order of their findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pend_storage._extras import require_packages
from pend_storage._files.by_path import read_linked
from pend_storage._trusted_users import LARGEST_CONFIGURATION, trust_faults
from pend_storage.config import Settings
from pend_storage.config._database_url import has_secret
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.factory import load_schema, schema_module_files
from pend_storage.operations.doctor._directory import directory_findings
from pend_storage.operations.doctor._findings import Finding, State, fail, ok, warn
from pend_storage.operations.doctor._pair import pair_findings

__all__ = ["Diagnosis", "examine"]

_OTHERS_MAY_READ = 0o044


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All findings about an environment."""

    environment: str
    phase: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True where no check fails; warnings are not failures."""
        return self.worst is not State.FAIL

    @property
    def worst(self) -> State:
        """The worst state of a finding."""
        states = {finding.state for finding in self.findings}
        return next(
            (state for state in (State.FAIL, State.WARN) if state in states), State.OK
        )


def examine(settings: Settings) -> Diagnosis:
    """Examine an environment: run every check, and return all findings.

    An error of a check is a finding; nothing is raised.
    """
    return Diagnosis(
        environment=settings.environment,
        phase=settings.phase.value,
        findings=tuple(_findings(settings)),
    )


def _findings(settings: Settings) -> Iterator[Finding]:
    yield from _configuration(settings)
    try:
        module = load_schema(settings)
    except PendStorageError as error:
        yield fail("schema module", str(error), error=error)
        return
    names = ", ".join(spec.name for spec in module.schema.declared)
    yield ok("schema module", f"{module.name}: {names}")
    if settings.json is not None:
        yield from directory_findings(settings, module, settings.json)
    else:
        yield warn("json directory", "not configured", "Set json.directory.")
    yield from _backups(settings)
    if settings.postgres is None:
        yield warn("database", "not configured", "Set postgres.url.")
        return
    try:
        require_packages("psycopg", "sqlalchemy", "alembic")
    except ConfigError as error:
        yield fail("packages", str(error), error=error)
        return
    from pend_storage.operations.doctor._database import (  # noqa: PLC0415 - see above
        database_findings,
    )

    yield from database_findings(settings, settings.postgres)
    if settings.json is not None:
        yield from pair_findings(settings)


def _backups(settings: Settings) -> Iterator[Finding]:
    """Find what is wrong with the backups; nothing where there is no repository."""
    if settings.backup is None:
        yield warn(
            "backups",
            "no repository is configured, so nothing is backed up here",
            "Set backup.repository; see the reference of the configuration.",
        )
        return
    try:
        require_packages("zstandard")
        # Not before: it imports the package that was asked for.
        from pend_storage.operations.doctor._backups import (  # noqa: PLC0415
            backup_findings,
        )
    except ConfigError as error:
        yield fail("backups", str(error), error=error)
        return
    yield from backup_findings(settings)


def _configuration(settings: Settings) -> Iterator[Finding]:
    yield ok("configuration", f"{settings.place}, phase {settings.phase.value}")
    if settings.file is not None:
        yield from _trust(settings.file, *schema_module_files(settings))
        yield from _exposed_secrets(settings, settings.file)


def _trust(*files: Path) -> Iterator[Finding]:
    """Find other users who may change what runs here; only where that is allowed.

    Otherwise the configuration was refused before.
    """
    faults = [fault for file in files for fault in trust_faults(file)]
    for fault in dict.fromkeys(faults):
        message, _, remedy = fault.partition(". ")
        yield warn("trust", message, f"{remedy}.")
    if not faults:
        yield ok("trust", "only this user and root may change the configuration")


def _exposed_secrets(settings: Settings, file: Path) -> Iterator[Finding]:
    """Find passwords in a configuration file that other users may read."""
    if not file.stat().st_mode & _OTHERS_MAY_READ:
        return
    text = read_linked(file, limit=LARGEST_CONFIGURATION).decode()
    servers = {
        "database's": (settings.postgres, "DB_PASSWORD"),
        "Redis": (settings.redis, "PEND_REDIS_URL"),
    }
    for name, (server, variable) in servers.items():
        # The URL may come from the environment; only a password in the file is exposed.
        if server is None or not has_secret(server.url) or server.url not in text:
            continue
        yield warn(
            "secrets",
            f"{file} has the {name} password in it, and others may read it",
            f"Put it into {variable}, or: chmod 600 {file}",
        )
