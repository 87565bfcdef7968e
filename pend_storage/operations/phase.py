"""Phase changes of an environment: check the readiness, write the flag, switch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pend_storage import crashpoints
from pend_storage._model.attribution import actor, current_actor
from pend_storage.config import Settings
from pend_storage.dualwrite import PassivePair, Readiness, SwitchReport
from pend_storage.dualwrite._readiness import require_codes
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.dualwrite._roles import SIDES
from pend_storage.errors import (
    ConfigError,
    PendStorageError,
    StoreUnavailable,
    SwitchRefused,
)
from pend_storage.factory import (
    ConfiguredPair,
    PassiveEnvironment,
    open_pair,
    open_passive,
)
from pend_storage.flags import FlagMemory, FlagSource, PairValues, flag_source
from pend_storage.operations.facts import (
    Flag,
    Obstacle,
    next_phase,
    obstacles,
    previous_phase,
    read_flag,
    readiness,
)
from pend_storage.operations.jobs import acted
from pend_storage.phases import Phase, Role

__all__ = [
    "FlagChange",
    "PhaseChange",
    "advance",
    "change_flag",
    "change_phase",
    "go_back",
    "pair_of",
    "require_changeable",
    "require_primary",
]

_FLAGGED: Final = crashpoints.declare(
    "phase.flagged", "the flag wants another phase, the stores know nothing of it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagChange:
    """Result of a change of the flag."""

    place: str
    before: Phase | None
    after: Phase | None
    written: bool
    note: str = ""
    """Instruction for a person; empty where there is nothing to do by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChange:
    """Report of a change of phase."""

    before: Phase
    wanted: Phase
    after: Phase
    steps: tuple[Phase, ...]
    """Phases to pass, with the wanted one at the end."""
    is_forward: bool
    dry_run: bool
    blockers: tuple[Obstacle, ...]
    """All blockers; of a rollback, what would be lost."""
    refused: tuple[Obstacle, ...]
    """Blockers that were not accepted: nothing was changed then."""
    flag: FlagChange | None
    """None for a dry run, and where the change was refused."""
    switch: SwitchReport | None
    ahead: tuple[Obstacle, ...] = ()
    """Blockers of the phase after the new one."""


def change_phase(
    settings: Settings,
    wanted: Phase,
    *,
    accept: Iterable[str] = (),
    dry_run: bool = False,
    timeout: float = 30.0,
    by: str | None = None,
    reason: str | None = None,
) -> PhaseChange:
    """Change the phase, through the phases between: the flag first, then the switch.

    Args:
        settings: of the environment; both stores must be configured.
        wanted: the new phase.
        accept: codes of blockers to accept.
        dry_run: only report what would happen.
        timeout: seconds that the switch may take.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; it is in the history of switches.

    Raises:
        ConfigError: a store is not configured, there is no such code, or the servers
            follow a flag that cannot be changed from here.
        StoreUnavailable: a store that is needed cannot be reached.
        SwitchTimeout: not finished in time; nothing is lost, call it again.
    """
    with acted(by, reason):
        return _change(
            settings, lambda _: wanted, accept=accept, dry_run=dry_run, timeout=timeout
        )


def advance(
    settings: Settings,
    *,
    accept: Iterable[str] = (),
    dry_run: bool = False,
    timeout: float = 30.0,
    by: str | None = None,
    reason: str | None = None,
) -> PhaseChange:
    """Move one phase forward. Arguments and errors as in :func:`change_phase`."""
    with acted(by, reason):
        return _change(settings, _next, accept=accept, dry_run=dry_run, timeout=timeout)


def go_back(
    settings: Settings,
    *,
    accept: Iterable[str] = (),
    dry_run: bool = False,
    timeout: float = 30.0,
    by: str | None = None,
    reason: str | None = None,
) -> PhaseChange:
    """Move one phase back. Arguments and errors as in :func:`change_phase`."""
    with acted(by, reason):
        return _change(
            settings, _previous, accept=accept, dry_run=dry_run, timeout=timeout
        )


def _next(now: Phase) -> Phase:
    after = next_phase(now)
    if after is None:
        raise ConfigError(f"the phase is {now.value}, and there is none after it.")
    return after


def _previous(now: Phase) -> Phase:
    before = previous_phase(now)
    if before is None:
        raise ConfigError(f"the phase is {now.value}, and there is none before it.")
    return before


