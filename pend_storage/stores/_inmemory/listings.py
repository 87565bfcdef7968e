"""The listings of a store that keeps its rows in memory.

A listing is made when a view of a file first asks for it, and made anew from the rows that
were set since. It holds no record: names, orders, short values, and the encoded rows that
the store has anyway; some 400 bytes a record. Files of more records than
:data:`MOST_LISTED` have none, and are asked for.
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


class _News(NamedTuple):
    """Changes of a file since its listing was made."""

    mark: Mark
    stored: dict[str, Iterable[StoredListed]]
    since: Listing | None
    """None: all of it is here."""


class Listings:
    """What was made last, by file. Safe to share: a listing never changes.

    Two threads may make the same one at a time; either is right.
    """

    def __init__(self) -> None:
        self._made: Final[dict[str, Listing]] = {}

    def known(self, layout: Layout) -> Listing | None:
        """The one that was made last."""
        return self._made.get(layout.file)

    def of(
        self, layout: Layout, look: Callable[[Callable[[State], Any]], Any]
    ) -> Listing | None:
        """The listing of a file, up to date; None where the file is too large.

        Args:
            layout: of the file.
            look: calls a function with the state, while nothing changes in it.
        """
        known = self._made.get(layout.file)
        news: _News | Listing | None = look(lambda state: _news(state, layout, known))
        if news is None or isinstance(news, Listing):
            return news
        if news.since is None:
            made = Listing.of_stored(
                layout, news.mark, news.stored, _decoders(layout, look)
            )
        else:
            made = news.since.changed(news.mark, news.stored)
        self._made[layout.file] = made
        return made


def is_current(known: Listing, state: State) -> bool:
    """Whether nothing has been set since a listing was made."""
    placed, aside = state.table(known.layout.collection), state.table(QUARANTINE)
    return known.mark == (state.serial, placed.changes, aside.changes)


def _decoders(
    layout: Layout, look: Callable[[Callable[[State], Any]], Any]
) -> dict[str, Callable[[bytes], Any]]:
    names = (layout.collection, QUARANTINE)
    decoders: dict[str, Callable[[bytes], Any]] = look(
        lambda state: {name: state.table(name).spec.codec.decode for name in names}
    )
    return decoders


def _news(
    state: State, layout: Layout, known: Listing | None
) -> _News | Listing | None:
    """What has changed; the listing itself where nothing has."""
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
            return _News(mark, stored, known)
    where = make_query(placed.spec, layout.where).where
    found = placed.candidates(where)
    if len(found) > MOST_LISTED:
        return None
    here = make_query(aside.spec, (field("file") == layout.file,)).where
    waiting = aside.candidates(here) if aside.rows else []
    return _News(mark, {layout.collection: found, QUARANTINE: waiting}, None)


def _since(table: Table, changes: int) -> list[StoredListed] | None:
    """The rows that were set since, as they are now; None where that is too long ago."""
    touched = table.touched(changes)
    if touched is None:
        return None
    found = ((key, table.rows.get(key)) for key in touched)
    return [(k, 0, None) if row is None else (k, *row) for k, row in found]
