"""Facts about the backups of an environment: one probe for status, doctor and metrics.

Only manifests and facts are read, and they are kept for half a minute. A repository that
cannot be reached is a fact, too. What never happened is None, and a failure is forgotten
once a later backup is good.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pend_storage.backup._catalog import Catalog, Fact
from pend_storage.backup._schedule import parse_schedule
from pend_storage.backup._standing import Standing, latest_fact, standings
from pend_storage.backup._window import Window, chains, windows
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.operations.backup.opening import open_repository
from pend_storage.operations.backup.schedule import FAILED, SCHEDULE
from pend_storage.store import Store

__all__ = [
    "ArchiveLag",
    "BackupFacts",
    "BackupProbe",
    "DrillFact",
    "GoodBackup",
    "RestoreWindow",
]

_KEPT_FOR: Final = 30.0
"""Seconds for which what was read is used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodBackup:
    """Last backup that is complete, verified, and in no known way damaged."""

    id: str
    at: datetime
    """Time of the state in it."""
    sequence: int
    verified_at: datetime | None
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreWindow:
    """Points that can be restored, of the oldest and the newest backup."""

    earliest: datetime
    earliest_sequence: int
    latest: datetime
    latest_sequence: int
    gap: str | None
    """What is not restorable in between; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLag:
    """Distance from the end of the archive to the end of the log."""

    commits: int | None
    """None: it is not known; the store cannot be reached, or nothing is archived."""
    seconds: float | None
    """Age of the oldest commit that is not archived; 0: there is none."""
    upto: int | None
    """Sequence up to which the log is archived; None: it never was."""
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillFact:
    """Last drill."""

    at: datetime
    backup: str
    outcome: str
    rto_seconds: float | None
    rpo_seconds: float | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFacts:
    """Facts about the backups of one environment."""

    repository: str
    problem: str | None
    """Why the repository cannot be read now; then only this is known."""
    count: int = 0
    last_good: GoodBackup | None = None
    """None: there is none."""
    is_old: bool = False
    """Whether it is older than backup.max_age, or there is none."""
    window: RestoreWindow | None = None
    archive: ArchiveLag | None = None
    drill: DrillFact | None = None
    """None: there never was one."""
    next_run: datetime | None = None
    """None: the schedule cannot be read, or its package is missing."""
    failure: str | None = None
    """Last failure of a scheduled backup; None once a later backup is good."""
    failures: int = 0
    """Failures of scheduled backups that the repository has recorded."""
    damaged: int = 0
    """Objects that are damaged, and backups in which damage was found."""
    bytes: int | None = None
    """Of everything in the repository that manifests name."""
    free_bytes: int | None = None
    """None: there is no limit, or it is not known."""

    @property
    def is_well(self) -> bool:
        """True where nothing needs care; a repository out of reach is not judged."""
        if self.problem is not None:
            return True
        is_failed = self.drill is not None and self.drill.outcome == "failed"
        return not (self.is_old or self.damaged or self.failure or is_failed)


class BackupProbe:
    """Probe of the backups of an environment; keeps what it has read for a while."""

    def __init__(self, settings: Settings) -> None:
        """Args: settings: of the environment; a repository must be configured."""
        self._settings = settings
        self._known: tuple[float, BackupFacts, int | None] | None = None

    def facts(self, logs: Sequence[Store] = ()) -> BackupFacts:
        """Return the facts; nothing is raised, and nothing is written.

        Args:
            logs: the primary, for the lag of the archive; none: it is not known.
        """
        if self._known is None or time.monotonic() - self._known[0] > _KEPT_FOR:
            self._known = (time.monotonic(), *self._read())
        _, found, upto = self._known
        if found.problem is not None:
            return found
        return replace(found, archive=_lag(logs, upto), **self._ages(found))

    def _ages(self, found: BackupFacts) -> dict[str, Any]:
        """Return what grows with the time, of facts that were read before."""
        good = found.last_good
        if good is None:
            return {"is_old": True}
        age = (datetime.now(UTC) - good.at).total_seconds()
        most = self._settings.require_backup().max_age.total_seconds()
        return {
            "last_good": replace(good, age_seconds=max(0.0, age)),
            "is_old": age > most,
        }

    def _read(self) -> tuple[BackupFacts, int | None]:
        address = self._settings.require_backup().repository
        try:
            repository = open_repository(self._settings)
            return self._of(Catalog(repository), repository.free_bytes())
        except (PendStorageError, OSError, ModuleNotFoundError) as error:
            never = isinstance(error, ConfigError) and "there is no repository" in str(
                error
            )
            if never:  # nothing was ever backed up: that is known well
                return self._nothing(address), None
            return BackupFacts(repository=address, problem=str(error)), None

    def _nothing(self, address: str) -> BackupFacts:
        return BackupFacts(
            repository=address, problem=None, is_old=True, next_run=self._next()
        )

    def _of(self, catalog: Catalog, free: int | None) -> tuple[BackupFacts, int | None]:
        environment = self._settings.environment
        own = [s for s in standings(catalog) if s.backup.environment == environment]
        good = [s for s in own if s.fault is None]
        last = max(good, key=_position, default=None)
        segments = catalog.segments()
        ends = [chain.last for chain in chains(segments)]
        end = max(ends, key=lambda s: (s.epoch, s.upto), default=None)
        spoiled = [s for s in own if s.fault is not None and s.verified_at is not None]
        parts = [p.size for s in own for p in s.backup.parts]
        facts = BackupFacts(
            repository=catalog.repository.url,
            problem=None,
            count=len(own),
            last_good=None if last is None else _good(last),
            window=_window(windows([s.backup for s in good], segments)),
            drill=_drill(own),
            next_run=self._next(),
            failure=_failure(catalog, environment, last),
            failures=len(_failures(catalog, environment)),
            damaged=len(catalog.damaged()) + len(spoiled),
            bytes=sum(parts) + sum(s.part.size for s in segments),
            free_bytes=free,
        )
        return facts, None if end is None else end.upto

    def _next(self) -> datetime | None:
        try:
            schedule = parse_schedule(self._settings.require_backup().schedule)
            return schedule.next_after(datetime.now(UTC))
        except ConfigError:
            return None


def _position(standing: Standing) -> tuple[int, int, str]:
    point = standing.backup.point
    return point.epoch, point.sequence, point.at


def _good(last: Standing) -> GoodBackup:
    point = last.backup.point
    return GoodBackup(
        id=last.backup.id,
        at=datetime.fromisoformat(point.at),
        sequence=point.sequence,
        verified_at=last.verified_at,
        age_seconds=0.0,
    )


def _window(found: Sequence[Window]) -> RestoreWindow | None:
    if not found:
        return None
    first = min(found, key=lambda w: (w.earliest.epoch, w.earliest.sequence))
    last = max(found, key=lambda w: (w.latest.epoch, w.latest.sequence, w.latest.at))
    return RestoreWindow(
        earliest=datetime.fromisoformat(first.earliest.at),
        earliest_sequence=first.earliest.sequence,
        latest=datetime.fromisoformat(last.latest.at),
        latest_sequence=last.latest.sequence,
        gap=next((w.gap for w in found if w.gap is not None), None),
    )


def _drill(own: Sequence[Standing]) -> DrillFact | None:
    drilled = [(s.drilled, s.backup.id) for s in own if s.drilled is not None]
    if not drilled:
        return None
    fact, backup = max(drilled, key=lambda found: found[0].at)
    detail = fact.detail
    return DrillFact(
        at=fact.at,
        backup=backup,
        outcome=str(detail.get("outcome", "ok" if fact.ok else "failed")),
        rto_seconds=_number(detail.get("rto_seconds")),
        rpo_seconds=_number(detail.get("rpo_seconds")),
        reason=None if detail.get("reason") is None else str(detail["reason"]),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _failures(catalog: Catalog, environment: str) -> list[Fact]:
    """Return the failures of scheduled runs of an environment."""
    return [
        fact
        for fact in catalog.facts(SCHEDULE)
        if fact.kind == FAILED and fact.detail.get("environment") in {None, environment}
    ]


def _failure(catalog: Catalog, environment: str, last: Standing | None) -> str | None:
    """Return the last failure of a scheduled run, unless a later backup is good."""
    failed = latest_fact(_failures(catalog, environment), FAILED)
    if failed is None:
        return None
    begun = None if last is None else datetime.fromisoformat(last.backup.started_at)
    if begun is not None and begun > failed.at:
        return None
    return str(failed.detail.get("message", "it failed"))


def _lag(logs: Sequence[Store], upto: int | None) -> ArchiveLag:
    if upto is None:
        return ArchiveLag(commits=None, seconds=None, upto=None)
    now = datetime.now(UTC)
    commits, seconds = 0, 0.0
    try:
        for store in logs:
            pending = store.pending(upto)
            commits += pending.commits
            if pending.oldest is not None:
                age = (now - pending.oldest).total_seconds()
                seconds = max(seconds, age)
    except PendStorageError as error:  # out of reach, or a gap
        return ArchiveLag(commits=None, seconds=None, upto=upto, problem=str(error))
    if not logs:
        return ArchiveLag(commits=None, seconds=None, upto=upto)
    return ArchiveLag(commits=commits, seconds=seconds, upto=upto)
