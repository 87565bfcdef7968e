"""What the emergency procedure would do from where the environment stands now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pend_storage.config import Settings
from pend_storage.factory import ConfiguredPair, open_pair
from pend_storage.flags import flag_source
from pend_storage.operations.emergency import NAMES, POSTGRES_FIRST, require_primary
from pend_storage.operations.flag import Flag, read_flag, require_changeable
from pend_storage.phases import Phase

__all__ = ["PlannedStep", "RollbackPlan", "plan_rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step that would be made."""

    number: int
    name: str
    what: str
    """What it would do, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPlan:
    """The whole procedure, from the present phase."""

    before: Phase
    steps: tuple[PlannedStep, ...]


def plan_rollback(settings: Settings, *, quick: bool = False) -> RollbackPlan:
    """Say what :func:`~pend_storage.operations.emergency.roll_back` would do.

    Args:
        settings: of the environment; both sides must be configured.
        quick: without the two comparisons of all records.

    Raises:
        ConfigError: the servers follow a flag that cannot be changed from here.
        StoreUnavailable: PostgreSQL is primary and out of reach, so that it would be
            refused.
    """
    source = flag_source(settings)
    try:
        with open_pair(settings) as pair:
            require_primary(pair)
            flag = read_flag(source.remembering(pair))
            require_changeable(settings, flag, Phase.JSON_ONLY)
            described = _descriptions(pair, flag, quick=quick)
            steps = tuple(
                PlannedStep(number=number, name=name, what=what)
                for number, (name, what) in enumerate(
                    zip(NAMES, described, strict=True), 1
                )
            )
            return RollbackPlan(before=pair.phase, steps=steps)
    finally:
        source.close()


def _descriptions(pair: ConfiguredPair, flag: Flag, *, quick: bool) -> Iterator[str]:
    """What each of the five steps would do."""
    phase = pair.phase
    yield _flagged(flag)
    if phase is Phase.POSTGRES_ONLY:
        yield "JSON follows PostgreSQL again, once it has what it missed"
    elif phase is Phase.POSTGRES_PRIMARY:
        yield "JSON follows PostgreSQL already"
    else:
        yield "JSON is primary already"
    if phase in POSTGRES_FIRST:
        yield f"{_missing(pair, phase)} brought to JSON; then JSON takes over"
    else:
        yield "JSON is primary, and has everything"
    if quick:
        yield "nothing is compared (--quick)"
    elif phase is Phase.JSON_ONLY:
        yield "PostgreSQL is detached, and is not compared"
    else:
        yield "every record is compared; the procedure stops where one differs"
    yield "PostgreSQL is detached; JSON works alone"


def _flagged(flag: Flag) -> str:
    word = Phase.JSON_ONLY.value
    if flag.wanted is Phase.JSON_ONLY:
        return f"{flag.place} says {word} already"
    if flag.writable:
        return f"{flag.place} is made to say {word}"
    return f"{flag.place} cannot be changed from here: set it to {word} by hand"


def _missing(pair: ConfiguredPair, phase: Phase) -> str:
    if phase is Phase.POSTGRES_ONLY:
        return "what JSON missed is"
    count = pair.lag().commits
    return "1 commit is" if count == 1 else f"{count:,} commits are"
