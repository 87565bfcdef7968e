"""Sees that the primary's log still has what is known to have been in it.

Three things are known of a primary, and none of them by the primary itself:

- the *mark* of its follower (:mod:`pend_storage.dualwrite.marks`),
- the *witness*: the last position that was seen, kept in the meta of the other store. While
  that one is detached, it is moved on about once a second while there are commits. While
  that one follows, a process that closes leaves it where its last commit lies beyond the
  mark, because the follower may have got that commit directly,
- the last commit that this process was told had succeeded.

Where the log has lost one of them, a server was put back, failed over to a standby that
was behind, or exchanged for a copy. Writes are refused then, and switches; reads go on.
A store that is out of reach says nothing, and is no obstacle.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from pend_storage.dualwrite.background import start_thread
from pend_storage.dualwrite.circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite.marks import Mark, has_mark, rebind
from pend_storage.dualwrite.pair import NAMES, Pair
from pend_storage.dualwrite.positions import Position, Rewound, find_entry, is_there
from pend_storage.dualwrite.roles import Side, other
from pend_storage.dualwrite.routing import Route
from pend_storage.errors import PendStorageError
from pend_storage.events import Event, Hook
from pend_storage.store import Store

__all__ = ["WITNESS_META", "Continuity"]

WITNESS_META: Final = "witness"
"""Meta of the store that is not primary: the last :class:`Position` that was seen in the
log of the one that is."""
_EVERY: Final = 1.0
"""Seconds between two looks."""
_LEAVING: Final = 2.0
"""Seconds that closing waits at most for the last witness."""


@dataclass(frozen=True, slots=True)
class _Latest:
    """The last commit of this process."""

    side: Side
    epoch: int
    version: int
    token: str

    def is_of(self, route: Route) -> bool:
        """Whether it was made where a route leads."""
        return (self.side, self.epoch) == (route.side, route.epoch)

    def as_position(self, of: str, incarnation: str | None) -> Position:
        """Its entry has at least this number."""
        return Position(
            of=of, incarnation=incarnation, sequence=self.version, token=self.token
        )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a primary takes no writes, as far as this process goes."""

    side: Side
    epoch: int
    error: Rewound

    def is_of(self, route: Route) -> bool:
        """Whether it is about the primary of a route."""
        return (self.side, self.epoch) == (route.side, route.epoch)


_NOTHING: Final = _Latest("json", -1, 0, "")


