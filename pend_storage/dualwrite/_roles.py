"""Roles that two stores may have together, and every step between them. Pure.

A :class:`RolePair` holds the roles of both; a :class:`Step` is one compare-and-set on one
store. No store ever has the same role at the same epoch twice, so a step that was decided
on old roles fails instead of doing harm.

Settled, with p and s for primary and secondary::

    p@e, s@e            both follow each other: parallel, postgres-primary
    p@e, detached@<=e   one works alone: json-only, postgres-only

On the way, each recovered by :func:`recovery_step`, by any process that finds it::

    fenced@e, s@e       a switch has fenced the old primary (or died there)
    fenced@e, s@e+1     a recovery has made its last step impossible
    fenced@e, p@e+1     the new primary is open, the old one is still to follow
    fenced@e, detached  the new primary was detached meanwhile
    p@e, s@e+1          a store was attached, the primary is still at the epoch before
    p@e, s@e-1          a switch was called off while the secondary was out of reach

Anything else means that a store was restored from a backup, or replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from pend_storage.phases import Phase, Role, RoleState

__all__ = [
    "SIDES",
    "RolePair",
    "Side",
    "Step",
    "attach",
    "call_off",
    "detach",
    "fence",
    "follow",
    "is_possible",
    "is_under_way",
    "open_new",
    "other",
    "recovery_step",
]

Side: TypeAlias = Literal["json", "postgres"]
SIDES: Final[tuple[Side, Side]] = ("json", "postgres")


def other(side: Side) -> Side:
    """Return the side of the other store."""
    return "postgres" if side == "json" else "json"


@dataclass(frozen=True, slots=True)
class RolePair:
    """Roles of both stores; None for one that could not be reached."""

    json: RoleState | None
    postgres: RoleState | None

    def of(self, side: Side) -> RoleState | None:
        """Return the role of one store."""
        return self.json if side == "json" else self.postgres

    def _with(self, role: Role) -> list[Side]:
        return [s for s in SIDES if (mine := self.of(s)) and mine.role is role]

    @property
    def primary(self) -> Side | None:
        """Side of the primary; None in the middle of a switch, or out of reach.

        Read one after the other, both may seem to be: then the later epoch counts.
        """
        found = self._with(Role.PRIMARY)
        return max(found, key=self._epoch, default=None)

    @property
    def follower(self) -> Side | None:
        """Side of the secondary, if there is one."""
        return next(iter(self._with(Role.SECONDARY)), None)

    @property
    def fenced(self) -> Side | None:
        """Side of the fenced store; None outside of a switch."""
        return next(iter(self._with(Role.FENCED)), None)

    @property
    def is_whole(self) -> bool:
        """True where both roles could be read."""
        return self.json is not None and self.postgres is not None

    @property
    def is_settled(self) -> bool:
        """True where one store is primary and the other one agrees with it."""
        side = self.primary
        if side is None or self.fenced is not None:
            return False
        peer = self.of(other(side))
        return peer is not None and (
            (peer.role is Role.DETACHED and peer.epoch <= self._epoch(side))
            or (peer.role is Role.SECONDARY and peer.epoch == self._epoch(side))
        )

    @property
    def phase(self) -> Phase | None:
        """Phase that these roles are, or that they were before a switch began.

        None where a store that could not be reached would decide it.
        """
        side = self.primary or self.fenced
        peer = None if side is None else self.of(other(side))
        if peer is None:
            return None
        alone = peer.role is Role.DETACHED
        if side == "json":
            return Phase.JSON_ONLY if alone else Phase.PARALLEL
        return Phase.POSTGRES_ONLY if alone else Phase.POSTGRES_PRIMARY

    def _epoch(self, side: Side) -> int:
        mine = self.of(side)
        return -1 if mine is None else mine.epoch


class Step(NamedTuple):
    """One compare-and-set on one store."""

    side: Side
    before: RoleState
    after: RoleState


def _require_role(view: RolePair, side: Side) -> RoleState:
    state = view.of(side)
    if state is None:
        raise ValueError(f"the role of {side} could not be read")
    return state


def attach(view: RolePair, side: Side) -> tuple[Step, Step]:
    """Return the steps by which a detached store begins to follow at a fresh epoch."""
    # A fresh epoch: a step that knew it as a secondary before it was detached must fail.
    # And every process, which believes in the old one, reads again and finds a follower.
    mine, primary = _require_role(view, side), _require_role(view, other(side))
    epoch = max(mine.epoch, primary.epoch) + 1
    return (
        Step(side, mine, RoleState(Role.SECONDARY, epoch)),
        Step(other(side), primary, RoleState(Role.PRIMARY, epoch)),
    )


def detach(view: RolePair, side: Side) -> Step:
    """Return the step that detaches a secondary."""
    mine = _require_role(view, side)
    return Step(side, mine, RoleState(Role.DETACHED, mine.epoch))


def fence(view: RolePair, old: Side) -> Step:
    """Return the step that fences the primary: it refuses commits from then on."""
    mine = _require_role(view, old)
    return Step(old, mine, RoleState(Role.FENCED, mine.epoch))


def open_new(view: RolePair, old: Side) -> Step:
    """Return the step that makes a complete secondary primary: the point of no return.

    Args:
        view: as it was before the fence.
        old: what was primary then.
    """
    mine = _require_role(view, other(old))
    return Step(other(old), mine, RoleState(Role.PRIMARY, mine.epoch + 1))


def follow(view: RolePair, old: Side) -> Step:
    """Return the step by which the former primary follows; args as :func:`open_new`."""
    epoch = _require_role(view, old).epoch
    return Step(
        old, RoleState(Role.FENCED, epoch), RoleState(Role.SECONDARY, epoch + 1)
    )


def call_off(view: RolePair, old: Side) -> Step:
    """Return the step by which a switch opens again the store that it has fenced."""
    epoch = _require_role(view, old).epoch
    return Step(old, RoleState(Role.FENCED, epoch), RoleState(Role.PRIMARY, epoch + 1))


def recovery_step(view: RolePair, *, abandoned: bool) -> Step | None:
    """Return the next step to settled roles; None if there is none, or a switch is at it.

    Args:
        view: both roles; where one is unknown, nothing follows.
        abandoned: no process seems to be at work on the switch any more. Being wrong
            about it costs a switch, never data.
    """
    if not view.is_whole:
        return None
    old, side = view.fenced, view.primary
    if old is not None:
        return _recover_fenced(view, old, abandoned=abandoned)
    return None if side is None else _recover_open(view, side)


def _recover_open(view: RolePair, side: Side) -> Step | None:
    mine, peer = _require_role(view, side), _require_role(view, other(side))
    match peer:
        case RoleState(Role.SECONDARY, epoch) if epoch == mine.epoch + 1:
            return Step(side, mine, RoleState(Role.PRIMARY, epoch))
        case RoleState(Role.SECONDARY, epoch) if epoch == mine.epoch - 1:
            # It was never primary since: that takes at least two changes.
            return Step(other(side), peer, RoleState(Role.SECONDARY, mine.epoch))
    return None


def _recover_fenced(view: RolePair, old: Side, *, abandoned: bool) -> Step | None:
    mine, peer = _require_role(view, old), _require_role(view, other(old))
    ahead = mine.epoch + 1
    reopened = Step(old, mine, RoleState(Role.PRIMARY, ahead))
    match peer:
        case RoleState(Role.SECONDARY, mine.epoch):
            # The switch did not happen. First make its last step impossible.
            bump = Step(other(old), peer, RoleState(Role.SECONDARY, ahead))
            return bump if abandoned else None
        case RoleState(Role.SECONDARY, epoch) if epoch == ahead:
            return reopened
        case RoleState(Role.DETACHED, _):
            return reopened
        case RoleState(Role.PRIMARY, epoch) if epoch == ahead:
            return Step(old, mine, RoleState(Role.SECONDARY, ahead))
    return None


def is_under_way(view: RolePair) -> bool:
    """Return whether a switch is under way: a store is fenced, the other not opened yet."""
    return (
        view.is_whole
        and view.fenced is not None
        and recovery_step(view, abandoned=True) is not None
        and recovery_step(view, abandoned=False) is None
    )


def is_possible(view: RolePair) -> bool:
    """Return whether the protocol can have led to these roles, read at one instant."""
    if not view.is_whole:
        return True
    old, side = view.fenced, view.primary
    if old is not None:
        peer = _require_role(view, other(old))
        if peer.role is Role.DETACHED:
            return peer.epoch <= _require_role(view, old).epoch
        return recovery_step(view, abandoned=True) is not None
    if side is None or _require_role(view, other(side)).role is Role.PRIMARY:
        return False
    return view.is_settled or recovery_step(view, abandoned=True) is not None
