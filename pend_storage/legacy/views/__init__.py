"""Legacy files as live collections: for server code that must not change yet.

A view gives what ``json.load`` of its file would give at that place, read from the store
at that moment, and writes at once. What it gives are copies: changing a dictionary that a
view has given changes nothing until it is put back (``view[name] = changed``).

Quarantined records are there too, and can be written over, or taken out, as in the file.
Where one of them has the very name of a placed record, the placed one is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pend_storage.legacy.frame import MAP, OBJECT, SCALAR, WRAPPERS
from pend_storage.legacy.views.envelope import EnvelopeView, frame_of
from pend_storage.legacy.views.lists import ListView
from pend_storage.legacy.views.maps import MapView
from pend_storage.legacy.views.single import ObjectView, ScalarView
from pend_storage.store import Store
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = [
    "EnvelopeView",
    "ListView",
    "MapView",
    "ObjectView",
    "ScalarView",
    "view_of",
]


def view_of(
    layout: RecordLayout,
    store: Store,
    reads: Transaction | None = None,
    *,
    strict: bool = False,
) -> MapView | ListView | EnvelopeView | ObjectView | ScalarView:
    """The view that fits the present shape of a file.

    Args:
        layout: of the file.
        store: that the view is of.
        reads: by which the shape is looked up, where it is looked up for a write.
        strict: raise where a written value cannot be placed.
    """
    shape = frame_of(layout, store if reads is None else reads).shape
    if shape not in layout.shapes:
        shape = layout.shapes[0]
    if shape == MAP:
        return MapView(layout, store, strict=strict)
    if shape in WRAPPERS:
        return EnvelopeView(layout, store, strict=strict)
    if shape == OBJECT:
        return ObjectView(layout, store, strict=strict)
    if shape == SCALAR:
        return ScalarView(layout, store, strict=strict)
    return ListView(layout, store, strict=strict)