def _change(
    settings: Settings,
    choose: Callable[[Phase], Phase],
    *,
    accept: Iterable[str],
    dry_run: bool,
    timeout: float,
) -> PhaseChange:
    accept = tuple(accept)
    require_codes(accept)
    source = flag_source(settings)
    try:
        if dry_run:
            return _planned(settings, source, choose, accept)
        with open_pair(settings) as pair:
            wanted = choose(pair.phase)
            change = _Change(settings, pair, source.remembering(pair), wanted, accept)
            return change.execute(pair, timeout)
    finally:
        source.close()


def _planned(
    settings: Settings,
    source: FlagSource,
    choose: Callable[[Phase], Phase],
    accept: tuple[str, ...],
) -> PhaseChange:
    """Report what a change would do; the stores are only read."""
    with open_passive(settings) as environment:
        pair = pair_of(environment)
        wanted = choose(pair.phase)
        looking = source.remembering(pair)
        return _Change(settings, pair, looking, wanted, accept).plan()


def pair_of(environment: PassiveEnvironment) -> PassivePair:
    """Return the pair of an environment that is looked at.

    Raises:
        ConfigError: a store is not configured, or the stores were never used as a pair, or
            do not belong together any more.
        PendStorageError: why neither store can be read.
    """
    settings = environment.settings
    settings.require_postgres()
    settings.require_json()
    if environment.pair_error is not None:
        raise environment.pair_error
    if environment.pair is not None:
        return environment.pair
    for side in SIDES:  # why one cannot be read comes first
        environment.require(side)
    raise ConfigError(
        f"{settings.place}: the stores were not used as a pair yet, and looking gives them "
        "no roles. Start a server, or run: pend-storage migrate json"
    )


class _Change:
    """Plan and execution of one change of phase."""

    def __init__(
        self,
        settings: Settings,
        pair: ConfiguredPair | PassivePair,
        source: FlagSource,
        wanted: Phase,
        accept: tuple[str, ...],
    ) -> None:
        self._pair = pair
        self._source = source
        self._before = pair.phase
        self._wanted = wanted
        self._accept = accept
        self._by = actor().by or current_actor()
        self._flag = read_flag(source)
        require_changeable(settings, self._flag, wanted)
        self._found = self._readiness()
        self._blockers = obstacles(self._found.blockers)
        self._refused = obstacles(self._found.refused(accept))

    def _readiness(self) -> Readiness:
        if self._before is self._wanted:
            return Readiness(self._wanted, (), ())
        if self._abandons_secondary():
            return Readiness(self._wanted, (self._wanted,), ())
        return readiness(self._pair, self._wanted)

    def _abandons_secondary(self) -> bool:
        """Return whether the change detaches a secondary that is unreachable.

        Its readiness cannot be known, and is not needed.
        """
        view = self._pair.roles()
        alone = Phase.JSON_ONLY if view.primary == "json" else Phase.POSTGRES_ONLY
        return not view.is_whole and view.primary is not None and alone is self._wanted

    def plan(self) -> PhaseChange:
        """Report what would happen."""
        return self._report(self._before, None, None, dry_run=True)

    def execute(self, pair: ConfiguredPair, timeout: float) -> PhaseChange:
        """Write the flag and make the switch, unless a blocker refuses it.

        Args:
            pair: open for changes.
            timeout: seconds that the switch may take.
        """
        if self._refused:
            return self._report(self._before, None, None)
        # The flag before the switch: if this process is killed between them, servers that
        # follow the flag complete the change. In the other order, one that starts undoes it.
        flag = change_flag(pair, self._source, self._flag, self._wanted, by=self._by)
        _FLAGGED()
        if self._before is self._wanted:
            return self._report(self._before, flag, None)
        try:
            switch = pair.switch(
                self._wanted, accept=self._accept, timeout=timeout, by=self._by
            )
        except SwitchRefused:
            self._restore(flag)
            raise
        return self._report(switch.after, flag, switch)

    def _restore(self, flag: FlagChange) -> None:
        """Set the flag back: a blocker arose between the readiness check and the switch."""
        if flag.written and flag.before is not None:
            self._source.write(flag.before, by=self._by)

    def _report(
        self,
        after: Phase,
        flag: FlagChange | None,
        switch: SwitchReport | None,
        *,
        dry_run: bool = False,
    ) -> PhaseChange:
        return PhaseChange(
            before=self._before,
            wanted=self._wanted,
            after=after,
            steps=self._found.steps,
            is_forward=self._wanted.position > self._before.position,
            dry_run=dry_run,
            blockers=self._blockers,
            refused=self._refused,
            flag=flag,
            switch=switch,
            ahead=() if switch is None else self._ahead(after),
        )

    def _ahead(self, phase: Phase) -> tuple[Obstacle, ...]:
        after = next_phase(phase)
        if after is None:
            return ()
        try:
            return obstacles(readiness(self._pair, after).blockers)
        except PendStorageError:
            return ()  # the switch succeeded; the next blockers are only a hint


