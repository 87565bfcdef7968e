"""Where an environment stands: phase, roles, lag, and what is left to do.

Works with one store out of reach, and never gives a fresh pair its first roles.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar

from pend_storage._records import JSON, QuarantinedRecord
from pend_storage.backfill import BACKFILL_META
from pend_storage.config import Settings
from pend_storage.dualwrite import Lag, Switch
from pend_storage.dualwrite.marks import is_covered
from pend_storage.dualwrite.readiness import VALIDATION_META
from pend_storage.dualwrite.roles import SIDES, Side, other
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.factory import (
    OWN_FOLDER,
    ConfiguredPair,
    open_json,
    open_pair,
    open_postgres,
    require_directory,
)
from pend_storage.flags import FlagSource, flag_source
from pend_storage.operations.flag import Flag, read_flag, read_flag_of
from pend_storage.operations.quarantine import BrokenFile, broken_files
from pend_storage.operations.readiness import (
    Obstacle,
    next_phase,
    obstacles,
    readiness,
)
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.query import field
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.json.file_lag import FileLag

__all__ = ["Ahead", "Details", "Observer", "SideStanding", "Standing"]

T = TypeVar("T")

_SWITCHES: Final = 5
"""Of the latest switches, how many are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideStanding:
    """Where one store stands."""

    place: str
    role: Role | None = None
    """None: it has none yet, or cannot be asked."""
    epoch: int | None = None
    problem: str | None = None
    """Why it cannot be asked."""
    files: tuple[FileLag, ...] = ()
    """Of JSON: the legacy files that do not show every commit yet."""

    @property
    def has_begun(self) -> bool:
        """Whether it has a role in a pair; at epoch 0 it waits for one."""
        return bool(self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The phase after the present one."""

    phase: Phase
    ready: bool
    blockers: tuple[Obstacle, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a pair tells of itself; None is what cannot be known now."""

    lag: Lag | None
    """None: no store follows, or it cannot be asked."""
    backfill: Literal["never", "interrupted", "complete"] | None
    """Whether the store that follows has what was there before it did."""
    validation: JSON
    """What the last comparison of all records found, and when; None: there was none."""
    divergences: int | None
    """Records that any process has found to differ, and that are not seen to yet."""
    waiting: int | None
    """Quarantined records that nobody has accepted yet."""
    ahead: Ahead | None
    history: tuple[Switch, ...]
    """The latest switches, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything at one moment."""

    environment: str
    configuration: str
    """Where the settings stand."""
    flag: Flag
    phase: Phase | None
    """None: the stores are no pair yet, or what would decide it cannot be asked."""
    json: SideStanding | None
    """None: not configured."""
    postgres: SideStanding | None
    problem: str | None
    """Why the stores cannot be used as a pair."""
    details: Details | None = None
    broken: tuple[BrokenFile, ...] = ()
    """Legacy files that are broken as a whole, and that nobody has decided about."""

    @property
    def differs(self) -> bool:
        """Whether another phase is wanted than the one that is."""
        return None not in {self.phase, self.flag.wanted} and (
            self.phase is not self.flag.wanted
        )

    @property
    def is_fresh(self) -> bool:
        """Whether no store has a role yet, but the one that ``db seed`` gives."""
        sides = [side for side in (self.json, self.postgres) if side is not None]
        return all(not side.has_begun and side.problem is None for side in sides)

    @property
    def is_well(self) -> bool:
        """Whether nothing is out of reach, wrong, stuck, or other than wanted."""
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
        )


class Observer:
    """Looks at an environment, once or again and again; keeps its stores open."""

    def __init__(self, settings: Settings) -> None:
        """Args: settings: of the environment.

        Raises:
            ConfigError: the place of the flag cannot be used.
        """
        self._settings = settings
        self._source: FlagSource = flag_source(settings)
        self._pair: ConfiguredPair | None = None
        self._broken: tuple[BrokenFile, ...] = ()
        self._problem: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._source.close)
            if self._pair is not None:
                stack.callback(self._pair.close)

    def look(self, *, details: bool = True) -> Standing:
        """Look now; what cannot be known is told as such, and raises nothing."""
        sides = self._sides()
        if self._pair is None:
            self._open(sides)
        pair = self._pair
        if pair is None:
            flag = read_flag(self._source)
        else:
            flag = read_flag_of(pair, self._source)
        phase = None if pair is None else _phase(pair)
        if phase is None:
            phase = _phase_by_roles(sides)
        return Standing(
            environment=self._settings.environment,
            configuration=self._settings.place,
            flag=flag,
            phase=phase,
            json=sides.get("json"),
            postgres=sides.get("postgres"),
            problem=self._problem,
            details=_details(pair, phase) if details and pair is not None else None,
            broken=self._broken
            if pair is None
            else _or_none(lambda: broken_files(pair)) or (),
        )

    def _open(self, sides: Mapping[Side, SideStanding]) -> None:
        """Open the pair if it is one."""
        self._problem = None
        begun = any(side.has_begun for side in sides.values())
        if len(sides) < len(SIDES) or not begun:
            return
        try:
            self._pair = open_pair(self._settings)
        except PendStorageError as error:
            self._problem = str(error)

    # -- one side at a time ---------------------------------------------------------------

    def _sides(self) -> dict[Side, SideStanding]:
        found: dict[Side, SideStanding] = {}
        if self._settings.json is not None:
            found["json"] = self._json(self._settings.json.directory)
        if self._settings.postgres is not None:
            found["postgres"] = self._postgres(self._settings.postgres.shown_url)
        return found

    def _json(self, directory: Path) -> SideStanding:
        place = str(directory)
        if self._pair is not None:
            return _ask_json(self._pair.json, place)
        try:
            require_directory(self._settings, directory)
        except ConfigError as error:
            return SideStanding(place=place, problem=str(error))
        if not (directory / OWN_FOLDER).exists():  # opening it would adopt its files
            return SideStanding(place=place)
        try:
            with open_json(self._settings) as store:
                self._broken = broken_files(store)
                return _ask_json(store, place)
        except PendStorageError as error:
            return SideStanding(place=place, problem=str(error))

    def _postgres(self, place: str) -> SideStanding:
        if self._pair is not None:
            return _ask(self._pair.postgres, place)
        try:
            with open_postgres(self._settings) as store:
                return _ask(store, place)
        except PendStorageError as error:
            return SideStanding(place=place, problem=str(error))


