"""Facts about one environment: its stores, its phase flag, the blockers of a phase.

``status``, ``db status``, ``doctor`` and the commands that change the phase render the
facts of this module, so that two of them cannot answer one question differently. A fact
that cannot be known now is None; probing changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, TypeVar

from pend_storage._model.records import JSON
from pend_storage._shown import moment
from pend_storage.backfill import BACKFILL_META
from pend_storage.dualwrite import Blocker, Lag, PassivePair, Readiness, Switch
from pend_storage.dualwrite._readiness import VALIDATION_META, count_waiting
from pend_storage.dualwrite._replication_position import is_complete_when_resumed
from pend_storage.errors import (
    ConfigError,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.factory import PassiveEnvironment
from pend_storage.flags import FlagSource, PairValues, held_switch
from pend_storage.phases import ROLE_META, Phase, Role, RoleState, path
from pend_storage.store import Store
from pend_storage.stores.json import PassiveJsonStore, journal_size

if TYPE_CHECKING:
    from pend_storage.stores.json._legacy_sync.file_lag import FileLag

__all__ = [
    "BackfillState",
    "Flag",
    "NextPhase",
    "Obstacle",
    "PairFacts",
    "StoreFacts",
    "backfill_of_database",
    "backfill_state",
    "json_facts",
    "known",
    "next_phase",
    "obstacles",
    "pair_facts",
    "previous_phase",
    "read_flag",
    "read_flag_of",
    "readiness",
    "store_facts",
]

T = TypeVar("T")

BackfillState: TypeAlias = Literal["never", "interrupted", "complete"]

_WITH_SECONDARY: Final = (Phase.PARALLEL, Phase.POSTGRES_PRIMARY)
_SWITCHES: Final = 5
"""Number of the latest switches in the facts of a pair."""

# -- one store ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """Role of one store, or the reason why the store cannot be probed."""

    place: str
    role: Role | None = None
    """None: the store has no role yet, or cannot be probed."""
    epoch: int | None = None
    problem: str | None = None
    """Reason why the store cannot be probed."""
    files: tuple[FileLag, ...] = ()
    """Legacy files of the JSON store that do not show every commit yet."""
    journal_bytes: int | None = None
    """Bytes of the journal of the JSON store; None: not known, or another store."""

    @property
    def has_begun(self) -> bool:
        """True where the store has a role in a pair; at epoch 0 it waits for one."""
        return bool(self.epoch)


def store_facts(store: Store, place: str) -> StoreFacts:
    """Probe an open store.

    Args:
        store: one side of the environment.
        place: directory or URL, without a password.
    """
    try:
        meta = store.meta(ROLE_META)
    except PendStorageError as error:
        return StoreFacts(place=place, problem=str(error))
    if meta is None:
        return StoreFacts(place=place)
    state = RoleState.from_meta(meta)
    return StoreFacts(place=place, role=state.role, epoch=state.epoch)


def json_facts(store: PassiveJsonStore, place: str) -> StoreFacts:
    """Probe an open JSON store, with the lag of its legacy files."""
    found = store_facts(store, place)
    files = known(store.file_lags) if found.problem is None else None
    size = known(lambda: journal_size(Path(place)))
    return replace(found, files=files or (), journal_bytes=size)


def known(probe: Callable[[], T]) -> T | None:
    """Return the result of a probe; None where a store cannot answer now."""
    try:
        return probe()
    except PendStorageError:
        return None


# -- the backfill -------------------------------------------------------------------------


_HOLDS_EVERYTHING: Final = (Role.PRIMARY, Role.FENCED)
"""Roles of a store that is primary, or was until a switch fenced it: only a store that
holds every record becomes primary."""


def backfill_state(
    primary: Store,
    follower: Store,
    is_complete: Callable[[Store, Store], bool] = is_complete_when_resumed,
) -> BackfillState:
    """Return the state of the backfill from one store to the other.

    It is complete where the secondary holds what was in the primary before it began to
    follow the change log.

    Args:
        primary: the store that is, or would be, copied.
        follower: the store that was, or would be, filled.
        is_complete: returns whether the follower has everything.

    Raises:
        ConfigError: the primary's log was rewound.
        StoreUnavailable: one of the stores cannot be reached.
    """
    if is_complete(primary, follower):
        return "complete"
    mark = follower.meta(BACKFILL_META)
    # A backfill that was complete before a gap in the change log proves nothing: commits
    # in the gap are neither in the log nor in the copy.
    if not isinstance(mark, Mapping) or mark.get("complete"):
        return "never"
    return "interrupted"


def backfill_of_database(environment: PassiveEnvironment) -> BackfillState | None:
    """Return the state of the backfill of the database from the JSON directory.

    None where the JSON store is needed for the answer and cannot be read.

    Args:
        environment: with a database that can be read.

    Raises:
        StoreUnavailable: the database cannot be reached.
    """
    database = environment.require("postgres")
    role = database.meta(ROLE_META)
    if role is not None and RoleState.from_meta(role).role in _HOLDS_EVERYTHING:
        return "complete"
    source = environment.json
    if source is not None:
        return known(lambda: backfill_state(source, database))
    if environment.problem("json") is not None:
        return None
    # Nothing was copied from the directory yet, unless its store was lost, or is on
    # another machine.
    return "never" if database.meta(BACKFILL_META) is None else None


# -- the phase flag -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Phase that the flag wants now, or the reason why it cannot be read."""

    wanted: Phase | None
    """None: the flag is set nowhere, or cannot be read."""
    place: str
    """Name of the source that decides, or of all sources where none is set."""
    version: int = 0
    writable: bool
    """Whether a command can change the flag."""
    problem: str | None = None
    """Reason why the flag cannot be read."""
    is_reachable: bool = True
    held: str | None = None
    """Automatic switch that the servers hold, because the last one is not long ago."""


