"""Legacy files as live collections: for server code that must not change yet.

A view gives what ``json.load`` of its file would give at that place, read from the store
at that moment, and writes at once. What it gives are copies: changing a dictionary that a
view has given changes nothing until it is put back (``view[name] = changed``).

Quarantined records are there too, and can be written over, or taken out, as in the file.
Where one of them has the very name of a placed record, the placed one is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pend_storage.legacy.frame import MAP, WRAPPED
from pend_storage.legacy.views.envelope import EnvelopeView, frame_of
from pend_storage.legacy.views.lists import ListView
from pend_storage.legacy.views.maps import MapView
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["EnvelopeView", "ListView", "MapView", "view_of"]


def view_of(
    layout: RecordLayout, store: Store, *, strict: bool = False
) -> MapView | ListView | EnvelopeView:
    """The view that fits the present shape of a file."""
    shape = frame_of(layout, store).shape
    if shape not in layout.shapes:
        shape = layout.shapes[0]
    if shape == MAP:
        return MapView(layout, store, strict=strict)
    if shape == WRAPPED:
        return EnvelopeView(layout, store, strict=strict)
    return ListView(layout, store, strict=strict)
