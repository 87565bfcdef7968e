"""Model of the dual-write protocol, small enough to explore every interleaving.

The decisions about roles are those of the library itself
(:mod:`pend_storage.dualwrite._roles`); around them stand two stores, and processes that do
one atomic thing at a time: writers, a reader, a relay, a backfill, a healer, controllers.
PostgreSQL's commits take two steps, so that a later one can end before an earlier one.

A weakness is a rule left out. The model must find the damage without it.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pend_storage.dualwrite import _roles as roles
from pend_storage.dualwrite._roles import SIDES, RolePair, Side, Step, other
from pend_storage.phases import Role, RoleState

__all__ = [
    "Controller",
    "Entry",
    "Mark",
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
    ANY_MARK = "a mark is written whatever mark is stored"
    ANY_CURSOR = "the place of a backfill is written whatever place is stored"
    NO_VERIFYING = "the log is read without looking for the entry of the mark"
    VERIFIED_ONCE = "only the first read of the log looks for the entry of the mark"
    NO_INCARNATION = "a mark does not tell on which server it was made"
    BLIND_OPENING = "a store is opened without looking whether it still has the rest"
    COMMITS_ANEW = "a commit that is repeated is not known again"
    ONE_LOG_ASKED = "a commit that is repeated is looked for in one of the logs only"


class Row(NamedTuple):
    key: str
    version: int
    value: int | None
    """None: a tombstone."""
    token: int = 0
    """Of the commit; 0 for what was there before the log."""


class Entry(NamedTuple):
    sequence: int
    row: Row


class Mark(NamedTuple):
    """A place in the other store's log."""

    after: int = 0
    token: int = 0
    """Of the entry there; 0 where the mark is on no entry."""
    incarnation: int = 0
    """Of the other store, when its log was read."""


class StoreState(NamedTuple):
    role: RoleState
    rows: tuple[Row, ...] = ()
    log: tuple[Entry, ...] = ()
    """In the order of the sequence numbers."""
    open: tuple[Entry, ...] = ()
    """Commits that have their number, and have not ended."""
    sequence: int = 0
    mark: Mark = Mark()
    whole: bool = True
    """Whether what lies before the followed part of the other log is here."""
    copied: int = 0
    """Keys that a backfill has copied."""
    incarnation: int = 0
    """How often it has failed over."""

    def row(self, key: str) -> Row:
        return next((r for r in self.rows if r.key == key), Row(key, 0, None))

    def take(self, row: Row, weak: frozenset[Weakness]) -> StoreState:
        """Apply a row if it is newer."""
        if row.version <= self.row(row.key).version and Weakness.NO_GUARD not in weak:
            return self
        rest = [r for r in self.rows if r.key != row.key]
        # A deleted key keeps its version, or a late copy would bring the record back.
        if row.value is not None or Weakness.NO_TOMBSTONE not in weak:
            rest.append(row)
        return self._replace(
            rows=tuple(sorted(rest)),
            # Later commits get higher versions than all that was applied: this store may
            # become primary.
            sequence=max(self.sequence, row.version),
        )

    def begin(
        self, key: str, value: int | None, token: int
    ) -> tuple[StoreState, Entry]:
        sequence = self.sequence + 1
        version = max(self.row(key).version + 1, sequence)
        entry = Entry(sequence, Row(key, version, value, token))
        return (
            self._replace(open=(*self.open, entry), sequence=max(sequence, version)),
            entry,
        )

    def end(self, entry: Entry, weak: frozenset[Weakness]) -> StoreState:
        left = tuple(e for e in self.open if e != entry)
        log = tuple(sorted((*self.log, entry)))
        return self.take(entry.row, weak)._replace(open=left, log=log)

    def committed(self, token: int) -> Entry | None:
        """The entry of a commit."""
        return next((e for e in self.log if e.row.token == token), None)

    def knows(self, mark: Mark) -> bool:
        """Return True if the log has the entry of a mark."""
        if not mark.token:
            return True
        return any((e.sequence, e.row.token) == mark[:2] for e in self.log)

    def news(self, weak: frozenset[Weakness], after: int) -> tuple[Entry, ...]:
        """The log after a place, up to what may still be open."""
        # An open commit has its number already: a reader that passes it would miss it.
        horizon = min((e.sequence for e in self.open), default=1 << 30)
        if Weakness.NO_HORIZON in weak:
            horizon = 1 << 30
        return tuple(e for e in self.log if after < e.sequence < horizon)

    def is_at(self, role: Role, epoch: int) -> bool:
        return self.role == RoleState(role, epoch)


