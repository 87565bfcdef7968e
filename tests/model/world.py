"""The dual-write protocol, small enough to look at every interleaving of it.

The decisions about roles are those of the library itself
(:mod:`pend_storage.dualwrite.roles`); around them stand two stores, and processes that do
one atomic thing at a time: writers, a reader, a relay, a backfill, a healer, controllers.
PostgreSQL's commits take two steps, so that a later one can end before an earlier one.

A weakness is a rule left out. The model must find what goes wrong without it.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pend_storage.dualwrite import roles
from pend_storage.dualwrite.roles import SIDES, Side, Step, View, other
from pend_storage.phases import Role, RoleState

__all__ = [
    "Controller",
    "Entry",
    "Reader",
    "Row",
    "StoreState",
    "Weakness",
    "World",
    "Writer",
]


class Weakness(Enum):
    """A rule that can be left out."""

    NO_FENCE = "the old primary goes on while the new one is brought up to date"
    NO_CHECK = "a store takes commits without asking who believes it to be primary"
    NO_EPOCH = "a change of role asks for the role that was, and not for the epoch"
    NO_GUARD = "an older version may replace a newer one"
    NO_TOMBSTONE = "a deleted key leaves no version behind"
    NO_HORIZON = "the log is read past commits that are still open"
    NO_SECOND_LOOK = (
        "a read from a fenced store stands without looking at the other one"
    )
    SAME_EPOCH = "a store is attached at the epoch at which it was detached"
    NO_BUMP = "recovery reopens the old primary without stopping the new one first"
    NO_COVER = "a follower may become primary before its backfill is complete"
    LATE_MARK = "the end of the new primary's log is taken without looking at its role"


class Row(NamedTuple):
    key: str
    version: int
    value: int | None
    """None: a tombstone."""


class Entry(NamedTuple):
    sequence: int
    row: Row


class StoreState(NamedTuple):
    role: RoleState
    rows: tuple[Row, ...] = ()
    log: tuple[Entry, ...] = ()
    """In the order of the sequence numbers."""
    open: tuple[Entry, ...] = ()
    """Commits that have their number, and have not ended."""
    sequence: int = 0
    mark: int = 0
    whole: bool = True
    """Whether what lies before the followed part of the other log is here."""

    def row(self, key: str) -> Row:
        return next((r for r in self.rows if r.key == key), Row(key, 0, None))

    def take(self, row: Row, weak: frozenset[Weakness]) -> StoreState:
        """Apply a row if it is newer."""
        if row.version <= self.row(row.key).version and Weakness.NO_GUARD not in weak:
            return self
        rest = [r for r in self.rows if r.key != row.key]
        if row.value is not None or Weakness.NO_TOMBSTONE not in weak:
            rest.append(row)
        return self._replace(
            rows=tuple(sorted(rest)), sequence=max(self.sequence, row.version)
        )

    def begin(self, key: str, value: int | None) -> tuple[StoreState, Entry]:
        sequence = self.sequence + 1
        version = max(self.row(key).version + 1, sequence)
        entry = Entry(sequence, Row(key, version, value))
        return (
            self._replace(open=(*self.open, entry), sequence=max(sequence, version)),
            entry,
        )

    def end(self, entry: Entry, weak: frozenset[Weakness]) -> StoreState:
        left = tuple(e for e in self.open if e != entry)
        log = tuple(sorted((*self.log, entry)))
        return self.take(entry.row, weak)._replace(open=left, log=log)

    def news(self, weak: frozenset[Weakness], mark: int) -> tuple[Entry, ...]:
        """The log after a mark, up to what may still be open."""
        horizon = min((e.sequence for e in self.open), default=1 << 30)
        if Weakness.NO_HORIZON in weak:
            horizon = 1 << 30
        return tuple(e for e in self.log if mark < e.sequence < horizon)

    def is_at(self, role: Role, epoch: int) -> bool:
        return self.role == RoleState(role, epoch)


class Writer(NamedTuple):
    ops: tuple[tuple[str, int | None], ...]
    side: Side = "json"
    epoch: int = 1
    pc: str = "begin"
    entry: Entry | None = None
    acked: tuple[Row, ...] = ()


class Reader(NamedTuple):
    reads: int
    key: str = "a"
    side: Side = "json"
    epoch: int = 1
    pc: str = "start"
    floor: int = 0
    got: int = 0
    failed: bool = False


class Parcel(NamedTuple):
    """Rows read from one store, on their way to the other one."""

    to: Side
    epoch: int
    rows: tuple[Row, ...]
    mark: int | None = None


class Controller(NamedTuple):
    plan: tuple[str, ...]
    """``swap``, ``attach`` or ``detach``, each from whatever view fits."""
    pc: str = "look"
    json: RoleState | None = None
    view: View | None = None
    parcel: Parcel | None = None
    found: tuple[int, bool, int] | None = None
    """Of the old primary: its mark, and whether it is whole; of the new: its log's end."""
    is_alive: bool = True


class World(NamedTuple):
    json: StoreState
    postgres: StoreState
    writers: tuple[Writer, ...] = ()
    reader: Reader = Reader(0)
    controllers: tuple[Controller, ...] = ()
    relay: Parcel | None = None
    relays: int = 0
    """How often the relay may still look."""
    backfill: tuple[str, ...] = ()
    """Keys that are still to be copied."""
    copied: Parcel | None = None
    heals: int = 0
    """How many steps the healer may still take."""
    seen: RoleState | None = None
    """What the healer has seen of JSON, before it looks at PostgreSQL."""
    healing: Step | None = None
    crashes: int = 0
    cuts: bool = False
    """Whether the secondary may be out of reach."""

    def of(self, side: Side) -> StoreState:
        return self.json if side == "json" else self.postgres

    def put(self, side: Side, state: StoreState, **rest: object) -> World:
        return self._replace(**{side: state}, **rest)  # type: ignore[arg-type]

    @property
    def view(self) -> View:
        return View(self.json.role, self.postgres.role)

    def cas(self, step: Step, weak: frozenset[Weakness] = frozenset()) -> World | None:
        """Take a step on the roles; a store changes role only between commits."""
        store = self.of(step.side)
        same = store.role == step.before
        if Weakness.NO_EPOCH in weak:
            same = store.role.role is step.before.role
        if not same or store.open:
            return None
        return self.put(step.side, store._replace(role=step.after))

    def settled(self) -> World:
        """What everybody together makes of it in the end."""
        world = self
        while (step := roles.heal(world.view, abandoned=True)) is not None:
            after = world.cas(step)
            assert after is not None
            world = after
        return world

    def live(self) -> StoreState:
        """The store that answers, or that will."""
        side = self.view.primary or self.view.fenced
        return self.of(side or "json")


def primaries(world: World) -> list[Side]:
    return [side for side in SIDES if world.of(side).role.role is Role.PRIMARY]


def is_covered(store: StoreState, weak: frozenset[Weakness]) -> bool:
    return store.whole or Weakness.NO_COVER in weak


def open_step(view: View, side: Side) -> Step:
    return roles.open_new(view, other(side))
