"""Risks of an environment: what puts data, or its copy, at risk. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta

from pend_storage.operations._verdict_values import (
    DOCTOR,
    PAGE_LAG,
    TICKET_LAG,
    Answer,
    Found,
    Level,
    duration,
    records,
    why,
    worst,
)
from pend_storage.operations.status import EnvironmentStatus
from pend_storage.phases import Role

__all__ = ["Risks"]


class Risks:
    """Facts of a status that put data at risk."""

    def __init__(self, status: EnvironmentStatus, retention: timedelta | None) -> None:
        """Take the facts.

        Args:
            status: of the environment.
            retention: for how long the primary's change log is kept; None: not known.
        """
        self._status = status
        self._details = status.details
        self._retention = retention
        named = (("JSON", status.json), ("PostgreSQL", status.postgres))
        self._sides = [(name, side) for name, side in named if side is not None]

    def answer(self) -> Answer:
        """Return what puts data, or its copy, at risk."""
        found = [
            *self._silent_others(),
            *self._unknown(),
            *self._lag(),
            *self._differences(),
            *self._quarantined(),
            *self._backups(),
            *self._late_files(),
        ]
        return worst("risk", found, "no data is at risk that is known of")

    def _silent_others(self) -> Iterator[Found]:
        """Yield a store that does not answer beside a primary that does."""
        has_primary = any(
            side.problem is None and side.role is Role.PRIMARY
            for _, side in self._sides
        )
        for name, side in self._sides:
            if side.problem is None or not has_primary:
                continue
            if self._is_detached(name):
                yield Found(
                    Level.ATTENTION,
                    f"{name} does not answer; it takes no part now: {why(side.problem)}",
                    DOCTOR,
                )
            else:
                yield Found(
                    Level.RISK,
                    f"{name} does not answer, and misses every commit until it is back: "
                    f"{why(side.problem)}",
                    DOCTOR,
                )

    def _is_detached(self, name: str) -> bool:
        phase = self._status.phase
        if phase is None:
            return False
        role = phase.json_role if name == "JSON" else phase.postgres_role
        return role is Role.DETACHED

    def _unknown(self) -> Iterator[Found]:
        """Yield facts that cannot be known now: unknown is not none."""
        details = self._details
        if details is None:
            return
        facts = {"divergences": details.divergences, "quarantine": details.waiting}
        names = [name for name, fact in facts.items() if fact is None]
        if names:
            yield Found(
                Level.ATTENTION, f"not known now: {' and '.join(names)}", DOCTOR
            )

    def _lag(self) -> Iterator[Found]:
        lag = None if self._details is None else self._details.lag
        if lag is None:
            return
        if lag.blocked is not None:
            yield Found(
                Level.RISK, f"replication is blocked: {why(lag.blocked)}", DOCTOR
            )
        if not lag.secondary_up and not any(side.problem for _, side in self._sides):
            yield Found(
                Level.RISK, "the secondary did not answer the last time", DOCTOR
            )
        level = self.level_of_lag(lag.seconds)
        if lag.commits and level is not Level.OK:
            yield Found(
                level,
                f"the secondary is {lag.commits:,} commits behind, for "
                f"{duration(lag.seconds)}{self._until_expiry(lag.seconds)}",
                "pend-storage status --watch",
            )

    def level_of_lag(self, seconds: float) -> Level:
        """Return the level of a lag: the bounds of the alerts, and half of the retention."""
        kept = self._retention
        if seconds > PAGE_LAG or (kept and seconds > kept.total_seconds() / 2):
            return Level.RISK
        return Level.ATTENTION if seconds > TICKET_LAG else Level.OK

    def _until_expiry(self, seconds: float) -> str:
        if self._retention is None:
            return ""
        left = self._retention.total_seconds() - seconds
        if left <= 0 or math.isinf(left):
            return ", which may be longer than its change log is kept"
        return f"; the change log is kept for {duration(left)} more"

    def _differences(self) -> Iterator[Found]:
        if self._details is None:
            return
        if self._details.divergences:
            yield Found(
                Level.RISK,
                f"the stores differ in {records(self._details.divergences)}",
                "pend-storage repair --dry-run",
            )
        fact = self._details.validation
        found = fact.get("found") if isinstance(fact, Mapping) else None
        if found and not self._details.divergences:
            yield Found(
                Level.RISK,
                f"the last validation found differences: {found}",
                "pend-storage repair --dry-run",
            )

    def _quarantined(self) -> Iterator[Found]:
        if self._details is not None and self._details.waiting:
            yield Found(
                Level.ATTENTION,
                f"in quarantine, waiting for a decision: "
                f"{records(self._details.waiting)}",
                "pend-storage quarantine list",
            )
        for file in self._status.broken:
            if not file.unread:
                yield Found(
                    Level.ATTENTION,
                    f"{file.file} is broken; the store has what it had: {file.reason}",
                    f"pend-storage quarantine show {file.id}",
                )

    def _backups(self) -> Iterator[Found]:
        backup = self._status.backup
        if backup is None:
            return
        if backup.problem is not None:
            yield Found(
                Level.ATTENTION,
                f"the repository of backups cannot be read: {why(backup.problem)}",
                "pend-storage backup list",
            )
        elif backup.last_good is None:
            yield Found(
                Level.RISK, "there is no verified backup", "pend-storage backup create"
            )
        elif backup.is_old:
            age = duration(backup.last_good.age_seconds)
            yield Found(
                Level.RISK,
                f"the last good backup is {age} old, more than is allowed",
                "pend-storage backup create",
            )
        if backup.damaged:
            yield Found(
                Level.RISK,
                f"damage in the repository of backups: {backup.damaged:,} objects",
                "pend-storage backup verify",
            )
        if backup.failure is not None:
            yield Found(
                Level.ATTENTION,
                f"the last scheduled backup failed: {backup.failure}",
                "pend-storage backup create",
            )
        if backup.drill is not None and backup.drill.outcome == "failed":
            yield Found(
                Level.RISK,
                f"the last drill failed: {backup.drill.reason or 'no reason was recorded'}",
                "pend-storage backup drill",
            )
        archive = backup.archive
        if archive is not None and archive.problem is not None:
            yield Found(
                Level.ATTENTION,
                f"the archive of the change log: {why(archive.problem)}",
                "pend-storage backup archive",
            )

    def _late_files(self) -> Iterator[Found]:
        for _, side in self._sides:
            late = [file for file in side.files if file.seconds > TICKET_LAG]
            if late:
                oldest = max(late, key=lambda file: file.seconds)
                yield Found(
                    Level.ATTENTION,
                    f"{oldest.file} shows the commits of {duration(oldest.seconds)} ago: "
                    "programs that read the legacy file see old records",
                    DOCTOR,
                )
