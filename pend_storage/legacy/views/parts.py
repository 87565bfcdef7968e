"""A file of several collections: a map of views, and of members beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from pend_storage.legacy.views import view_of
from pend_storage.legacy.views.members import MISSING, Members
from pend_storage.schema import LEGACY_FILES
from pend_storage.store import Store
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.parts import PartLayout

__all__ = ["PartsView"]


class PartsView(Members):
    """Each part is a view of its own; the other members are what stands beside them."""

    def __init__(
        self, file: str, parts: Mapping[str, PartLayout], rest: Any, store: Store
    ) -> None:
        super().__init__(store)
        self._file: Final = file
        self._parts: Final = parts
        self._rest: Final = rest

    def _is_there(self, reads: Store | Transaction, name: str) -> bool:
        """Whether the file has a part: with records, or empty."""
        part = self._parts[name]
        header = reads.collection(LEGACY_FILES).get(part.file)
        if header is not None and part.is_there(header):
            return True
        return bool(self._part(reads, name).values_in(reads))

    def _part(self, reads: Store | Transaction, name: str) -> Any:
        inside = reads if isinstance(reads, Transaction) else None
        return view_of(self._parts[name], self._store, inside)

    @override
    def __getitem__(self, name: str) -> Any:
        if name not in self._parts:
            return self._rest[name]
        if not self._is_there(self._store, name):
            raise KeyError(name)
        return self._part(self._store, name)

    @override
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        if name not in self._parts:
            return self._rest.values_in(reads).get(name, MISSING)
        if not self._is_there(reads, name):
            return MISSING
        return self._part(reads, name).values_in(reads)

    @override
    def _set(self, tx: Transaction, name: str, value: Any) -> None:
        if name in self._parts:
            self._part(tx, name).replace_in(tx, value)
            self._note_there(tx, name)
        else:
            self._rest.replace_in(tx, {**self._rest.values_in(tx), name: value})

    def _note_there(self, tx: Transaction, name: str) -> None:
        """Have the member in the file even without a record."""
        part, headers = self._parts[name], tx.collection(LEGACY_FILES)
        header = headers.get(part.file)
        if header is None or not part.is_there(header):
            headers.put(part.found())

    @override
    def _remove(self, tx: Transaction, name: str) -> None:
        """Take out a member; a part stays, empty."""
        if name in self._parts:
            part = self._part(tx, name)
            part.replace_in(tx, {} if isinstance(part, Mapping) else [])
            return
        left = self._rest.values_in(tx)
        del left[name]
        self._rest.replace_in(tx, left)

    @override
    def __iter__(self) -> Iterator[str]:
        for name in self._parts:
            if self._is_there(self._store, name):
                yield name
        yield from self._rest

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return self.values_in(self._store)

    def values_in(self, reads: Store | Transaction) -> dict[str, Any]:
        """Everything, as plain data, as a transaction sees it."""
        found = {
            name: self._part(reads, name).values_in(reads)
            for name in self._parts
            if self._is_there(reads, name)
        }
        return {**found, **self._rest.values_in(reads)}

    def replace_in(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Make the file consist of these members, at the end of a transaction."""
        for name in self._parts:
            if name in values:
                self._set(tx, name, values[name])
            elif self._is_there(tx, name):
                self._remove(tx, name)
        rest = {n: value for n, value in values.items() if n not in self._parts}
        self._rest.replace_in(tx, rest)

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._file}>"
