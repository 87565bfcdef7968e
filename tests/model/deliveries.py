"""The relay and the backfill of the model: what carries rows to the other store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from pend_storage.dualwrite._roles import Side, other
from pend_storage.phases import Role, RoleState

from .world import Mark, Parcel, StoreState, Weakness, World, primaries

__all__ = ["Deliveries", "Steps"]

Steps: TypeAlias = Iterator[tuple[str, World]]
"""What may happen: a label, and the world after it."""


class Deliveries:
    """Deliveries of rows from one store to the other one."""

    def __init__(self, *weak: Weakness) -> None:
        self.weak = frozenset(weak)
        self.is_unchecked = Weakness.NO_CHECK in self.weak

    # -- the relay and the backfill -------------------------------------------------------

    def _relay(self, world: World) -> Steps:
        if world.relay is not None:
            yield (
                f"the relay applies {world.relay}",
                self._deliver(world._replace(relay=None), world.relay),
            )
        elif world.relays:
            for side in primaries(world):
                after, parcel = self._news(world, side)
                if parcel is None:
                    yield f"the relay does not know {side} again", after
                elif parcel.rows or after != world:
                    relays = world.relays - 1
                    yield (
                        f"the relay reads {side}",
                        after._replace(relay=parcel, relays=relays),
                    )

    def _news(self, world: World, side: Side) -> tuple[World, Parcel | None]:
        """Return a store's log entries for the other one; None: the log was rewound.

        Another incarnation is reported, whether its log has lost something or not.
        """
        store, to = world.of(side), other(side)
        mark = world.of(to).mark
        if mark.incarnation != store.incarnation and self._tells_incarnation:
            world = world._replace(is_told=True)
        if self._verifies(world) and not store.knows(mark):
            return world._replace(is_told=True), None
        world = world._replace(is_verified=Weakness.VERIFIED_ONCE in self.weak)
        news = store.news(self.weak, mark.after)
        rows = tuple(entry.row for entry in news)
        last = mark._replace(incarnation=store.incarnation)
        if news:
            last = Mark(news[-1].sequence, news[-1].row.token, store.incarnation)
        return world, Parcel(to, store.role.epoch, rows, last, mark)

    @property
    def _tells_incarnation(self) -> bool:
        return Weakness.NO_INCARNATION not in self.weak

    def _verifies(self, world: World) -> bool:
        return Weakness.NO_VERIFYING not in self.weak and not world.is_verified

    def _deliver(self, world: World, parcel: Parcel) -> World:
        store = world.of(parcel.to)
        if not self._accepts(store, parcel):
            return world
        for row in parcel.rows:
            store = store.take(row, self.weak)
        if parcel.mark is not None:
            store = store._replace(mark=parcel.mark)
        if parcel.copied is not None:
            store = store._replace(copied=parcel.copied)
        return world.put(parcel.to, store)

    def _accepts(self, store: StoreState, parcel: Parcel) -> bool:
        """Return True if a store accepts it: by its role, and as its mark's continuation."""
        if not store.is_at(Role.SECONDARY, parcel.epoch):
            return False
        if parcel.mark is not None and Weakness.ANY_MARK not in self.weak:
            return store.mark == parcel.expected
        if parcel.copied is not None and Weakness.ANY_CURSOR not in self.weak:
            return store.copied == parcel.copied - 1
        return True

    def _backfill(self, world: World) -> Steps:
        parcel = world.copied
        if parcel is not None:
            assert parcel.copied is not None
            to = world.of(parcel.to)
            after = world._replace(copied=None)
            if not self._accepts(to, parcel):
                yield (
                    "the backfill is refused, and goes on from what is stored",
                    after._replace(place=to.copied),
                )
                return
            after = self._deliver(after, parcel)._replace(place=parcel.copied)
            if parcel.copied == len(world.backfill):
                follower = after.of(parcel.to)
                after = after.put(parcel.to, follower._replace(whole=True))
            yield f"the backfill applies {parcel.rows}", after
        elif world.place < len(world.backfill):
            for side in primaries(world):
                store, to_side = world.of(side), other(side)
                epoch = store.role.epoch
                if world.of(to_side).role == RoleState(Role.SECONDARY, epoch):
                    row = store.row(world.backfill[world.place])
                    rows = (row,) if row.version else ()
                    copied = Parcel(to_side, epoch, rows, copied=world.place + 1)
                    yield f"the backfill reads {row}", world._replace(copied=copied)
