"""The relay and the backfill of the model: what carries rows to the other store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from pend_storage.dualwrite.roles import Side, other
from pend_storage.phases import Role, RoleState

from .world import Parcel, Weakness, World, primaries

__all__ = ["Deliveries", "Steps"]

Steps: TypeAlias = Iterator[tuple[str, World]]
"""What may happen: a label, and the world after it."""


class Deliveries:
    """What brings rows from one store to the other one."""

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
                parcel = self._news(world, side)
                if parcel.rows:
                    yield (
                        f"the relay reads {side}",
                        world._replace(relay=parcel, relays=world.relays - 1),
                    )

    def _news(self, world: World, side: Side) -> Parcel:
        """What a store's log has for the other one."""
        store, to = world.of(side), other(side)
        mark = world.of(to).mark
        news = store.news(self.weak, mark)
        rows = tuple(entry.row for entry in news)
        last = news[-1].sequence if news else mark
        return Parcel(to, store.role.epoch, rows, last)

    def _deliver(self, world: World, parcel: Parcel) -> World:
        store = world.of(parcel.to)
        if not store.is_at(Role.SECONDARY, parcel.epoch):
            return world
        for row in parcel.rows:
            store = store.take(row, self.weak)
        if parcel.mark is not None:
            store = store._replace(mark=parcel.mark)
        return world.put(parcel.to, store)

    def _backfill(self, world: World) -> Steps:
        if world.copied is not None:
            after = self._deliver(world._replace(copied=None), world.copied)
            arrived = world.of(world.copied.to).is_at(
                Role.SECONDARY, world.copied.epoch
            )
            if not arrived:
                yield "the backfill is refused, and goes on later", after
                return
            after = after._replace(backfill=world.backfill[1:])
            if not after.backfill:
                follower = after.of(world.copied.to)
                after = after.put(world.copied.to, follower._replace(whole=True))
            yield f"the backfill applies {world.copied.rows}", after
        elif world.backfill:
            for side in primaries(world):
                store, to = world.of(side), other(side)
                epoch = store.role.epoch
                if world.of(to).role == RoleState(Role.SECONDARY, epoch):
                    row = store.row(world.backfill[0])
                    rows = (row,) if row.version else ()
                    yield (
                        f"the backfill reads {row}",
                        world._replace(copied=Parcel(to, epoch, rows)),
                    )
