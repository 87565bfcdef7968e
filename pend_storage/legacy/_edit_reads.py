"""Reads of an edit: the stored records that decide the outcome of changed texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from typing_extensions import override

from pend_storage._layouts.references import merged_fact
from pend_storage._layouts.removal import Place
from pend_storage._layouts.retained_forms import Operation
from pend_storage._layouts.unread_files import resting_on
from pend_storage._model.records import Delete, LegacyFile, Put, QuarantinedRecord
from pend_storage._model.storable_text import safe_text
from pend_storage._transaction_lookups import TransactionLookups
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.query import And, Comparison, Operator, Or, Query
from pend_storage.schema import LEGACY_FILES, QUARANTINE

__all__ = ["EditReads"]

_TAKEN: Final = Comparison(("code",), Operator.IN, ("key-taken", "value-taken"))


@dataclass(slots=True)
class EditReads(TransactionLookups):
    """Cached lookups of one edit through its transaction, which checks them at commit."""

    layout: RecordPlacement
    refused: Mapping[Place, str] = field(default_factory=dict)
    """Reasons of records that the store has refused in earlier attempts."""
    _memo: dict[Place, Any] = field(default_factory=dict)
    _aside: list[QuarantinedRecord] | None = None
    _names: frozenset[str] = frozenset()
    has_written: bool = False

    def record_writes(self, operations: Iterable[Operation]) -> None:
        """Record writes of the edit, which later lookups see."""
        for operation in operations:
            self.has_written = True
            record = None if isinstance(operation, Delete) else operation.record
            self._memo[operation.collection, operation.key] = record
            if operation.collection == QUARANTINE:
                self._aside = None

    def header(self) -> LegacyFile:
        """Read the header of the file; that of a new file where there is none."""
        found = self.find(LEGACY_FILES, self.layout.file)
        return self.layout.missing() if found is None else found

    @override
    def find(self, collection: str, key: str) -> Any:
        """Return the record under a key, or None, as the edit leaves it."""
        place = (collection, key)
        if place not in self._memo:
            verbs = self.tx.collection(collection)
            if collection == self.layout.collection:
                with resting_on(self.layout.file):  # others may share it
                    self._memo[place] = verbs.get(key)
            else:
                self._memo[place] = verbs.get(key)
        return self._memo[place]

    def named(self, name: str) -> Any:
        """Find the placed record of a member name, or one that a new record would replace."""
        found = self.layout.mapping.find(self.tx, name)
        if found is not None:
            spec = self.store.schema[self.layout.collection]
            self._memo[spec.name, spec.key_of(found)] = found
        return found

    def aside(self, *names: str) -> list[QuarantinedRecord]:
        """Read the file's quarantined records that an edit may affect.

        Those that wait for a taken key or value, those of the names, and the whole file's.
        """
        if self._aside is None or not self._names.issuperset(names):
            self._names |= set(names)
            places = ["", *(safe_text(name) for name in sorted(self._names))]
            mine = Comparison(("file",), Operator.EQ, self.layout.file)
            named = Comparison(("place",), Operator.IN, tuple(places))
            found = self.tx.collection(QUARANTINE).select(
                Query(And((mine, Or((_TAKEN, named)))))
            )
            self._aside = [row.record for row in found]
        return self._aside

    def facts(self, derived: Iterable[Put]) -> Iterator[Put]:
        """Merge derived facts into the existing records that they are about."""
        schema = self.store.schema
        for put in derived:
            spec = schema[put.collection]
            present = self.find(put.collection, put.key)
            record = merged_fact(spec, present, put.record, self._target_exists)
            if record is not None:
                yield schema.put(spec.name, record)

    def _target_exists(self, collection: str, key: str) -> bool:
        return self.find(collection, key) is not None
