"""A file that is one record: an object, such as settings, or a bare value."""

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
    """The only record of a file."""

    def __init__(self, contents: FileRecords) -> None:
        self.contents: Final = contents

    def value(self, reads: Store | Transaction) -> Any:
        """What the file says; ``MISSING`` where there is no record."""
        listing = self.contents.listing(reads)
        standing = listing.standing
        return listing.value(standing[0]) if standing else MISSING

    def write(self, tx: Transaction, value: Any) -> None:
        """Make the file say this."""
        contents = self.contents
        listing = contents.listing(tx)
        if listing.standing:
            contents.change(tx, listing.record(listing.standing[0]), value)
        else:
            contents.add(tx, contents.piece(None, value))


class LegacyObject(FileMembers):
    """The members of the object that the file is."""

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
        """Make the object consist of these members, at the end of a transaction."""
        self._record.write(tx, dict(values))


class LegacyScalar:
    """A bare value: ``get`` reads it, ``set`` writes it."""

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
        """The value as it is in the store now; the default where there is no file."""
        found = self._record.value(self._contents.reads)
        return default if found is MISSING else found

    def set(self, value: Any) -> None:
        """Write another value."""
        new = as_json(value)
        self._contents.run(lambda tx: self._record.write(tx, new))

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
        return f"<live view of {self._contents.layout.file}>"
