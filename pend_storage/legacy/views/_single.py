"""Views of files that are one record: an object, such as settings, or a scalar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from typing_extensions import override

from pend_storage._transaction import Transaction
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.legacy.views._file_members import FileMembers
from pend_storage.legacy.views._file_records import FileRecords
from pend_storage.live import MISSING, as_json
from pend_storage.store import Store

__all__ = ["LegacyObject", "LegacyScalar"]


class _Record:
    """Single record of a file."""

    def __init__(self, contents: FileRecords) -> None:
        self.contents: Final = contents

    def value(self, reads: Store | Transaction) -> Any:
        """Read the value; ``MISSING`` where there is no record."""
        listing = self.contents.listing(reads)
        standing = listing.standing
        return listing.value(standing[0]) if standing else MISSING

    def write(self, tx: Transaction, value: Any) -> None:
        """Write the value: changes the record, or adds it."""
        contents = self.contents
        listing = contents.listing(tx)
        if listing.standing:
            contents.change(tx, listing.record(listing.standing[0]), value)
        else:
            contents.add(tx, contents.piece(None, value))


class LegacyObject(FileMembers):
    """Live mapping of an object that is one record."""

    def __init__(
        self,
        layout: RecordPlacement,
        store: Store,
        tx: Transaction | None = None,
        *,
        strict: bool = False,
    ) -> None:
        super().__init__(layout, store, tx, strict=strict)
        self._record: Final = _Record(self._contents)

    @override
    def _all(self, reads: Store | Transaction) -> dict[str, Any]:
        found = self._record.value(reads)
        return dict(found) if isinstance(found, Mapping) else {}

    @override
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        return self._all(reads).get(name, MISSING)

    @override
    def _set(self, tx: Transaction, name: str, value: Any) -> None:
        self._record.write(tx, {**self._all(tx), name: value})

    @override
    def _set_all(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        self._record.write(tx, {**self._all(tx), **items})

    @override
    def _remove(self, tx: Transaction, name: str) -> None:
        members = self._all(tx)
        del members[name]
        self._record.write(tx, members)

    @override
    def clear(self) -> None:
        self._run(lambda tx: self._record.write(tx, {}))

    def replace_in(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Replace all members in a transaction."""
        self._record.write(tx, dict(values))


class LegacyScalar:
    """Live scalar: ``get`` reads it, ``set`` writes it."""

    def __init__(
        self,
        layout: RecordPlacement,
        store: Store,
        tx: Transaction | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self._contents: Final = FileRecords(layout, store, tx, strict)
        self._record: Final = _Record(self._contents)

    def get(self, default: Any = None) -> Any:
        """Read the value; the default where there is no file."""
        found = self._record.value(self._contents.reads)
        return default if found is MISSING else found

    def set(self, value: Any) -> None:
        """Write a new value."""
        new = as_json(value)
        self._contents.run(lambda tx: self._record.write(tx, new))

    def snapshot(self) -> Any:
        """Read the value as plain data."""
        return self.get()

    def values_in(self, reads: Store | Transaction) -> Any:
        """Read the value as a transaction sees it."""
        found = self._record.value(reads)
        return None if found is MISSING else found

    def replace_in(self, tx: Transaction, value: Any) -> None:
        """Replace the value in a transaction."""
        self._record.write(tx, value)

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._contents.layout.file}>"