class Writer(NamedTuple):
    ops: tuple[tuple[str, int | None], ...]
    side: Side = "json"
    epoch: int = 1
    pc: str = "begin"
    entry: Entry | None = None
    token: int = 0
    """Of the commit that is to be repeated; 0: there is none."""
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
    mark: Mark | None = None
    expected: Mark | None = None
    """The mark that it continues."""
    copied: int | None = None
    """Keys that are copied, with these."""


class Controller(NamedTuple):
    plan: tuple[str, ...]
    """``swap``, ``attach`` or ``detach``, each from whatever view fits."""
    pc: str = "look"
    json: RoleState | None = None
    view: RolePair | None = None
    parcel: Parcel | None = None
    found: tuple[Mark, bool, Mark] | None = None
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
    """Keys that are to be copied."""
    place: int = 0
    """Number of them that the backfill believes to have copied."""
    copied: Parcel | None = None
    heals: int = 0
    """How many steps the healer may still take."""
    seen: RoleState | None = None
    """Role of JSON as the healer read it, before it reads PostgreSQL's."""
    healing: Step | None = None
    crashes: int = 0
    cuts: bool = False
    """Whether the secondary may be out of reach."""
    brings: bool = True
    """True: writers replicate their commits to the secondary themselves."""
    fails: Side | None = None
    """Which store may fail over, once."""
    is_promoted: bool = True
    """Whether a failover shows as another incarnation; not where a store is put back."""
    has_failed: bool = False
    standby: StoreState | None = None
    """Of that store: what its lagging standby has."""
    unheard: int = 0
    """How many answers to commits may still be lost."""
    former: frozenset[int] = frozenset()
    """Commits that were in the log of the store that failed over."""
    lost: frozenset[int] = frozenset()
    """Those of them that the failover has lost for good."""
    is_told: bool = False
    """Whether a process has detected and reported the failover."""
    is_verified: bool = False
    """Whether the log was read before; counts where it is verified once."""

    def of(self, side: Side) -> StoreState:
        return self.json if side == "json" else self.postgres

    def put(self, side: Side, state: StoreState, **rest: object) -> World:
        return self._replace(**{side: state}, **rest)  # type: ignore[arg-type]

    @property
    def view(self) -> RolePair:
        return RolePair(self.json.role, self.postgres.role)

    def cas(self, step: Step, weak: frozenset[Weakness] = frozenset()) -> World | None:
        """Take a step on the roles; a store changes role only between commits."""
        store = self.of(step.side)
        same = store.role == step.before
        if Weakness.NO_EPOCH in weak:
            same = store.role.role is step.before.role
        if not same or store.open:
            return None
        return self.put(step.side, store._replace(role=step.after))

    def falls_behind(self, side: Side) -> World:
        """From now on its standby gets nothing more."""
        # Commits that are still open do not survive a failover.
        return self._replace(standby=self.of(side)._replace(open=()))

    def fails_over(self, side: Side) -> World:
        """Its standby takes its place, with whatever role it knows."""
        # Roles and marks are stored with the data, so they fall behind together with it.
        standby, store = self.standby, self.of(side)
        assert standby is not None
        former = frozenset(entry.row.token for entry in store.log)
        kept = {entry.row.token for entry in standby.log}
        # What a secondary lost comes again by the log; only the primary's loss counts.
        is_truth = side == (self.view.primary or self.view.fenced)
        return self._replace(
            standby=None,
            fails=None,
            has_failed=True,
            former=former if is_truth else frozenset(),
            lost=former - kept if is_truth else frozenset(),
        ).put(side, standby._replace(incarnation=int(self.is_promoted)))

    @property
    def is_refused(self) -> bool:
        """Return True if the failover brought back roles that no switch leaves behind."""
        return self.has_failed and not roles.is_possible(self.view)

    def settled(self) -> World:
        """The final state, once all processes have acted."""
        world = self
        while (step := roles.recovery_step(world.view, abandoned=True)) is not None:
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


def open_step(view: RolePair, side: Side) -> Step:
    return roles.open_new(view, other(side))