def read_flag(source: FlagSource) -> Flag:
    """Read the flag; an error is part of the result."""
    try:
        wanted = source.read()
        writable = source.writable
    except StoreUnavailable as error:
        return Flag(
            wanted=None,
            place=source.place,
            writable=False,
            problem=str(error),
            is_reachable=False,
        )
    except ConfigError as error:  # an invalid word can be overwritten
        return Flag(
            wanted=None,
            place=source.place,
            writable=_is_writable(source),
            problem=str(error),
        )
    if wanted is None:
        return Flag(wanted=None, place=source.place, writable=writable)
    return Flag(
        wanted=wanted.phase,
        place=wanted.place,
        version=wanted.version,
        writable=writable,
    )


def read_flag_of(pair: PairValues, source: FlagSource) -> Flag:
    """Read the flag, and compare its version with the last one that the pair followed."""
    flag = replace(read_flag(source), held=known(lambda: _held(pair)))
    if flag.problem is not None:
        return flag
    try:
        source.remembering(pair).read()  # refuses a version older than the one followed
    except ConfigError as error:
        return replace(flag, wanted=None, version=0, problem=str(error))
    except PendStorageError:
        return flag
    return flag


def _held(pair: PairValues) -> str | None:
    latest = held_switch(pair)
    if latest is None:
        return None
    at = datetime.fromtimestamp(latest.at, UTC)
    return (
        f"{latest.held} was wanted soon after the automatic change to {latest.phase} of "
        f"{moment(at)}, and was held"
    )


def _is_writable(source: FlagSource) -> bool:
    try:
        return source.writable
    except (ConfigError, StoreUnavailable):
        return False


# -- the blockers of a phase --------------------------------------------------------------

