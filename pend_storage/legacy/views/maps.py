"""A file that is an object of records, such as ``wallet-db.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pend_storage.diff import equal
from pend_storage.legacy.views.contents import Contents
from pend_storage.legacy.views.members import MISSING, Members
from pend_storage.legacy.writing import Writing
from pend_storage.namesakes import is_superseded
from pend_storage.store import Store
from pend_storage.text import safe_text
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["MapView"]


class MapView(Members):
    """Member name to record."""

    def __init__(
        self, layout: RecordLayout, store: Store, *, strict: bool = False
    ) -> None:
        super().__init__(Contents(layout, store, strict))

    def _lookup(self, reads: Store | Transaction, name: object) -> Any:
        """The record under exactly this name, or None.

        Raises:
            TypeError: it is not hashable, as for a dict.
        """
        contents = self._contents
        if not isinstance(name, str):
            hash(name)
            return None
        found = contents.layout.mapping.find(reads, name)
        if found is not None and contents.name(found) == name:
            return found
        waiting = [
            record
            for record in contents.quarantined(reads)
            if record.place == safe_text(name)
            and record.position is not None
            and not is_superseded(record)
            and contents.name(record) == name
        ]
        order = contents.layout.order
        return max(waiting, key=lambda record: order(record, 0), default=None)

    @override
    def __getitem__(self, name: str) -> Any:
        found = self._value(self._store, name)
        if found is MISSING:
            raise KeyError(name)
        return found

    @override
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        found = self._lookup(reads, name)
        return MISSING if found is None else self._contents.value(found)

    @override
    def _set(self, writing: Writing, name: str, value: Any) -> None:
        self._contents.set(writing, name, value)

    @override
    def _set_all(self, writing: Writing, given: dict[str, Any]) -> None:
        self._contents.set_all(writing, given)

    @override
    def _remove(self, writing: Writing, name: str) -> None:
        self._contents.unset(writing, name)

    @override
    def __iter__(self) -> Iterator[str]:
        contents = self._contents
        names = (contents.name(record) for record in contents.all(contents.store))
        return iter(dict.fromkeys(names))

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain data."""
        contents = self._contents
        records = contents.all(contents.store)
        return {contents.name(record): contents.value(record) for record in records}

    def values_in(self, reads: Store | Transaction) -> dict[str, Any]:
        """Everything, as plain data, as a transaction sees it."""
        contents = self._contents
        records = contents.all(reads)
        return {contents.name(record): contents.value(record) for record in records}

    def replace_in(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Make the map consist of these members, at the end of a transaction."""
        contents = self._contents
        for record in contents.all(tx):
            if contents.name(record) not in values:
                contents.remove(tx, record)
        for name, value in values.items():
            present = self._value(tx, name)
            if present is MISSING or not equal(present, value):
                self._set(tx, name, value)

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._contents.layout.file}>"