# -- preconditions ------------------------------------------------------------------------


def require_primary(pair: ConfiguredPair | PassivePair) -> None:
    """Refuse a rollback without the primary, which alone has the latest commits.

    Raises:
        StoreUnavailable: PostgreSQL cannot be reached, and may be primary.
    """
    view = pair.roles()
    # With JSON as primary, PostgreSQL has no commit that JSON lacks.
    if view.is_whole or (view.json is not None and view.json.role is Role.PRIMARY):
        return
    mark = None if view.json is None else ReplicationPosition.load(pair.json)
    known = "what JSON has of it is not known"
    if mark is not None:
        known = f"JSON has what it acknowledged until {mark.committed_at or 'JSON began to follow'}"
    raise StoreUnavailable(
        f"it is primary, or may be, and cannot be reached; {known}, and whatever came "
        "after that would be lost. Bring it back and call this again. If it is lost for "
        "good, end every server, and let JSON take over with what it has: "
        "pend-storage doctor --elect json",
        store="PostgreSQL",
    )


def require_changeable(settings: Settings, flag: Flag, phase: Phase) -> None:
    """Refuse a change that running servers would undo, because they follow the flag.

    Raises:
        ConfigError: the servers follow a flag that cannot be changed from here.
        StoreUnavailable: the servers follow a flag that cannot be reached.
    """
    if not settings.auto_switch or flag.wanted is phase or flag.writable:
        return
    if not flag.is_reachable:
        raise StoreUnavailable(
            f"the running servers follow the flag by themselves (auto_switch), and it "
            f"cannot be changed now: {flag.problem}",
            store=flag.place,
        )
    raise ConfigError(
        f"{flag.place} cannot be changed from here, and the running servers follow it by "
        f"themselves (auto_switch). Set it to {phase.value!r} where it comes from and "
        "restart the servers: they make the switch. Or remove it there, so that the flag "
        "can be kept in Redis or in the file."
    )


# -- the flag -----------------------------------------------------------------------------


def change_flag(
    pair: PairValues, source: FlagSource, flag: Flag, phase: Phase, *, by: str
) -> FlagChange:
    """Write the wanted phase into the flag, where that is possible.

    The pair remembers the version that it follows, so that no older one moves it later.

    Args:
        pair: the stores that follow the flag.
        source: the flag, with its words checked against the memory of the pair.
        flag: the flag as it was read before.
        phase: the wanted phase.
        by: name of the writer, for the record.

    Raises:
        ConfigError: the flag cannot be written after all.
        StoreUnavailable: the source of the flag cannot be reached any more.
    """
    before = flag.wanted
    if before is phase:
        # Nothing is written, but a server may not have followed this version yet.
        _remember_version(pair, source, phase)
    if before is phase or not flag.writable:
        return FlagChange(
            place=flag.place,
            before=before,
            after=before,
            written=False,
            note="" if before is phase else _by_hand(flag, phase),
        )
    written = source.write(phase, by=by)
    return FlagChange(place=written.place, before=before, after=phase, written=True)


def _remember_version(pair: PairValues, source: FlagSource, phase: Phase) -> None:
    wanted = source.read()
    if wanted is not None and wanted.phase is phase:
        FlagMemory(pair).record(wanted)


def _by_hand(flag: Flag, phase: Phase) -> str:
    if flag.problem is not None:
        return f"the flag was not changed: {flag.problem}"
    if flag.wanted is None:
        return f"the flag is set nowhere, and cannot be written: {flag.place}"
    return (
        f"{flag.place} still says {flag.wanted.value}, and cannot be changed from here: "
        f"set it to {phase.value} where it comes from"
    )
