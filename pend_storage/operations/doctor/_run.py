"""Run of all checks of a diagnosis, in the order of their findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pend_storage._extras import require_packages
from pend_storage.config import Settings
from pend_storage.config._database_url import has_secret
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.factory import load_schema
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


def _configuration(settings: Settings) -> Iterator[Finding]:
    yield ok("configuration", f"{settings.place}, phase {settings.phase.value}")
    if settings.file is None or settings.postgres is None:
        return
    exposed = settings.file.stat().st_mode & _OTHERS_MAY_READ
    text = settings.file.read_text(encoding="utf-8")
    # The URL may come from the environment; only a password in the file is exposed.
    if has_secret(settings.postgres.url) and settings.postgres.url in text and exposed:
        yield warn(
            "secrets",
            f"{settings.file} has the database's password in it, and others may read it",
            f"Put it into DB_PASSWORD, or: chmod 600 {settings.file}",
        )