class Continuity:
    """See the module."""

    def __init__(self, pair: Pair, hook: Hook) -> None:
        self._pair = pair
        self._hook = hook
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: it sees for itself."""
        self._looking = threading.Lock()
        self._looked = time.monotonic() - _EVERY
        self._latest = _NOTHING
        self._confirmed: Position | None = None
        """Where the last commit of this process is in the log."""
        self._refusal: _Refusal | None = None
        self._incarnations: dict[Side, str] = {}
        self._verified: object = None
        """All that the last comparison depended on; None where it failed."""

    # -- with every commit: no look at a store, as long as all is well --------------------

    def before(self, route: Route) -> int:
        """See that the primary may be written to; gives the last version known here.

        Raises:
            ConfigError: its log has lost what was in it.
        """
        if self._refusal is not None:
            self.look(route)  # perhaps the right one is back
            self._raise(route)
        latest = self._latest
        return latest.version if latest.is_of(route) else 0

    def after(
        self, route: Route, before: int, token: str, versions: Sequence[int]
    ) -> None:
        """Take note of a commit; a number that is not above earlier ones is looked into.

        Args:
            route: where it was made.
            before: what :meth:`before` gave.
            token: of the commit.
            versions: what it gave.
        """
        version = max(versions, default=0)
        if not version or not token:
            return
        latest = self._latest
        if version <= before:  # the log went back; or this was a commit repeated
            self.look(route, now=True)
        elif version > latest.version or not latest.is_of(route):
            self._latest = _Latest(route.side, route.epoch, version, token)

    # -- looking ------------------------------------------------------------------------

    def require(self, route: Route) -> None:
        """Look now, before something moves that cannot be moved back.

        Raises:
            ConfigError: the log of the primary has lost what was in it.
            StoreUnavailable: the primary cannot be reached.
        """
        with self._looking:
            self._look(route)
        self._raise(route)

    def require_latest(self, route: Route) -> None:
        """See only to what this process itself has committed; one look at the log.

        Raises: as :meth:`require`.
        """
        latest = self._latest
        if latest.is_of(route):
            is_there(route.store, latest.as_position(route.store.identity(), None))

    def look(self, route: Route, *, now: bool = False) -> None:
        """Compare what is known with the primary's log; never raises.

        Args:
            route: to the primary.
            now: also where that was done less than a second ago.
        """
        if not now and time.monotonic() - self._looked < _EVERY:
            return
        if not self._looking.acquire(blocking=now):
            return  # another thread is at it
        try:
            with contextlib.suppress(PendStorageError):
                self._look(route)
        finally:
            self._looking.release()

    def close(self, route: Route) -> None:
        """Leave a witness of the last commit of this process; never raises.

        It is left in the other store, if that was in reach at the last look. A follower
        that has passed the commit needs none.

        Args:
            route: as it was believed in; nothing is committed there any more.
        """
        is_known = route.is_certain and not self._pair.trouble
        if is_known and self._latest.is_of(route):
            leave = partial(self._leave, route)
            thread = start_thread(leave, "pend-witness")
            if thread is None:
                leave()  # the interpreter is ending
            else:
                thread.join(_LEAVING)

    def _leave(self, route: Route) -> None:
        with contextlib.suppress(Exception):  # the stores may be closed meanwhile
            latest, confirmed = self._latest, self._confirmed
            if confirmed is None or confirmed.token != latest.token:
                self.look(route, now=True)
            confirmed = self._confirmed
            if route.follower is None or confirmed is None or self.refusal(route):
                return  # the look has seen to it
            mark = Mark.load(route.follower)
            if (
                mark is None
                or mark.of != confirmed.of
                or mark.after < confirmed.sequence
            ):
                self._advance(route.follower, confirmed)

    def refusal(self, route: Route) -> Rewound | None:
        """What the primary's log is known to have lost, without a look."""
        known = self._refusal
        return known.error if known is not None and known.is_of(route) else None

    def _raise(self, route: Route) -> None:
        error = self.refusal(route)
        if error is not None:
            raise error

    def _look(self, route: Route) -> None:
        self._looked = time.monotonic()
        try:
            self._compare(route)
        except Rewound as error:
            self._verified = None
            self._refuse(route, error)
        except BaseException:
            self._verified = None
            raise
        else:
            self._accept(route)

    def _refuse(self, route: Route, error: Rewound) -> None:
        """Refuse writes from now on, and have other processes do so too."""
        known = self._refusal
        self._refusal = _Refusal(route.side, route.epoch, error)
        if known is not None and known.is_of(route):
            return
        self._hook(Event("primary-rewound", str(error), logging.ERROR))
        latest = self._latest
        if latest.is_of(route):
            with contextlib.suppress(*OUT_OF_REACH):
                lost = latest.as_position(
                    route.store.identity(), self._incarnations.get(route.side)
                )
                self._advance(self._peer(route), self._confirmed_as(lost) or lost)

    def _accept(self, route: Route) -> None:
        known, self._refusal = self._refusal, None
        if known is not None and known.is_of(route):
            self._hook(
                Event(
                    "primary-back",
                    f"the change log of {NAMES[route.side]} has again what was missing "
                    "from it; writes go on",
                )
            )

    # -- what is compared ---------------------------------------------------------------

    def _peer(self, route: Route) -> Store:
        return self._pair.store(other(route.side))

    def _compare(self, route: Route) -> None:
        """See :meth:`require`; also tells of servers that were exchanged."""
        primary, peer, latest = route.store, self._peer(route), self._latest
        identity, here = primary.identity(), primary.incarnation()
        mark, witness = self._known_there(route, identity)
        labels = [k.incarnation for k in (mark, witness) if k is not None]
        self._note(route.side, here, next((x for x in labels if x != here), None))
        state = (route.epoch, identity, here, mark, witness, latest, primary.head())
        if state == self._verified:
            return  # nothing has happened in this log since it was compared
        if latest.is_of(route):
            self._confirm(primary, latest.as_position(identity, here))
        seen = witness if witness and is_there(primary, witness) else None
        if (
            mark is not None
            and _is_known(primary, mark, seen)
            and (mark.incarnation != here)
        ):
            with contextlib.suppress(*OUT_OF_REACH):
                rebind(primary, peer, mark)
        confirmed = self._confirmed
        is_alone = route.follower is None and route.is_certain
        if is_alone and confirmed is not None and confirmed.of == identity:
            with contextlib.suppress(*OUT_OF_REACH):
                self._advance(peer, confirmed)
        elif seen is not None and seen.incarnation != here:
            with contextlib.suppress(*OUT_OF_REACH):
                bound = replace(seen, incarnation=here).to_meta()
                peer.compare_and_set_meta(WITNESS_META, seen.to_meta(), bound)
        self._verified = state

    def _known_there(
        self, route: Route, identity: str
    ) -> tuple[Mark | None, Position | None]:
        """What the other store knows of the primary; nothing where it is out of reach."""
        peer = self._peer(route)
        if other(route.side) in self._pair.trouble:
            return None, None  # it was just asked for its role
        try:
            mark, witness = Mark.load(peer), Position.parse(peer.meta(WITNESS_META))
            self._note(other(route.side), peer.incarnation(), None)
        except OUT_OF_REACH:
            return None, None
        return (
            mark if mark is not None and mark.of == identity else None,
            witness if witness is not None and witness.of == identity else None,
        )

    def _confirm(self, primary: Store, latest: Position) -> None:
        """Find the last commit of this process in the log."""
        found = find_entry(primary, latest.token or "")
        if found is None:
            is_there(
                primary, self._confirmed_as(latest) or latest
            )  # forgotten, or lost
        else:
            self._confirmed = Position.on(found, latest.of, latest.incarnation)

    def _confirmed_as(self, latest: Position) -> Position | None:
        known = self._confirmed
        return known if known is not None and known.token == latest.token else None

    def _note(self, side: Side, here: str, before: str | None) -> None:
        """Tell of a server that was exchanged, once.

        Args:
            side: of the store.
            here: what stands behind it now.
            before: what stood behind it when a position was written down, if that is
                known; what this process has seen counts more.
        """
        before = self._incarnations.get(side, before)
        self._incarnations[side] = here
        if before not in {None, here}:
            self._hook(
                Event(
                    "server-changed",
                    f"behind the {NAMES[side]} store is {here} now, and was {before}: it "
                    "was moved, restored, or failed over. Positions are compared with it "
                    "anew; run a full validation before the next switch",
                    logging.WARNING,
                )
            )

    def _advance(self, peer: Store, seen: Position) -> None:
        """Move the witness on, on top of what it is; another process may be quicker."""
        found = peer.meta(WITNESS_META)
        known = Position.parse(found)
        if known is None or known.of != seen.of or known.sequence < seen.sequence:
            peer.compare_and_set_meta(WITNESS_META, found, seen.to_meta())


def _is_known(primary: Store, mark: Mark, seen: Position | None) -> bool:
    """Whether a log is the one in which a mark was made.

    Where the mark is on no entry, a later one that is there tells as much.
    """
    later = seen is not None and mark.at is None and seen.sequence >= mark.after
    return has_mark(primary, mark) or later