def _ask_json(store: JsonStore, place: str) -> SideStanding:
    found = _ask(store, place)
    files = _or_none(store.file_lags) if found.problem is None else None
    return replace(found, files=files or ())


def _ask(store: Store, place: str) -> SideStanding:
    try:
        meta = store.meta(ROLE_META)
    except PendStorageError as error:
        return SideStanding(place=place, problem=str(error))
    if meta is None:
        return SideStanding(place=place)
    state = RoleState.from_meta(meta)
    return SideStanding(place=place, role=state.role, epoch=state.epoch)


def _phase(pair: ConfiguredPair) -> Phase | None:
    try:
        return pair.phase
    except PendStorageError:
        return None


_BY_OTHER_ROLE: Final[Mapping[tuple[Side, Role | None], Phase]] = {
    ("json", Role.SECONDARY): Phase.POSTGRES_PRIMARY,
    ("json", Role.DETACHED): Phase.POSTGRES_ONLY,
    ("postgres", Role.SECONDARY): Phase.PARALLEL,
    ("postgres", Role.DETACHED): Phase.JSON_ONLY,
}
"""What a store that is not primary knows of the phase."""


def _phase_by_roles(sides: Mapping[Side, SideStanding]) -> Phase | None:
    """What the only store that answers knows, where the primary does not."""
    answering = [side for side, at in sides.items() if at.has_begun]
    if len(answering) != 1:
        return None
    side = answering[0]
    return _BY_OTHER_ROLE.get((side, sides[side].role))


# -- the pair -----------------------------------------------------------------------------


def _details(pair: ConfiguredPair, phase: Phase | None) -> Details:
    source, follower = _sides_of(pair)
    fact = None if follower is None else follower.meta(VALIDATION_META)
    return Details(
        lag=None if follower is None else _or_none(pair.lag),
        backfill=None if follower is None else _backfill(source, follower),
        validation=fact,
        divergences=_or_none(lambda: len(pair.divergences())),
        waiting=_or_none(lambda: _waiting(pair)),
        ahead=None if phase is None else _or_none(lambda: _ahead(pair, phase)),
        history=(_or_none(pair.history) or ())[-_SWITCHES:],
    )


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except PendStorageError:
        return None


def _sides_of(pair: ConfiguredPair) -> tuple[Store, Store | None]:
    """The primary, and the store that follows it, if there is one and it answers."""
    view = _or_none(pair.roles)
    side = None if view is None else view.primary
    if view is None or side is None:
        return pair.json, None
    stores = (
        (pair.json, pair.postgres) if side == "json" else (pair.postgres, pair.json)
    )
    peer = view.of(other(side))
    if peer is None or peer.role is not Role.SECONDARY:
        return stores[0], None
    return stores


def _backfill(
    source: Store, follower: Store
) -> Literal["never", "interrupted", "complete"] | None:
    covered = _or_none(lambda: is_covered(source, follower))
    if covered is None or covered:
        return None if covered is None else "complete"
    mark = follower.meta(BACKFILL_META)
    if not isinstance(mark, Mapping) or mark.get("complete"):
        return "never"  # or before a gap in the change log, which proves nothing
    return "interrupted"


def _waiting(pair: ConfiguredPair) -> int:
    return pair.collection(QuarantinedRecord).count(field("status") == "waiting")


def _ahead(pair: ConfiguredPair, phase: Phase) -> Ahead | None:
    after = next_phase(phase)
    if after is None:
        return None
    found = readiness(pair, after)
    return Ahead(phase=after, ready=found.ok, blockers=obstacles(found))
