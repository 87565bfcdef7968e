"""Status of an environment: phase, flag, roles, lag, blockers of the next phase.

The probe works with one store unreachable, and never assigns the first roles of a pair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from pend_storage._model.jobs import Job
from pend_storage.config import Settings
from pend_storage.dualwrite import ComparedTotals
from pend_storage.dualwrite._compared_totals import COMPARED_META, totals_in
from pend_storage.dualwrite._roles import Side
from pend_storage.events import Hooks, log_event
from pend_storage.factory import PassiveEnvironment
from pend_storage.flags import FlagSource, flag_source
from pend_storage.operations.facts import (
    Flag,
    PairFacts,
    StoreFacts,
    json_facts,
    known,
    pair_facts,
    read_flag,
    read_flag_of,
    store_facts,
)
from pend_storage.operations.jobs import jobs_of
from pend_storage.operations.quarantine import BrokenFile, broken_files
from pend_storage.phases import Phase, Role
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.operations.backup.facts import BackupFacts, BackupProbe

__all__ = ["EnvironmentStatus", "StatusProbe", "log_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentStatus:
    """All facts about an environment at one moment."""

    environment: str
    configuration: str
    """Place of the settings: a table of a file, or the environment variables."""
    retention_seconds: float | None = None
    """Seconds for which entries stay in the change logs that the other store has applied;
    None: there is only one store."""
    flag: Flag
    phase: Phase | None
    """None: the stores are no pair yet, or the store that decides cannot be probed."""
    json: StoreFacts | None
    """None: not configured."""
    postgres: StoreFacts | None
    problem: str | None
    """Reason why the stores cannot be opened as a pair."""
    details: PairFacts | None = None
    backup: BackupFacts | None = None
    """None: no repository of backups is configured."""
    broken: tuple[BrokenFile, ...] = ()
    """Legacy files that are broken as a whole, and that need a decision."""
    jobs: tuple[Job, ...] = ()
    """Jobs that run, and the last ones that ended, oldest first."""
    compared: ComparedTotals | None = None
    """Counters of the compared reads of all processes; None: there were none."""

    @property
    def differs(self) -> bool:
        """True where the stores are not in the wanted phase."""
        return None not in {self.phase, self.flag.wanted} and (
            self.phase is not self.flag.wanted
        )

    @property
    def is_fresh(self) -> bool:
        """True where no store has a role yet, except for the one that ``db seed`` writes."""
        sides = [side for side in (self.json, self.postgres) if side is not None]
        return all(not side.has_begun and side.problem is None for side in sides)

    @property
    def is_well(self) -> bool:
        """True where the phase is the wanted one, and no store, file or record needs care."""
        sides = [side for side in (self.json, self.postgres) if side is not None]
        found = 0 if self.details is None else self.details.divergences
        lag = None if self.details is None else self.details.lag
        return not (
            self.differs
            or self.problem
            or self.broken
            or found
            or (lag is not None and lag.blocked is not None)
            or any(side.problem is not None for side in sides)
            or (self.backup is not None and not self.backup.is_well)
        )


class StatusProbe:
    """Status probe: asks for the facts of an environment, and keeps its stores open.

    It changes nothing, and costs the same at any number of records and of commits that the
    secondary lacks.
    """

    def __init__(self, settings: Settings, *, hook: Hooks = log_event) -> None:
        """Open the stores for reading.

        Args:
            settings: of the environment.
            hook: gets the stores' events.

        Raises:
            ConfigError: the configuration of the flag's source is unusable, or the schema
                module cannot be loaded.
        """
        self._settings = settings
        self._source: FlagSource = flag_source(settings)
        self._backups: BackupProbe | None = None
        try:
            self.environment: PassiveEnvironment = PassiveEnvironment(
                settings, hook=hook
            )
        except BaseException:
            self._source.close()
            raise
        self._is_first = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores and the flag."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._source.close)
            stack.callback(self.environment.close)

    def status(self, *, details: bool = True) -> EnvironmentStatus:
        """Probe the environment now; a store that cannot be reached raises nothing.

        Args:
            details: also probe the replication between the stores.
        """
        if not self._is_first:  # opening the stores was the first look
            self.environment.refresh()
        self._is_first = False
        pair, error = self.environment.pair, self.environment.pair_error
        sides = self._sides()
        flag = (
            read_flag(self._source)
            if pair is None
            else read_flag_of(pair, self._source)
        )
        phase = None if pair is None else known(lambda: pair.phase)
        if phase is None:
            phase = _phase_by_roles(sides)
        return EnvironmentStatus(
            environment=self._settings.environment,
            configuration=self._settings.place,
            retention_seconds=self._retention(),
            flag=flag,
            phase=phase,
            json=sides.get("json"),
            postgres=sides.get("postgres"),
            problem=None if error is None else str(error),
            details=pair_facts(pair, phase) if details and pair is not None else None,
            backup=self._backup() if details else None,
            broken=known(self._broken) or (),
            jobs=jobs_of(
                [p for p in (pair, *self.environment.stores.values()) if p is not None],
                datetime.now(UTC),
            ),
            compared=None
            if pair is None
            else known(lambda: totals_in(pair.meta(COMPARED_META))),
        )

    def _broken(self) -> tuple[BrokenFile, ...]:
        if self.environment.pair is not None:
            return broken_files(self.environment.primary())
        json = self.environment.json
        return () if json is None else broken_files(json)

    def _retention(self) -> float | None:
        if self._settings.json is None or self._settings.postgres is None:
            return None
        days = timedelta(days=self._settings.dual_write.retention_days)
        return days.total_seconds()

    def _backup(self) -> BackupFacts | None:
        """Probe the backups; the log is that of the primary, where it can be read."""
        if self._settings.backup is None:
            return None
        if self._backups is None:
            # Not before: most environments have none of its packages.
            from pend_storage.operations.backup.facts import (  # noqa: PLC0415
                BackupProbe,
            )

            self._backups = BackupProbe(self._settings)
        return self._backups.facts(log_of(self.environment))

    def _sides(self) -> dict[Side, StoreFacts]:
        found: dict[Side, StoreFacts] = {}
        if self._settings.json is not None:
            json, place = self.environment.json, str(self._settings.json.directory)
            found["json"] = (
                StoreFacts(place=place, problem=self.environment.problem("json"))
                if json is None
                else json_facts(json, place)
            )
        if self._settings.postgres is not None:
            database, place = (
                self.environment.postgres,
                self._settings.postgres.shown_url,
            )
            found["postgres"] = (
                StoreFacts(place=place, problem=self.environment.problem("postgres"))
                if database is None
                else store_facts(database, place)
            )
        return found


def log_of(environment: PassiveEnvironment) -> tuple[Store, ...]:
    """Return the store whose log is archived now; none where that is not known."""
    settings = environment.settings
    if settings.json is not None and settings.postgres is not None:
        if environment.pair is None:
            return ()
        found = known(environment.primary)
        return () if found is None else (found,)
    return tuple(environment.stores.values())


_BY_OTHER_ROLE: Final[Mapping[tuple[Side, Role | None], Phase]] = {
    ("json", Role.SECONDARY): Phase.POSTGRES_PRIMARY,
    ("json", Role.DETACHED): Phase.POSTGRES_ONLY,
    ("postgres", Role.SECONDARY): Phase.PARALLEL,
    ("postgres", Role.DETACHED): Phase.JSON_ONLY,
}
"""Phase by the side and the role of a store that is not primary."""


def _phase_by_roles(sides: Mapping[Side, StoreFacts]) -> Phase | None:
    """Return the phase by the role of the secondary, where the primary is unreachable."""
    answering = [side for side, at in sides.items() if at.has_begun]
    if len(answering) != 1:
        return None
    side = answering[0]
    return _BY_OTHER_ROLE.get((side, sides[side].role))