_REMEDIES: Final[Mapping[str, str]] = {
    "unclaimed": "pend-storage inspect DIRECTORY",
    "backfill": "pend-storage migrate json",
    "validation": "pend-storage db validate",
    "lag": "pend-storage status --watch",
    "quarantine": "pend-storage quarantine list",
    "backup": "pend-storage backup create",
}
_DOCTOR: Final = "pend-storage doctor"
_COMMAND: Final = re.compile(r"pend-storage (?:db|json)(?: --?[a-z-]+| [a-z]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Blocker of a phase, with the command that removes it."""

    code: str
    sentence: str
    remedy: str
    """Command that removes the blocker."""
    can_be_accepted: bool


class _HasReadiness(Protocol):
    """Pair of stores that knows the blockers of its phases."""

    @property
    def phase(self) -> Phase: ...
    def readiness(self, phase: Phase) -> Readiness: ...


def readiness(pair: _HasReadiness, phase: Phase) -> Readiness:
    """Return the readiness of a pair for a phase.

    A database whose schema is not current is the blocker ``schema``, not an error.

    Raises:
        StoreUnavailable: one of the stores cannot be reached.
    """
    try:
        return pair.readiness(phase)
    except SchemaOutOfDate as error:
        return Readiness(
            phase, path(pair.phase, phase), (Blocker("schema", str(error)),)
        )


def obstacles(blockers: Iterable[Blocker]) -> tuple[Obstacle, ...]:
    """Combine blockers with the commands that remove them."""
    return tuple(
        Obstacle(
            code=blocker.code,
            sentence=blocker.sentence,
            remedy=_remedy(blocker),
            can_be_accepted=blocker.can_be_accepted,
        )
        for blocker in blockers
    )


def _remedy(blocker: Blocker) -> str:
    if blocker.code != "schema":
        return _REMEDIES.get(blocker.code, _DOCTOR)
    # The sentence names the command: it depends on which of the two schemas is older.
    named = _COMMAND.search(blocker.sentence)
    return _DOCTOR if named is None else named[0]


def next_phase(phase: Phase) -> Phase | None:
    """Return the phase after this one; None after the last."""
    return next(iter(path(phase, Phase.POSTGRES_ONLY)), None)


def previous_phase(phase: Phase) -> Phase | None:
    """Return the phase before this one; None before the first."""
    return next(iter(path(phase, Phase.JSON_ONLY)), None)


# -- the pair -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPhase:
    """Readiness for the phase after the present one."""

    phase: Phase
    ready: bool
    blockers: tuple[Obstacle, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFacts:
    """Replication between the two stores; a fact that cannot be known now is None."""

    lag: Lag | None
    """None: no store is secondary, or it cannot be probed."""
    backfill: BackfillState | None
    """State of the backfill of the secondary."""
    validation: JSON
    """Result and time of the last comparison of all records; None: there was none."""
    divergences: int | None
    """Divergences that any process has found, and that are not repaired yet."""
    waiting: int | None
    """Quarantined records that need a decision."""
    ahead: NextPhase | None
    history: tuple[Switch, ...]
    """The latest switches, oldest first."""


def pair_facts(pair: PassivePair, phase: Phase | None) -> PairFacts:
    """Probe a pair.

    Args:
        pair: both stores, open for reading.
        phase: the present phase; None: it cannot be known now.
    """
    # Each fact is probed by itself: an unreachable store hides its own facts only.
    source, follower = known(pair.follower) or (pair.json, None)
    lag, backfill, validation = None, None, None
    if follower is not None or phase in _WITH_SECONDARY:  # also one out of reach
        lag = known(pair.lag)
    if follower is not None:
        backfill = known(lambda: backfill_state(source, follower, pair.is_complete))
        validation = known(lambda: follower.meta(VALIDATION_META))
    return PairFacts(
        lag=lag,
        backfill=backfill,
        validation=validation,
        divergences=known(pair.open_divergences),
        waiting=known(lambda: count_waiting(pair.store(pair.primary()[0]))),
        ahead=None if phase is None else known(lambda: _ahead(pair, phase)),
        history=(known(pair.history) or ())[-_SWITCHES:],
    )


def _ahead(pair: PassivePair, phase: Phase) -> NextPhase | None:
    after = next_phase(phase)
    if after is None:
        return None
    found = readiness(pair, after)
    return NextPhase(phase=after, ready=found.ok, blockers=obstacles(found.blockers))
