"""Continuity of the primary's log: it must still have what is known to have been in it.

Three things are known of a primary, and none of them by the primary itself:

- the *mark* of its follower (:mod:`pend_storage.dualwrite._replication_position`),
- the *witness*: the last position that was seen, kept in the meta of the other store. While
  that one is detached, it is moved on about once a second while there are commits. While
  that one follows, a process that closes leaves it where its last commit lies beyond the
  mark, because the follower may have got that commit directly,
- the last commit that this process has seen succeed.

Where the log has lost one of them, a server was put back, failed over to a standby that
was behind, or exchanged for a copy. Writes are refused then, and switches; reads go on.
A store that is out of reach proves nothing, and is no obstacle.
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

from pend_storage.dualwrite._background import start_thread
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite._log_position import (
    LogPosition,
    LogRewound,
    find_entry,
    has_entry,
)
from pend_storage.dualwrite._pair import NAMES, Pair
from pend_storage.dualwrite._replication_position import (
    ReplicationPosition,
    log_has,
    rebind,
)
from pend_storage.dualwrite._roles import Side, other
from pend_storage.dualwrite._route import Route
from pend_storage.errors import PendStorageError
from pend_storage.events import Event, Hook
from pend_storage.store import Store

__all__ = ["WITNESS_META", "LogContinuity"]

WITNESS_META: Final = "witness"
"""Meta of the store that is not primary: the last :class:`LogPosition` that was seen in the
log of the one that is."""
_EVERY: Final = 1.0
"""Seconds between two comparisons."""
_LEAVING: Final = 2.0
"""Seconds that closing waits at most for the last witness."""


@dataclass(frozen=True, slots=True)
class _Latest:
    """Last commit of this process."""

    side: Side
    epoch: int
    version: int
    token: str

    def is_of(self, route: Route) -> bool:
        """Return whether the commit was made at the primary of a route."""
        return (self.side, self.epoch) == (route.side, route.epoch)

    def as_position(self, of: str, incarnation: str | None) -> LogPosition:
        """Return a position: the entry of the commit has at least this sequence."""
        return LogPosition(
            source=of, incarnation=incarnation, sequence=self.version, token=self.token
        )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Reason for which this process refuses writes to a primary."""

    side: Side
    epoch: int
    error: LogRewound

    def is_of(self, route: Route) -> bool:
        """Return whether the refusal is about the primary of a route."""
        return (self.side, self.epoch) == (route.side, route.epoch)


_NOTHING: Final = _Latest("json", -1, 0, "")


