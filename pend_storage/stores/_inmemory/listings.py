"""Listings of legacy files, for a store with its rows in memory.

A listing is made when a view of a file first reads it, and is updated from the rows that
were set since. It holds no record: names, orders, short values, and the encoded rows that
the store has anyway; some 400 bytes a record. Files with more records than
:data:`MOST_LISTED` have none; their views query the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from pend_storage._layouts.layout import Layout
from pend_storage._layouts.listing import Listing, Mark, StoredListed
from pend_storage.query import field, make_query
from pend_storage.schema import QUARANTINE
from pend_storage.stores._inmemory.state import State
from pend_storage.stores._inmemory.table import Table

__all__ = ["MOST_LISTED", "Listings", "is_current"]

MOST_LISTED: Final = 250_000


class _ListingChanges(NamedTuple):
    """Changes of a file since its listing was made."""

    mark: Mark
    stored: dict[str, Iterable[StoredListed]]
    since: Listing | None
    """Listing that the changes are based on; None: these are all rows."""


class Listings:
    """Cache of the latest listings, by file. Safe to share: a listing never changes.

    Two threads may make the same one at a time; either is right.
    """

    def __init__(self) -> None:
        self._made: Final[dict[str, Listing]] = {}

    def known(self, layout: Layout) -> Listing | None:
        """Return the cached listing of a file, which may be outdated."""
        return self._made.get(layout.file)

    def of(
        self, layout: Layout, with_state: Callable[[Callable[[State], Any]], Any]
    ) -> Listing | None:
        """Return the listing of a file, up to date; None where the file is too large.

        Args:
            layout: of the file.
            with_state: calls a function with the state, while nothing changes in it.
        """
        # Rows never change, so they are decoded after this, outside of the store's lock.
        known = self._made.get(layout.file)
        changes: _ListingChanges | Listing | None = with_state(
            lambda state: _changes_since(state, layout, known)
        )
        if changes is None or isinstance(changes, Listing):
            return changes
        if changes.since is None:
            made = Listing.of_stored(
                layout, changes.mark, changes.stored, _decoders(layout, with_state)
            )
        else:
            made = changes.since.changed(changes.mark, changes.stored)
        self._made[layout.file] = made
        return made


def is_current(known: Listing, state: State) -> bool:
    """Return whether no row has been set since a listing was made."""
    placed, aside = state.table(known.layout.collection), state.table(QUARANTINE)
    return known.mark == (state.serial, placed.changes, aside.changes)


def _decoders(
    layout: Layout, with_state: Callable[[Callable[[State], Any]], Any]
) -> dict[str, Callable[[bytes], Any]]:
    names = (layout.collection, QUARANTINE)
    decoders: dict[str, Callable[[bytes], Any]] = with_state(
        lambda state: {name: state.table(name).spec.codec.decode for name in names}
    )
    return decoders


def _changes_since(
    state: State, layout: Layout, known: Listing | None
) -> _ListingChanges | Listing | None:
    """Collect the changes since a listing; return the listing itself where it is current."""
    if known is not None and is_current(known, state):
        return known
    placed, aside = state.table(layout.collection), state.table(QUARANTINE)
    mark = (state.serial, placed.changes, aside.changes)
    if known is not None and known.mark is not None and known.mark[0] == state.serial:
        since = {
            layout.collection: _since(placed, known.mark[1]),
            QUARANTINE: _since(aside, known.mark[2]),
        }
        if None not in since.values():
            stored: Any = since
            return _ListingChanges(mark, stored, known)
    where = make_query(placed.spec, layout.where).where
    found = placed.candidates(where)
    if len(found) > MOST_LISTED:
        return None
    here = make_query(aside.spec, (field("file") == layout.file,)).where
    waiting = aside.candidates(here) if aside.rows else []
    return _ListingChanges(mark, {layout.collection: found, QUARANTINE: waiting}, None)


def _since(table: Table, changes: int) -> list[StoredListed] | None:
    """Return the rows that were set since, as they are now; None where that is unknown."""
    touched = table.touched(changes)
    if touched is None:
        return None
    found = ((key, table.rows.get(key)) for key in touched)
    return [(k, 0, None) if row is None else (k, *row) for k, row in found]
