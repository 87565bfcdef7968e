"""Purge of a pair: what both stores keep of deleted records is erased.

A tombstone keeps a late put of its key from being applied. So it goes only after both
stores have applied the deletion, and after every write to the secondary that began before
is sure to fail: both stores go to another epoch first, with the roles that they have.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from pend_storage.crashpoints import declare
from pend_storage.dualwrite import _roles as roles
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite._relay import Relay
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.dualwrite._roles import Side, other
from pend_storage.dualwrite._route import Route
from pend_storage.dualwrite._router import Router
from pend_storage.errors import Conflict, PendStorageError, StaleEpoch
from pend_storage.phases import Role
from pend_storage.store import Store

__all__ = ["LogHold", "PairPurge"]

_ATTEMPTS: Final = 5
"""Attempts to purge a store whose log others write to; each needs one more drain."""
_PAUSE: Final = 0.05

_RENEWED: Final = declare(
    "purge.renewed", "both stores are at a new epoch, nothing is purged"
)
_HALF: Final = declare("purge.half", "the secondary is purged, the primary is not")


class LogHold:
    """Hold on the change log of one store: what the other one has not applied."""

    def __init__(self, router: Router, side: Side) -> None:
        self._router = router
        self._side: Side = side
        self._known = 0

    def __call__(self) -> int | None:
        """Return the sequence number; None where the other store does not follow.

        Where it is out of reach, the last answer counts: what it may lack is held.
        """
        pair, peer = self._router.pair, self._router.pair.store(other(self._side))
        try:
            view = pair.read_roles()
            mine, following = view.of(self._side), view.of(other(self._side))
            if mine is not None and following is not None:
                if following.role is not Role.SECONDARY:
                    return None  # it is primary itself, or detached
                mark = ReplicationPosition.load(peer)
                is_mine = mark is not None and (
                    mark.source == pair.store(self._side).identity()
                )
                self._known = mark.sequence if mark is not None and is_mine else 0
        except PendStorageError:
            pass
        return self._known


class PairPurge:
    """Purge of a pair of stores, in any phase."""

    def __init__(self, router: Router, relay: Relay) -> None:
        self._router = router
        self._relay = relay

    def purge(self, collection: str, keys: Iterable[str], *, tombstones: bool) -> bool:
        """Purge both stores; see :meth:`Store.purge <pend_storage.store.Store.purge>`.

        Raises:
            Conflict: a record is there, at the primary.
            ConfigError: a privilege is missing.
            StoreUnavailable: a store that takes part cannot be reached.
        """
        gone = sorted(set(keys))
        self._relay.catch_up()
        route = self._router.current()
        for row in route.store.read(collection, gone, epoch=route.epoch).values():
            raise Conflict(
                collection=collection, key=row.key, expected=0, actual=row.version
            )
        if route.follower is None:
            return self._purge_alone(route, collection, gone, tombstones=tombstones)
        if gone and tombstones:
            self._renew_epoch(route)
            self._relay.catch_up()
            _RENEWED()
        return self._purge_both(route, collection, gone, tombstones=tombstones)

    def _renew_epoch(self, route: Route) -> None:
        """Bring both stores to a new epoch, in their roles.

        Raises:
            StaleEpoch: the roles are being changed by another process.
        """
        view = self._router.pair.read_roles()
        if view.primary != route.side or view.follower is None or not view.is_settled:
            raise StaleEpoch(
                store="the pair", role=Role.PRIMARY.value, epoch=route.epoch
            )
        # The steps of an attachment, of a store that follows already: a crash between
        # them is recovered in the same way.
        for step in roles.attach(view, view.follower):
            if not self._router.pair.apply_step(step):
                break
        self._router.maintain()

    def _purge_both(
        self, route: Route, collection: str, keys: list[str], *, tombstones: bool
    ) -> bool:
        """Purge the secondary, then the primary, which may first need another drain."""
        left: list[Store] = [route.secondary, route.store]
        for number in range(_ATTEMPTS):
            if number:
                self._relay.catch_up()
                time.sleep(_PAUSE)
            waiting = []
            for store in left:
                if not store.purge(collection, keys, tombstones=tombstones):
                    waiting.append(store)
                _HALF()
            left = waiting
            if not left:
                return True
        return False

    def _purge_alone(
        self, route: Route, collection: str, keys: list[str], *, tombstones: bool
    ) -> bool:
        """Purge the primary, and of the detached store what is deleted there too.

        Where that one still has a record, the tombstone stays at the primary: it is what
        deletes the record when the store is attached again.
        """
        peer = self._router.pair.store(other(route.side))
        try:
            held = set(peer.read(collection, keys))
            free = [key for key in keys if key not in held]
            is_clean = peer.purge(collection, free, tombstones=tombstones)
        except OUT_OF_REACH:
            held, free, is_clean = set(keys), [], False
        done = [
            route.store.purge(collection, free, tombstones=tombstones),
            route.store.purge(collection, sorted(held), tombstones=False),
        ]
        return all(done) and is_clean and not held
