"""Change feed of a pair: the logs of both stores as one, through every switch.

Each store's log has its own sequence. The feed's sequence of an entry holds, from its front
to its end: the epoch, the store's sequence, and which store it is. No epoch belongs to two
stores, so the feed's sequence grows with time, whichever store was primary.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from pend_storage._model.records import Change
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._roles import Side, other
from pend_storage.dualwrite._route import Route
from pend_storage.errors import ChangesExpired
from pend_storage.store import Store

__all__ = ["as_feed_entry", "change_feed", "feed_sequence"]

_BITS: Final = 44
"""Bits of a store's own sequence: enough for 17 million million commits in each store."""


class _FeedPosition(NamedTuple):
    """Sequence of the feed, in its parts."""

    epoch: int
    number: int
    side: Side

    @classmethod
    def from_sequence(cls, sequence: int) -> _FeedPosition:
        front, is_postgres = divmod(sequence, 2)
        epoch, number = divmod(front, 1 << _BITS)
        return cls(epoch, number, "postgres" if is_postgres else "json")

    def to_sequence(self) -> int:
        return (self.epoch << _BITS | self.number) << 1 | (self.side == "postgres")


def feed_sequence(route: Route, sequence: int) -> int:
    """Return the feed's sequence for a sequence of the primary's log."""
    return _FeedPosition(route.epoch, sequence, route.side).to_sequence()


def as_feed_entry(change: Change, side: Side) -> Change:
    """Return an entry of one store's log as an entry of the feed."""
    position = _FeedPosition(change.epoch, change.sequence, side)
    return replace(change, sequence=position.to_sequence())


def change_feed(pair: Pair, route: Route, after: int) -> Iterator[Change]:
    """Yield the entries after a sequence of this feed, up to their present end.

    Args:
        pair: both stores.
        route: the primary.
        after: sequence of the last entry that is known.

    Raises:
        ChangesExpired: the logs are not kept so far back.
        StoreUnavailable: a store that may have some of them cannot be reached.
    """
    start = _FeedPosition.from_sequence(after)
    logs = [_part(route.store, route.side, start, route.epoch)]
    # Entries of the store that is not primary end before the present epoch, and no others
    # can follow; so it is read only where older ones may be missing.
    if start.epoch < route.epoch:
        side = other(route.side)
        logs.append(_part(pair.store(side), side, start, route.epoch - 1))
    yield from heapq.merge(*logs, key=lambda change: change.sequence)


def _part(
    store: Store, side: Side, start: _FeedPosition, upto: int
) -> Iterator[Change]:
    """Yield the entries of one store's log after a position, up to an epoch."""
    for change in _entries(store, side, start):
        if change.epoch > upto:
            return
        if _FeedPosition(change.epoch, change.sequence, side) > start:
            yield as_feed_entry(change, side)


def _entries(store: Store, side: Side, start: _FeedPosition) -> Iterator[Change]:
    if start.side == side or start.epoch == 0:
        yield from store.changes(start.number if start.side == side else 0)
        return
    # A sequence of the other store: where the next epoch begins here is not known.
    try:
        yield from store.changes()
    except ChangesExpired as expired:
        kept = store.changes(expired.oldest)
        first = next(kept, None)
        if first is None or first.epoch > start.epoch:
            raise
        yield from itertools.chain([first], kept)
