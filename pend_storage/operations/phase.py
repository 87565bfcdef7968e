"""Moving an environment to another phase: readiness, then the flag, then the switch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pend_storage import crashpoints
from pend_storage.config import Settings
from pend_storage.dualwrite import CODES, Readiness, SwitchReport
from pend_storage.dualwrite.switch_history import current_actor
from pend_storage.errors import ConfigError, PendStorageError, SwitchRefused
from pend_storage.factory import ConfiguredPair, open_pair
from pend_storage.flags import FlagSource, flag_source
from pend_storage.operations.flag import (
    FlagChange,
    change_flag,
    read_flag,
    require_changeable,
)
from pend_storage.operations.readiness import (
    Obstacle,
    left,
    next_phase,
    obstacles,
    previous_phase,
    readiness,
)
from pend_storage.phases import Phase
from pend_storage.shown import did_you_mean

__all__ = ["PhaseChange", "advance", "change_phase", "go_back"]

_FLAGGED: Final = crashpoints.declare(
    "phase.flagged", "the flag wants another phase, the stores know nothing of it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChange:
    """What became of a change of phase."""

    before: Phase
    wanted: Phase
    after: Phase
    steps: tuple[Phase, ...]
    """The phases on the way, the wanted one included."""
    is_forward: bool
    dry_run: bool
    blockers: tuple[Obstacle, ...]
    """Everything in the way; on the way back, what would be lost."""
    refused: tuple[Obstacle, ...]
    """Those that nobody let pass: nothing was changed then."""
    flag: FlagChange | None
    """None where nothing was to be changed."""
    switch: SwitchReport | None
    ahead: tuple[Obstacle, ...] = ()
    """What stands in the way of the phase after."""


def change_phase(
    settings: Settings,
    wanted: Phase,
    *,
    accept: Iterable[str] = (),
    dry_run: bool = False,
    timeout: float = 30.0,
) -> PhaseChange:
    """Move to a phase, through those between.

    Args:
        settings: of the environment; both sides must be configured.
        wanted: where to.
        accept: codes of blockers to let pass.
        dry_run: say what would happen, and change nothing.
        timeout: seconds after which to give up.

    Raises:
        ConfigError: a side is not configured, there is no such code, or the servers follow
            a flag that cannot be changed from here.
        StoreUnavailable: a store that is needed cannot be reached.
        SwitchTimeout: not finished in time; nothing is lost, call it again.
    """
    return _change(
        settings, lambda _: wanted, accept=accept, dry_run=dry_run, timeout=timeout
    )


def advance(
    settings: Settings,
    *,
    accept: Iterable[str] = (),
    dry_run: bool = False,
    timeout: float = 30.0,
) -> PhaseChange:
    """Move one phase forward. Arguments and errors as in :func:`change_phase`."""
    return _change(settings, _next, accept=accept, dry_run=dry_run, timeout=timeout)


def go_back(
    settings: Settings,
    *,
    accept: Iterable[str] = (),
    dry_run: bool = False,
    timeout: float = 30.0,
) -> PhaseChange:
    """Move one phase back. Arguments and errors as in :func:`change_phase`."""
    return _change(settings, _previous, accept=accept, dry_run=dry_run, timeout=timeout)


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
    for code in accept:
        if code not in CODES:
            raise ConfigError(
                f"there is no blocker {code!r}{did_you_mean(code, CODES)} The codes are: "
                f"{', '.join(CODES)}."
            )
    source = flag_source(settings)
    try:
        with open_pair(settings) as pair:
            wanted = choose(pair.phase)
            work = _Change(settings, pair, source.remembering(pair), wanted, accept)
            return work.plan() if dry_run else work.make(timeout)
    finally:
        source.close()


class _Change:
    """One change of phase."""

    def __init__(
        self,
        settings: Settings,
        pair: ConfiguredPair,
        source: FlagSource,
        wanted: Phase,
        accept: tuple[str, ...],
    ) -> None:
        self._pair = pair
        self._source = source
        self._before = pair.phase
        self._wanted = wanted
        self._accept = accept
        self._by = current_actor()
        self._flag = read_flag(source)
        require_changeable(settings, self._flag, wanted)
        self._found = self._look()
        self._blockers = obstacles(self._found)
        self._refused = left(self._blockers, accept)

    def _look(self) -> Readiness:
        if self._before is self._wanted:
            return Readiness(self._wanted, (), ())
        if self._gives_up():
            return Readiness(self._wanted, (self._wanted,), ())
        return readiness(self._pair, self._wanted)

    def _gives_up(self) -> bool:
        """Whether a secondary is left that is out of reach; the primary needs it not."""
        view = self._pair.roles()
        alone = Phase.JSON_ONLY if view.primary == "json" else Phase.POSTGRES_ONLY
        return not view.is_whole and view.primary is not None and alone is self._wanted

    def plan(self) -> PhaseChange:
        """What would happen."""
        return self._report(self._before, None, None, dry_run=True)

    def make(self, timeout: float) -> PhaseChange:
        """Do it."""
        if self._refused:
            return self._report(self._before, None, None)
        flag = change_flag(
            self._pair, self._source, self._flag, self._wanted, by=self._by
        )
        _FLAGGED()
        if self._before is self._wanted:
            return self._report(self._before, flag, None)
        try:
            switch = self._pair.switch(
                self._wanted, accept=self._accept, timeout=timeout, by=self._by
            )
        except SwitchRefused:
            self._restore(flag)
            raise
        return self._report(switch.after, flag, switch)

    def _restore(self, flag: FlagChange) -> None:
        """Something came into the way since it was looked at: want what was wanted."""
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
            return obstacles(readiness(self._pair, after))
        except PendStorageError:
            return ()  # the switch is made; this was only to say what comes next
