"""What stands in the way of a phase, and which command removes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pend_storage.dualwrite import Blocker, DualWriteStore, Readiness
from pend_storage.errors import SchemaOutOfDate
from pend_storage.phases import Phase, path

__all__ = [
    "Obstacle",
    "left",
    "next_phase",
    "obstacles",
    "previous_phase",
    "readiness",
]

_REMEDIES: Final[Mapping[str, str]] = {
    "unclaimed": "pend-storage inspect DIRECTORY",
    "backfill": "pend-storage migrate json",
    "validation": "pend-storage db validate",
    "lag": "pend-storage status --watch",
    "quarantine": "pend-storage quarantine list",
    "backup": "pend-storage migrate json",
}
_LOOK: Final = "pend-storage doctor"
_COMMAND: Final = re.compile(r"pend-storage (?:db|json)(?: --?[a-z-]+| [a-z]+)+")
_NEVER_PASSES: Final = "backfill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """A blocker, with what to do about it."""

    code: str
    sentence: str
    remedy: str
    """A command."""
    can_be_accepted: bool


def readiness(pair: DualWriteStore, phase: Phase) -> Readiness:
    """As the pair says; a database that is not migrated is a blocker like others.

    Raises:
        StoreUnavailable: one of the stores cannot be reached.
    """
    try:
        return pair.readiness(phase)
    except SchemaOutOfDate as error:
        return Readiness(
            phase, path(pair.phase, phase), (Blocker("schema", str(error)),)
        )


def obstacles(found: Readiness) -> tuple[Obstacle, ...]:
    """The blockers, with what to do."""
    return tuple(
        Obstacle(
            code=blocker.code,
            sentence=blocker.sentence,
            remedy=_remedy(blocker),
            can_be_accepted=blocker.code != _NEVER_PASSES,
        )
        for blocker in found.blockers
    )


def _remedy(blocker: Blocker) -> str:
    """The command; a database of another schema needs what its sentence names."""
    if blocker.code != "schema":
        return _REMEDIES.get(blocker.code, _LOOK)
    named = _COMMAND.search(blocker.sentence)
    return _LOOK if named is None else named[0]


def left(found: Iterable[Obstacle], accept: Iterable[str]) -> tuple[Obstacle, ...]:
    """Those that these codes do not let pass."""
    codes = set(accept)
    return tuple(o for o in found if o.code not in codes or not o.can_be_accepted)


def next_phase(phase: Phase) -> Phase | None:
    """The phase after this one; None after the last."""
    return next(iter(path(phase, Phase.POSTGRES_ONLY)), None)


def previous_phase(phase: Phase) -> Phase | None:
    """The phase before this one; None before the first."""
    return next(iter(path(phase, Phase.JSON_ONLY)), None)
