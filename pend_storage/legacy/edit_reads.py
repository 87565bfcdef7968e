"""What is read of a store to write a few records of one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pend_storage.layout import Layout
from pend_storage.query import field as column
from pend_storage.records import LegacyFile, Put, QuarantinedRecord
from pend_storage.references import absorbed, anchored
from pend_storage.removal import Place
from pend_storage.schema import LEGACY_FILES, QUARANTINE, CollectionSpec
from pend_storage.store import Store
from pend_storage.text import safe_text
from pend_storage.transaction import Transaction
from pend_storage.unread import resting_on

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["EditReads"]


@dataclass(slots=True)
class EditReads:
    """Reads by one transaction, which checks them at its end."""

    layout: RecordLayout
    store: Store
    tx: Transaction
    refused: Mapping[Place, str] = field(default_factory=dict)
    """Records that the store has refused, and why."""

    def header(self) -> LegacyFile:
        """How the file is written. Not checked: the records are the same in any way."""
        found = self.store.collection(LEGACY_FILES).get(self.layout.file)
        return self.layout.missing() if found is None else found

    def find(self, collection: str, key: str) -> Any:
        """See :class:`~pend_storage.removal.Looks`."""
        verbs = self.tx.collection(collection)
        if collection != self.layout.collection:
            return verbs.get(key)
        with resting_on(self.layout.file):  # others may share the collection
            return verbs.get(key)

    def referrers(self, spec: CollectionSpec, name: str, key: str) -> Iterable[Any]:
        """See :class:`~pend_storage.removal.Looks`."""
        return self.tx.collection(spec.name).find(column(name) == key).items

    def records(self, layout: Layout) -> Iterable[Any]:
        """See :class:`~pend_storage.removal.Looks`."""
        return self.tx.collection(layout.collection).find(*layout.where).items

    def was_deleted(self, collection: str, key: str) -> bool:
        """See :class:`~pend_storage.removal.Looks`."""
        found = self.store.read(collection, (key,), deleted=True).get(key)
        return found is not None and found.record is None

    def aside(self, *names: str) -> list[QuarantinedRecord]:
        """What of the file waits in quarantine under a name, or for what is taken."""
        places = [safe_text(name) for name in names]
        where = column("code").in_(["key-taken", "value-taken"])
        if places:
            where |= column("place").in_(places)
        found = self.tx.collection(QUARANTINE).find(
            column("file") == self.layout.file, where
        )
        return [record for record in found.items if record.position is not None]

    def facts(self, derived: Iterable[Put]) -> Iterator[Put]:
        """What is told of others, on top of what is there."""
        schema = self.store.schema
        for put in derived:
            spec = schema[put.collection]
            fact = anchored(
                spec, put.record, lambda *place: self.find(*place) is not None
            )
            present = self.find(put.collection, put.key)
            if fact is not None:
                record = fact if present is None else absorbed(spec, present, fact)
                yield schema.put(spec.name, record)
