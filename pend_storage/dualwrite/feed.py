"""One change feed from the logs of both stores, which goes on through every switch.

Each store's log has its own numbers. The feed's number of an entry says, from its front
to its end: the epoch, the store's number, and which store it is. No epoch belongs to two
stores, so the feed's numbers grow with time, whoever was primary.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from pend_storage._records import Change
from pend_storage.dualwrite.pair import Pair
from pend_storage.dualwrite.roles import Side, other
from pend_storage.dualwrite.routing import Route
from pend_storage.errors import ChangesExpired
from pend_storage.store import Store

__all__ = ["feed", "feed_number", "in_feed"]

_BITS: Final = 44
"""Room for 17 million million commits in each store."""


class _Place(NamedTuple):
    """A number of the feed, taken apart."""

    epoch: int
    number: int
    side: Side

    @classmethod
    def of(cls, sequence: int) -> _Place:
        front, is_postgres = divmod(sequence, 2)
        epoch, number = divmod(front, 1 << _BITS)
        return cls(epoch, number, "postgres" if is_postgres else "json")

    def to_sequence(self) -> int:
        return (self.epoch << _BITS | self.number) << 1 | (self.side == "postgres")


def feed_number(route: Route, sequence: int) -> int:
    """The feed's number for a number of the primary's log."""
    return _Place(route.epoch, sequence, route.side).to_sequence()


def in_feed(change: Change, side: Side) -> Change:
    """An entry of one store's log as an entry of the feed."""
    place = _Place(change.epoch, change.sequence, side)
    return replace(change, sequence=place.to_sequence())


def feed(pair: Pair, route: Route, after: int) -> Iterator[Change]:
    """The entries after a number of this feed, up to their present end.

    Entries of the store that is not primary end before the present epoch, and no others
    can follow; so it is asked only where older ones may be missing.

    Args:
        pair: both stores.
        route: the primary.
        after: number of the last entry that is known.

    Raises:
        ChangesExpired: the logs are not kept so far back.
        StoreUnavailable: a store that may have some of them cannot be reached.
    """
    start = _Place.of(after)
    logs = [_part(route.store, route.side, start, route.epoch)]
    if start.epoch < route.epoch:
        side = other(route.side)
        logs.append(_part(pair.store(side), side, start, route.epoch - 1))
    yield from heapq.merge(*logs, key=lambda change: change.sequence)


def _part(store: Store, side: Side, start: _Place, upto: int) -> Iterator[Change]:
    """What one store's log has after a place, up to an epoch."""
    for change in _entries(store, side, start):
        if change.epoch > upto:
            return
        if _Place(change.epoch, change.sequence, side) > start:
            yield in_feed(change, side)


def _entries(store: Store, side: Side, start: _Place) -> Iterator[Change]:
    if start.side == side or start.epoch == 0:
        yield from store.changes(start.number if start.side == side else 0)
        return
    # A number of the other store: where the next epoch begins here is not known.
    try:
        yield from store.changes()
    except ChangesExpired as expired:
        kept = store.changes(expired.oldest)
        first = next(kept, None)
        if first is None or first.epoch > start.epoch:
            raise
        yield from itertools.chain([first], kept)
