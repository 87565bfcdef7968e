"""Views: legacy files as live dicts and lists, for server code that must not change yet.

A view returns what ``json.load`` of its file would return, read from the store at each
access, and writes at once. Objects and lists inside of it are views as well:
``view[name]["coins"] += 5`` is written. Values are copied into a view.

Quarantined records are shown too, and can be overwritten or deleted, as in the file. Where
one of them has the name of a placed record, the placed one is shown.
"""

from __future__ import annotations

from pend_storage._transaction import Transaction
from pend_storage.legacy._file_envelope import MAP, OBJECT, SCALAR, WRAPPERS
from pend_storage.legacy._placement import RecordPlacement, envelope_of
from pend_storage.legacy.views._envelope import LegacyEnvelope
from pend_storage.legacy.views._lists import LegacySequence
from pend_storage.legacy.views._maps import LegacyMapping
from pend_storage.legacy.views._single import LegacyObject, LegacyScalar
from pend_storage.store import Store

__all__ = [
    "LegacyEnvelope",
    "LegacyMapping",
    "LegacyObject",
    "LegacyScalar",
    "LegacySequence",
    "view_of",
]


def view_of(
    layout: RecordPlacement,
    store: Store,
    tx: Transaction | None = None,
    *,
    strict: bool = False,
) -> LegacyMapping | LegacySequence | LegacyEnvelope | LegacyObject | LegacyScalar:
    """Open the view that fits the present shape of a file.

    Args:
        layout: of the file.
        store: that holds its records.
        tx: a transaction of that store: reads and writes are part of it.
        strict: raise where a written value cannot be placed, instead of quarantining it.
    """
    shape = envelope_of(layout, store if tx is None else tx).shape
    if shape not in layout.shapes:
        shape = layout.shapes[0]
    if shape == MAP:
        return LegacyMapping(layout, store, tx, strict=strict)
    if shape in WRAPPERS:
        return LegacyEnvelope(layout, store, tx, strict=strict)
    if shape == OBJECT:
        return LegacyObject(layout, store, tx, strict=strict)
    if shape == SCALAR:
        return LegacyScalar(layout, store, tx, strict=strict)
    return LegacySequence(layout, store, tx, strict=strict)
