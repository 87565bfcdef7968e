"""Lookups of a file's edit, read through a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pend_storage._layouts.layout import Layout
from pend_storage._transaction import Transaction
from pend_storage.query import field
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store

__all__ = ["TransactionLookups"]


@dataclass(slots=True)
class TransactionLookups:
    """Record lookups by a transaction, which checks at its commit what was read.

    Implements :class:`~pend_storage._layouts.removal.RecordLookups`.
    """

    store: Store
    tx: Transaction

    def find(self, collection: str, key: str) -> Any:
        """Return the record under a key, or None."""
        return self.tx.collection(collection).get(key)

    def referrers(self, spec: CollectionSpec, name: str, key: str) -> Iterable[Any]:
        """Return the records of a collection that refer to a key by this field."""
        return self.tx.collection(spec.name).find(field(name) == key).items

    def records(self, layout: Layout) -> Iterable[Any]:
        """Return the placed records of a file, and maybe others of its collection."""
        return self.tx.collection(layout.collection).find(*layout.where).items

    def was_deleted(self, collection: str, key: str) -> bool:
        """Return whether the key has a tombstone. A hint: the commit does not check it."""
        found = self.store.read(collection, (key,), deleted=True).get(key)
        return found is not None and found.record is None
