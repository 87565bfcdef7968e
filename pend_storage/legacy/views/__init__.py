"""Legacy files as live collections: for server code that must not change yet.

A view gives what ``json.load`` of its file would give at that place, read from the store
at that moment, and writes at once. Objects and lists inside of it are views as well:
``view[name]["coins"] += 5`` is written. What is put into a view is copied.

Quarantined records are there too, but cannot be changed: they wait for somebody to
decide. Where one of them has the very name of a placed record, the placed one is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pend_storage.legacy.frame import MAP, WRAPPED
from pend_storage.legacy.views.envelope import EnvelopeView, frame_of
from pend_storage.legacy.views.lists import ListView
from pend_storage.legacy.views.maps import MapView
from pend_storage.store import Store
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["EnvelopeView", "ListView", "MapView", "view_of"]


def view_of(
    layout: RecordLayout, store: Store, tx: Transaction | None = None
) -> MapView | ListView | EnvelopeView:
    """The view that fits the present shape of a file."""
    shape = frame_of(layout, store if tx is None else tx).shape
    if shape not in layout.shapes:
        shape = layout.shapes[0]
    if shape == MAP:
        return MapView(layout, store, tx)
    if shape == WRAPPED:
        return EnvelopeView(layout, store, tx)
    return ListView(layout, store, tx)
