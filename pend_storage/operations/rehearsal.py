"""A copy of a store in memory, on which something can be tried and then forgotten."""

from __future__ import annotations

from pend_storage.backfill import backfill
from pend_storage.events import Event
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.unread import as_stored

__all__ = ["rehearsal_of"]


def rehearsal_of(store: Store) -> MemoryStore:
    """Copy every record of a store, with its version, into one in memory.

    What is refused there, the store refuses as well: types, uniqueness and references
    are the same. It takes as much memory as the records.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    copy = MemoryStore(store.schema, layouts=store.layouts)
    with (
        as_stored()
    ):  # files that could not be read are copied as what is known of them
        backfill(store, copy, hook=_nobody)
    return copy


def _nobody(event: Event) -> None:
    """The events of a rehearsal are nobody's."""
    del event
