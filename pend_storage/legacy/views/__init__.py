"""Legacy files as live collections: for server code that must not change yet.

A view gives what ``json.load`` of its file would give at that place, read from the store
at that moment, and writes at once. Objects and lists inside of it are views as well:
``view[name]["coins"] += 5`` is written. What is put into a view is copied.

Quarantined records are there too, and can be written over, or taken out, as in the file.
Where one of them has the very name of a placed record, the placed one is shown.
"""

from __future__ import annotations

from pend_storage.legacy.frame import MAP, OBJECT, SCALAR, WRAPPERS
from pend_storage.legacy.placement import RecordPlacement, envelope_of
from pend_storage.legacy.views.envelope import EnvelopeView
from pend_storage.legacy.views.lists import ListView
from pend_storage.legacy.views.maps import MapView
from pend_storage.legacy.views.single import ObjectView, ScalarView
from pend_storage.store import Store
from pend_storage.transaction import Transaction

__all__ = [
    "EnvelopeView",
    "ListView",
    "MapView",
    "ObjectView",
    "ScalarView",
    "view_of",
]


def view_of(
    layout: RecordPlacement,
    store: Store,
    tx: Transaction | None = None,
    *,
    strict: bool = False,
) -> MapView | ListView | EnvelopeView | ObjectView | ScalarView:
    """The view that fits the present shape of a file.

    Args:
        layout: of the file.
        store: that the view is of.
        tx: of that store: reads and writes are part of it.
        strict: raise where a written value cannot be placed.
    """
    shape = envelope_of(layout, store if tx is None else tx).shape
    if shape not in layout.shapes:
        shape = layout.shapes[0]
    if shape == MAP:
        return MapView(layout, store, tx, strict=strict)
    if shape in WRAPPERS:
        return EnvelopeView(layout, store, tx, strict=strict)
    if shape == OBJECT:
        return ObjectView(layout, store, tx, strict=strict)
    if shape == SCALAR:
        return ScalarView(layout, store, tx, strict=strict)
    return ListView(layout, store, tx, strict=strict)
