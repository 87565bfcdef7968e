"""The four phases, the roles of the two stores, and epochs. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pend_storage._model.records import JSON
from pend_storage._shown import did_you_mean, shown
from pend_storage.errors import ConfigError

__all__ = [
    "AUTOMATIC",
    "IDENTITY_META",
    "ROLE_META",
    "Phase",
    "Role",
    "RoleState",
    "parse_phase",
    "path",
]

AUTOMATIC: Final = "auto_switch of"
"""Beginning of the actor's name of an automatic switch, in the history of switches."""
ROLE_META: Final = "role"
"""Name of the meta entry in which a store keeps its own :class:`RoleState`."""
IDENTITY_META: Final = "identity"
"""Name of the meta entry with the identity of a store."""


class Role(StrEnum):
    """Role of one store of a pair."""

    PRIMARY = "primary"
    """Accepts commits and answers reads; at most one store at any instant."""
    SECONDARY = "secondary"
    """Applies the primary's change log, and accepts nothing else."""
    FENCED = "fenced"
    """Was primary, accepts nothing: a switch is under way."""
    DETACHED = "detached"
    """Takes no part."""


class Phase(StrEnum):
    """Phase of the migration: a pair of roles, named."""

    JSON_ONLY = "json-only"
    """JSON is primary, PostgreSQL is detached: before, and after a full rollback."""
    PARALLEL = "parallel"
    """JSON is primary, PostgreSQL follows."""
    POSTGRES_PRIMARY = "postgres-primary"
    """PostgreSQL is primary, JSON follows."""
    POSTGRES_ONLY = "postgres-only"
    """PostgreSQL is primary, JSON is detached."""

    @property
    def json_role(self) -> Role:
        """Role of the JSON store in this phase."""
        return _ROLES[self][0]

    @property
    def postgres_role(self) -> Role:
        """Role of the PostgreSQL store in this phase."""
        return _ROLES[self][1]

    @property
    def position(self) -> int:
        """Place in the order of the phases, 0 to 3."""
        return _ORDER.index(self)


_ROLES: Final = {
    Phase.JSON_ONLY: (Role.PRIMARY, Role.DETACHED),
    Phase.PARALLEL: (Role.PRIMARY, Role.SECONDARY),
    Phase.POSTGRES_PRIMARY: (Role.SECONDARY, Role.PRIMARY),
    Phase.POSTGRES_ONLY: (Role.DETACHED, Role.PRIMARY),
}

_ORDER: Final = tuple(_ROLES)


def path(before: Phase, after: Phase) -> tuple[Phase, ...]:
    """Return the phases to go through, one after the other; the last one is ``after``."""
    start, end = before.position, after.position
    if start <= end:
        return _ORDER[start + 1 : end + 1]
    return tuple(reversed(_ORDER[end:start]))


def parse_phase(word: str, *, place: str) -> Phase:
    """Parse the name of a phase.

    Args:
        word: as it is written in a file, a variable or a flag.
        place: of the word, for the message.

    Raises:
        ConfigError: there is no such phase; the message suggests one.
    """
    try:
        return Phase(word)
    except ValueError:
        known = [phase.value for phase in Phase]
        hint = did_you_mean(word, known)
        raise ConfigError(
            f"{place}: unknown phase {shown(word)}{hint} The phases are: {', '.join(known)}."
        ) from None


@dataclass(frozen=True, slots=True)
class RoleState:
    """Role of a store, and the epoch since which it holds."""

    role: Role = Role.PRIMARY
    epoch: int = 0
    """Grows with every change of roles; 0 for a store that stands alone."""

    def to_meta(self) -> JSON:
        """Convert to a meta value."""
        return {"role": self.role.value, "epoch": self.epoch}

    @classmethod
    def from_meta(cls, value: JSON) -> RoleState:
        """Parse a meta value; None (never set) is a store that stands alone."""
        if value is None:
            return cls()
        if not isinstance(value, dict):
            raise TypeError(f"not a role: {value!r}")
        return cls(Role(str(value["role"])), int(str(value["epoch"])))
