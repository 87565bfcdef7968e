"""Status of an environment: phase, flag, roles, lag, blockers of the next phase.

The probe works with one store unreachable, and never assigns the first roles of a pair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pend_storage.config import Settings
from pend_storage.dualwrite._roles import SIDES, Side
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.factory import (
    ConfiguredPair,
    open_json,
    open_pair,
    open_postgres,
    require_directory,
)
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
from pend_storage.operations.quarantine import BrokenFile, broken_files
from pend_storage.phases import Phase, Role
from pend_storage.store import Store
from pend_storage.stores.json import has_store

if TYPE_CHECKING:
    from pend_storage.operations.backup.facts import BackupFacts, BackupProbe

__all__ = ["EnvironmentStatus", "StatusProbe"]


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
    """Status probe: asks for the facts of an environment, and keeps its stores open."""

    def __init__(self, settings: Settings) -> None:
        """Args: settings: of the environment.

        Raises:
            ConfigError: the configuration of the flag's source is unusable.
        """
        self._settings = settings
        self._source: FlagSource = flag_source(settings)
        self._pair: ConfiguredPair | None = None
        self._broken: tuple[BrokenFile, ...] = ()
        self._problem: str | None = None
        self._backups: BackupProbe | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores and the flag."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._source.close)
            if self._pair is not None:
                stack.callback(self._pair.close)

    def status(self, *, details: bool = True) -> EnvironmentStatus:
        """Probe the environment now; a store that cannot be reached raises nothing.

        Args:
            details: also probe the replication between the stores.
        """
        sides = self._sides()
        if self._pair is None:
            self._open(sides)
        pair = self._pair
        if pair is None:
            flag = read_flag(self._source)
        else:
            flag = read_flag_of(pair, self._source)
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
            problem=self._problem,
            details=pair_facts(pair, phase) if details and pair is not None else None,
            backup=self._backup(pair, phase) if details else None,
            broken=self._broken
            if pair is None
            else known(lambda: broken_files(pair)) or (),
        )

    def _retention(self) -> float | None:
        if self._settings.json is None or self._settings.postgres is None:
            return None
        days = timedelta(days=self._settings.dual_write.retention_days)
        return days.total_seconds()

    def _open(self, sides: Mapping[Side, StoreFacts]) -> None:
        """Open the pair, if the stores have roles."""
        self._problem = None
        # Opening a fresh pair would assign its first roles.
        begun = any(side.has_begun for side in sides.values())
        if len(sides) < len(SIDES) or not begun:
            return
        try:
            self._pair = open_pair(self._settings)
        except PendStorageError as error:
            self._problem = str(error)

    def _backup(
        self, pair: ConfiguredPair | None, phase: Phase | None
    ) -> BackupFacts | None:
        """Probe the backups; the log is that of the primary, where it is open here."""
        if self._settings.backup is None:
            return None
        if self._backups is None:
            # Not before: most environments have none of its packages.
            from pend_storage.operations.backup.facts import (  # noqa: PLC0415
                BackupProbe,
            )

            self._backups = BackupProbe(self._settings)
        if pair is None:
            with open_alone(self._settings) as alone:
                return self._backups.facts(alone)
        if phase is None:
            return self._backups.facts()
        is_json = phase.json_role is Role.PRIMARY
        return self._backups.facts((pair.json if is_json else pair.postgres,))

    def _sides(self) -> dict[Side, StoreFacts]:
        found: dict[Side, StoreFacts] = {}
        if self._settings.json is not None:
            found["json"] = self._json(self._settings.json.directory)
        if self._settings.postgres is not None:
            found["postgres"] = self._postgres(self._settings.postgres.shown_url)
        return found

    def _json(self, directory: Path) -> StoreFacts:
        place = str(directory)
        if self._pair is not None:
            return json_facts(self._pair.json, place)
        try:
            require_directory(self._settings, directory)
        except ConfigError as error:
            return StoreFacts(place=place, problem=str(error))
        if not has_store(directory):  # opening the directory would adopt its files
            return StoreFacts(place=place)
        try:
            with open_json(self._settings) as store:
                self._broken = broken_files(store)
                return json_facts(store, place)
        except PendStorageError as error:
            return StoreFacts(place=place, problem=str(error))

    def _postgres(self, place: str) -> StoreFacts:
        if self._pair is not None:
            return store_facts(self._pair.postgres, place)
        try:
            with open_postgres(self._settings) as store:
                return store_facts(store, place)
        except PendStorageError as error:
            return StoreFacts(place=place, problem=str(error))


@contextlib.contextmanager
def open_alone(settings: Settings) -> Iterator[tuple[Store, ...]]:
    """Open the only store of an environment, for its log; none where it does not answer."""
    with contextlib.ExitStack() as opened:
        found: tuple[Store, ...] = ()
        with contextlib.suppress(PendStorageError):
            if settings.postgres is None and settings.json is not None:
                if has_store(settings.json.directory):
                    found = (opened.enter_context(open_json(settings)),)
            elif settings.json is None and settings.postgres is not None:
                found = (opened.enter_context(open_postgres(settings)),)
        yield found


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
