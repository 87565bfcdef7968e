"""Invariants of the model."""

from __future__ import annotations

from pend_storage.dualwrite import _roles as roles
from pend_storage.dualwrite._roles import other
from pend_storage.phases import Role

from .deliveries import Deliveries
from .world import Row, StoreState, World, primaries

__all__ = ["Judging"]


class Judging(Deliveries):
    """The invariants."""

    def wrong(self, world: World) -> str | None:
        """Return the fault of a state, if any."""
        if world.is_refused:
            return None  # reported at the next read of the roles
        if len(primaries(world)) > 1:
            return "I1: two stores accept commits"
        if not roles.is_possible(world.view):
            return f"the roles are taken for rewound: {world.view}"
        if world.reader.failed:
            return "I6: a read gave less than was acknowledged before it began"
        return self._twice(world) or self._lost(world) or self._resurrected(world)

    def _lost(self, world: World) -> str | None:
        """I2: what was acknowledged is there, or something later."""
        given: dict[tuple[str, int], int | None] = {}
        for entry in (*world.json.log, *world.postgres.log):
            place = (entry.row.key, entry.row.version)
            if given.setdefault(place, entry.row.value) != entry.row.value:
                return f"I2: the version {place} was given twice"
        live = world.live()
        there = {e.row.token for e in (*world.json.log, *world.postgres.log)}
        ghosts = world.lost - there  # what was lost may have been repeated since
        for row in (row for writer in world.writers for row in writer.acked):
            found = live.row(row.key)
            same = found.version == row.version and found.value == row.value
            is_later = found.version > row.version and not (
                found.token in ghosts and row.token not in world.former
            )
            if not (same or is_later or row.token in ghosts):
                return f"I2: {row} was acknowledged, and {found} is there"
        return None

    def _twice(self, world: World) -> str | None:
        """A commit that is repeated takes effect once."""
        logs = (*world.json.log, *world.postgres.log)
        tokens = [entry.row.token for entry in logs if entry.row.token]
        if len(tokens) != len(set(tokens)):
            return f"a commit took effect twice: {sorted(tokens)}"
        return None

    def _resurrected(self, world: World) -> str | None:
        """I4: what was deleted last is not there again, on the store that answers."""
        last: dict[str, Row] = {}
        for store in (world.json, world.postgres):
            for entry in store.log:
                known = last.get(entry.row.key)
                if known is None or known.version < entry.row.version:
                    last[entry.row.key] = entry.row
        for key, row in last.items():
            found = world.live().row(key)
            if row.value is None and found.value is not None:
                return f"I4: {row} was deleted, and {found} is there"
        return None

    def wrong_at_end(self, world: World) -> str | None:
        """I3: with everybody at rest, the stores become equal by themselves."""
        if world.is_refused:
            return None
        if any(w.ops for w in world.writers) or world.reader.reads:
            after = world.settled()
            if len(primaries(after)) != 1:
                return f"a process waits for ever: {world.view}"
        return self._unequal(world.settled())

    def _unequal(self, world: World) -> str | None:
        if not world.view.is_settled:
            return f"the roles do not settle: {world.view}"
        (side,) = primaries(world)
        to = other(side)
        if world.of(to).role.role is Role.DETACHED:
            return None
        world, parcel = self._news(world, side)
        if parcel is None or world.is_told:
            return (
                None  # the stores are compared, and one of them is elected or repaired
            )
        world = self._deliver(world, parcel)
        primary, follower = world.of(side), world.of(to)
        if not follower.whole:
            for row in primary.rows:
                follower = follower.take(row, self.weak)
        if _living(primary) != _living(follower):
            return f"I3: {_living(primary)} and {_living(follower)}"
        return None


def _living(store: StoreState) -> dict[str, tuple[int, int | None]]:
    return {r.key: (r.version, r.value) for r in store.rows if r.value is not None}