class LogContinuity:
    """Compares the primary's log with what is known of it. Safe to share between threads."""

    def __init__(self, pair: Pair, hook: Hook) -> None:
        self._pair = pair
        self._hook = hook
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child, which compares for itself."""
        self._refreshing = threading.Lock()
        self._refreshed = time.monotonic() - _EVERY
        self._latest = _NOTHING
        self._confirmed: LogPosition | None = None
        """Where the last commit of this process is in the log."""
        self._refusal: _Refusal | None = None
        self._incarnations: dict[Side, str] = {}
        self._verified: object = None
        """State that the last comparison depended on; None where it failed."""

    # -- with every commit: no read of a store, as long as all is well --------------------

    def check_before_commit(self, route: Route) -> int:
        """Check that the primary may be written to, without a read of a store.

        Returns:
            The latest version that this process has committed there; 0 without one.

        Raises:
            ConfigError: its log has lost what was in it.
        """
        if self._refusal is not None:
            self.refresh(route)  # perhaps the right one is back
            self._raise(route)
        latest = self._latest
        return latest.version if latest.is_of(route) else 0

    def record_commit(
        self, route: Route, before: int, token: str, versions: Sequence[int]
    ) -> None:
        """Record a commit; where its version is not above earlier ones, compare the log.

        Args:
            route: where it was made.
            before: what :meth:`check_before_commit` returned.
            token: of the commit.
            versions: of the commit.
        """
        version = max(versions, default=0)
        if not version or not token:
            return
        latest = self._latest
        # Versions grow with every commit of a log. One that does not was given by a log
        # that went back; or the commit was repeated by its token, which is harmless.
        if version <= before:
            self.refresh(route, now=True)
        elif version > latest.version or not latest.is_of(route):
            self._latest = _Latest(route.side, route.epoch, version, token)

    # -- comparing ------------------------------------------------------------------------

    def require(self, route: Route) -> None:
        """Compare now, before a step that cannot be undone.

        Raises:
            ConfigError: the log of the primary has lost what was in it.
            StoreUnavailable: the primary cannot be reached.
        """
        with self._refreshing:
            self._refresh(route)
        self._raise(route)

    def require_latest(self, route: Route) -> None:
        """Check only the last commit of this process, by one read of the log.

        Raises: as :meth:`require`.
        """
        latest = self._latest
        if latest.is_of(route):
            has_entry(route.store, latest.as_position(route.store.identity(), None))

    def refresh(self, route: Route, *, now: bool = False) -> None:
        """Compare what is known with the primary's log; never raises.

        Args:
            route: to the primary.
            now: also where that was done less than a second ago.
        """
        if not now and time.monotonic() - self._refreshed < _EVERY:
            return
        if not self._refreshing.acquire(blocking=now):
            return  # another thread is at it
        try:
            with contextlib.suppress(PendStorageError):
                self._refresh(route)
        finally:
            self._refreshing.release()

    def leave_witness(self, route: Route) -> None:
        """Leave a witness of the last commit of this process; never raises.

        It is left in the other store, if that was in reach at the last comparison. A
        follower that has passed the commit needs none.

        Args:
            route: as it was believed in; nothing is committed there any more.
        """
        is_known = route.is_certain and not self._pair.unreachable
        if is_known and self._latest.is_of(route):
            leave = partial(self._leave_witness_of_latest, route)
            thread = start_thread(leave, "pend-witness")
            if thread is None:
                leave()  # the interpreter is ending
            else:
                thread.join(_LEAVING)

    def _leave_witness_of_latest(self, route: Route) -> None:
        with contextlib.suppress(Exception):  # the stores may be closed meanwhile
            latest, confirmed = self._latest, self._confirmed
            if confirmed is None or confirmed.token != latest.token:
                self.refresh(route, now=True)
            confirmed = self._confirmed
            if route.follower is None or confirmed is None or self.refusal(route):
                return  # the comparison has done so
            mark = ReplicationPosition.load(route.follower)
            if (
                mark is None
                or mark.source != confirmed.source
                or mark.sequence < confirmed.sequence
            ):
                self._advance_witness(route.follower, confirmed)

    def refusal(self, route: Route) -> LogRewound | None:
        """Return the error with which writes are refused; None where they are not.

        It is known from the last comparison; no store is read.
        """
        known = self._refusal
        return known.error if known is not None and known.is_of(route) else None

    def _raise(self, route: Route) -> None:
        error = self.refusal(route)
        if error is not None:
            raise error

    def _refresh(self, route: Route) -> None:
        self._refreshed = time.monotonic()
        try:
            self._compare(route)
        except LogRewound as error:
            # Sticky for this route, until a later comparison finds the entries again.
            self._verified = None
            self._refuse(route, error)
        except BaseException:
            self._verified = None
            raise
        else:
            self._accept(route)

    def _refuse(self, route: Route, error: LogRewound) -> None:
        """Refuse writes from now on, and have other processes do so too."""
        known = self._refusal
        self._refusal = _Refusal(route.side, route.epoch, error)
        if known is not None and known.is_of(route):
            return
        fields = {"store": route.side, "epoch": route.epoch}
        self._hook(Event("primary-rewound", str(error), logging.ERROR, fields))
        latest = self._latest
        if latest.is_of(route):
            with contextlib.suppress(*OUT_OF_REACH):
                lost = latest.as_position(
                    route.store.identity(), self._incarnations.get(route.side)
                )
                self._advance_witness(
                    self._peer(route), self._confirmed_as(lost) or lost
                )

    def _accept(self, route: Route) -> None:
        known, self._refusal = self._refusal, None
        if known is not None and known.is_of(route):
            self._hook(
                Event(
                    "primary-back",
                    f"the change log of {NAMES[route.side]} has again what was missing "
                    "from it; writes go on",
                    fields={"store": route.side, "epoch": route.epoch},
                )
            )

    # -- what is compared ---------------------------------------------------------------

    def _peer(self, route: Route) -> Store:
        return self._pair.store(other(route.side))

    def _compare(self, route: Route) -> None:
        """Compare the log with all that is known; also emit servers that were exchanged."""
        primary, peer, latest = route.store, self._peer(route), self._latest
        identity, here = primary.identity(), primary.incarnation()
        mark, witness = self._known_at_peer(route, identity)
        labels = [k.incarnation for k in (mark, witness) if k is not None]
        self._record_server(
            route.side, here, next((x for x in labels if x != here), None)
        )
        state = (route.epoch, identity, here, mark, witness, latest, primary.head())
        if state == self._verified:
            return  # nothing has happened in this log since it was compared
        if latest.is_of(route):
            self._confirm(primary, latest.as_position(identity, here))
        seen = witness if witness and has_entry(primary, witness) else None
        if (
            mark is not None
            and _is_known(primary, mark, seen)
            and (mark.incarnation != here)
        ):
            with contextlib.suppress(*OUT_OF_REACH):
                rebind(primary, peer, mark)
        confirmed = self._confirmed
        is_alone = route.follower is None and route.is_certain
        if is_alone and confirmed is not None and confirmed.source == identity:
            with contextlib.suppress(*OUT_OF_REACH):
                self._advance_witness(peer, confirmed)
        elif seen is not None and seen.incarnation != here:
            with contextlib.suppress(*OUT_OF_REACH):
                bound = replace(seen, incarnation=here).to_meta()
                peer.compare_and_set_meta(WITNESS_META, seen.to_meta(), bound)
        self._verified = state

    def _known_at_peer(
        self, route: Route, identity: str
    ) -> tuple[ReplicationPosition | None, LogPosition | None]:
        """Return what the other store knows of the primary; nothing where out of reach."""
        peer = self._peer(route)
        if other(route.side) in self._pair.unreachable:
            return None, None  # its role could not be read a moment ago
        try:
            mark, witness = (
                ReplicationPosition.load(peer),
                LogPosition.parse(peer.meta(WITNESS_META)),
            )
            self._record_server(other(route.side), peer.incarnation(), None)
        except OUT_OF_REACH:
            return None, None
        return (
            mark if mark is not None and mark.source == identity else None,
            witness if witness is not None and witness.source == identity else None,
        )

    def _confirm(self, primary: Store, latest: LogPosition) -> None:
        """Find the last commit of this process in the log."""
        found = find_entry(primary, latest.token or "")
        if found is None:
            # The entry was pruned, which is harmless; or it is lost, which raises.
            has_entry(primary, self._confirmed_as(latest) or latest)
        else:
            self._confirmed = LogPosition.on(found, latest.source, latest.incarnation)

    def _confirmed_as(self, latest: LogPosition) -> LogPosition | None:
        known = self._confirmed
        return known if known is not None and known.token == latest.token else None

    def _record_server(self, side: Side, here: str, before: str | None) -> None:
        """Emit ``server-changed`` once, where a store has another incarnation than before.

        Args:
            side: of the store.
            here: its incarnation now.
            before: its incarnation in a stored position, if there is one; an incarnation
                that this process has read itself takes precedence.
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
                    {"before": before, "now": here, "store": side},
                )
            )

    def _advance_witness(self, peer: Store, seen: LogPosition) -> None:
        """Advance the witness on top of the one that was read, unless another process did."""
        found = peer.meta(WITNESS_META)
        known = LogPosition.parse(found)
        if (
            known is None
            or known.source != seen.source
            or known.sequence < seen.sequence
        ):
            peer.compare_and_set_meta(WITNESS_META, found, seen.to_meta())


def _is_known(
    primary: Store, mark: ReplicationPosition, seen: LogPosition | None
) -> bool:
    """Return whether a log is the one in which a mark was made."""
    # Where the mark is on no entry, a later position that is there proves as much.
    later = (
        seen is not None
        and mark.committed_at is None
        and seen.sequence >= mark.sequence
    )
    return log_has(primary, mark) or later
