"""A file that is one record: an object, such as settings, or a bare value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from pend_storage.legacy.views.contents import Contents
from pend_storage.legacy.views.members import MISSING, Members
from pend_storage.store import Store
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["ObjectView", "ScalarView"]


class _Record:
    """The only record of a file."""

    def __init__(self, layout: RecordLayout, store: Store) -> None:
        self.contents: Final = Contents(layout, store)

    def value(self, reads: Store | Transaction) -> Any:
        """What the file says; ``MISSING`` where there is no record."""
        found = self.contents.all(reads)
        return self.contents.value(found[0]) if found else MISSING

    def write(self, tx: Transaction, value: Any) -> None:
        """Make the file say this; nothing, where it is ``MISSING``."""
        contents = self.contents
        present = contents.all(tx)
        for record in present:
            contents.require_placed(record)
        if value is MISSING:
            for record in present:
                contents.remove(tx, record)
            return
        entry = contents.entry(None, value)
        record = entry.home.record
        if present:
            merged = contents.layout.mapping.merge(present[0], record)
            key = contents.spec.key
            if getattr(merged, key) != getattr(present[0], key):
                contents.remove(tx, present[0])
            record = merged
        contents.put(tx, record, entry.derived)


class ObjectView(Members):
    """The members of the object that the file is."""

    def __init__(self, layout: RecordLayout, store: Store) -> None:
        super().__init__(store)
        self._record: Final = _Record(layout, store)
        self._file: Final = layout.file

    def _members(self, reads: Store | Transaction) -> dict[str, Any]:
        found = self._record.value(reads)
        return dict(found) if isinstance(found, Mapping) else {}

    @override
    def __getitem__(self, name: str) -> Any:
        return self._members(self._store)[name]

    @override
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        return self._members(reads).get(name, MISSING)

    @override
    def _set(self, tx: Transaction, name: str, value: Any) -> None:
        self._record.write(tx, {**self._members(tx), name: value})

    @override
    def _remove(self, tx: Transaction, name: str) -> None:
        members = self._members(tx)
        del members[name]
        self._record.write(tx, members)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._members(self._store))

    @override
    def __len__(self) -> int:
        return len(self._members(self._store))

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return self._members(self._store)

    def values_in(self, reads: Store | Transaction) -> dict[str, Any]:
        """Everything, as plain data, as a transaction sees it."""
        return self._members(reads)

    def replace_in(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Make the object consist of these members, at the end of a transaction."""
        self._record.write(tx, dict(values))

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._file}>"


class ScalarView:
    """A bare value: ``get`` reads it, ``set`` writes it."""

    def __init__(self, layout: RecordLayout, store: Store) -> None:
        self._record: Final = _Record(layout, store)
        self._store: Final = store
        self._file: Final = layout.file

    def get(self, default: Any = None) -> Any:
        """The value as it is in the store now; the default where there is no file."""
        found = self._record.value(self._store)
        return default if found is MISSING else found

    def set(self, value: Any) -> None:
        """Write another value."""
        self._store.run(lambda tx: self._record.write(tx, value))

    def snapshot(self) -> Any:
        """The value, as plain data."""
        return self.get()

    def values_in(self, reads: Store | Transaction) -> Any:
        """The value, as a transaction sees it."""
        found = self._record.value(reads)
        return None if found is MISSING else found

    def replace_in(self, tx: Transaction, value: Any) -> None:
        """Write another value at the end of a transaction."""
        self._record.write(tx, value)

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._file}>"
