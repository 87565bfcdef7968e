"""A file of several collections: a map of views, and of members beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from typing_extensions import override

from pend_storage._model.records import LegacyFile
from pend_storage._transaction import Transaction
from pend_storage.legacy._file_edit import written
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.live import MISSING, Members
from pend_storage.live._recent import NEVER, Moment
from pend_storage.schema import LEGACY_FILES
from pend_storage.store import Store

__all__ = ["LegacyParts", "Part"]

T = TypeVar("T")


class Part(Protocol):
    """One of the parts: :class:`~pend_storage.legacy._parts.PartLayout`."""

    @property
    def file(self) -> str:
        """Its name as a file of its own."""

    def found(self) -> LegacyFile:
        """The header of the part without a record."""

    def is_there(self, header: LegacyFile) -> bool:
        """Whether the file has the part, by its header."""

    def view(
        self, store: Store, tx: Transaction | None = None, *, strict: bool = False
    ) -> Any:
        """The part as a live object."""


class LegacyParts(Members):
    """Each part is a view of its own; the other members are what stands beside them."""

    def __init__(
        self,
        layout: RecordPlacement,
        parts: Mapping[str, Part],
        rest: Any,
        store: Store,
        tx: Transaction | None = None,
        *,
        strict: bool = False,
    ) -> None:
        super().__init__(layout.file, store, tx)
        self._layout: Final = layout
        self._parts: Final = parts
        self._rest: Final = rest
        self._strict: Final = strict

    @override
    def _run(self, change: Callable[[Transaction], T]) -> T:
        if self._tx is not None:
            return change(self._tx)
        return written(self._layout, self._store, change)

    def _is_there(self, reads: Store | Transaction, name: str) -> bool:
        """Whether the file has a part: with records, or empty."""
        part = self._parts[name]
        header = reads.collection(LEGACY_FILES).get(part.file)
        if header is not None and part.is_there(header):
            return True
        return bool(self._part(name).values_in(reads))

    def _part(self, name: str) -> Any:
        return self._parts[name].view(self._store, self._tx, strict=self._strict)

    @override
    def __getitem__(self, name: str) -> Any:
        if name not in self._parts:
            return self._rest[name]
        if not self._is_there(self._reads, name):
            raise KeyError(name)
        return self._part(name)

    @override
    def _child(self, name: str, value: Any, moment: Moment = NEVER) -> Any:
        if name in self._parts:
            return self._part(name)
        return super()._child(name, value, moment)

    @override
    def _pairs(self) -> list[tuple[str, Any]]:
        return [(name, self[name]) for name in self]

    @override
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        if name not in self._parts:
            return self._rest.values_in(reads).get(name, MISSING)
        if not self._is_there(reads, name):
            return MISSING
        return self._part(name).values_in(reads)

    @override
    def _set(self, tx: Transaction, name: str, value: Any) -> None:
        if name in self._parts:
            self._part(name).replace_in(tx, value)
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
            part = self._part(name)
            part.replace_in(tx, {} if isinstance(part, Mapping) else [])
            return
        left = self._rest.values_in(tx)
        del left[name]
        self._rest.replace_in(tx, left)

    @override
    def _poppable(self) -> list[str]:
        """A part stays, empty, whatever is taken out."""
        filled = (n for n in self._parts if n in self and len(self._part(n)))
        return [*filled, *self._rest]

    @override
    def _all(self, reads: Store | Transaction) -> dict[str, Any]:
        found = {
            name: self._part(name).values_in(reads)
            for name in self._parts
            if self._is_there(reads, name)
        }
        return {**found, **self._rest.values_in(reads)}

    def values_in(self, reads: Store | Transaction) -> dict[str, Any]:
        """Everything, as plain data, as a transaction sees it."""
        return self._all(reads)

    def replace_in(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Make the file consist of these members, at the end of a transaction."""
        for name in self._parts:
            if name in values:
                self._set(tx, name, values[name])
            elif self._is_there(tx, name):
                self._remove(tx, name)
        rest = {n: value for n, value in values.items() if n not in self._parts}
        self._rest.replace_in(tx, rest)
