"""Live object of a file with one record per line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from typing_extensions import override

from pend_storage._transaction import Transaction
from pend_storage.codec import dump_json, load_json
from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.live import MISSING, Members
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store

__all__ = ["RecordPerLineObject"]


class RecordPerLineObject(Members):
    """Mapping of the records of a collection as plain JSON objects, in key order."""

    def __init__(
        self,
        file: str,
        spec: CollectionSpec,
        store: Store,
        tx: Transaction | None = None,
    ) -> None:
        super().__init__(file, store, tx)
        self._spec: Final = spec

    @override
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        record = reads.collection(self._spec.name).get(name)
        return MISSING if record is None else self._shown(record)

    @override
    def _set(self, tx: Transaction, name: str, value: Any) -> None:
        tx.collection(self._spec.name).put(self._record(name, value))

    @override
    def _remove(self, tx: Transaction, name: str) -> None:
        tx.collection(self._spec.name).delete(name)

    @override
    def _all(self, reads: Store | Transaction) -> dict[str, Any]:
        return {
            self._spec.key_of(record): self._shown(record)
            for record in self._records(reads)
        }

    def _records(self, reads: Store | Transaction) -> Iterator[Any]:
        if isinstance(reads, Transaction):
            return iter(reads.collection(self._spec.name).find().items)
        return reads.collection(self._spec.name).scan()

    @override
    def __iter__(self) -> Iterator[str]:
        return iter([self._spec.key_of(r) for r in self._records(self._reads)])

    @override
    def __len__(self) -> int:
        return self._reads.collection(self._spec.name).count()

    def _shown(self, record: Any) -> Any:
        return load_json(self._spec.codec.encode(record))

    def _record(self, key: str, value: Any) -> Any:
        if not isinstance(value, dict):
            raise InvalidRecord(
                f"a record of {self._file} is an object, and not {type(value).__name__}",
                collection=self._spec.name,
            )
        members = {**value, self._spec.key: key}
        try:
            return self._spec.codec.decode(dump_json(members))
        except CorruptFile as error:
            raise InvalidRecord(error.reason, collection=self._spec.name) from error
