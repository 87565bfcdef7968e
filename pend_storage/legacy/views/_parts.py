"""View of a file of several collections: a mapping of views, and of other members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from typing_extensions import override

from pend_storage._model.records import LegacyFile
from pend_storage._transaction import Transaction
from pend_storage.legacy._file_edit import run_edit
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.live import MISSING, Members
from pend_storage.live._recent import NEVER, Moment
from pend_storage.schema import LEGACY_FILES
from pend_storage.store import Store

__all__ = ["LegacyParts", "Part"]

T = TypeVar("T")


class Part(Protocol):
    """Part of a file: the interface of :class:`~pend_storage.legacy._parts.PartLayout`."""

    @property
    def file(self) -> str:
        """Name of the part as a file of its own."""

    def found(self) -> LegacyFile:
        """Return the header of a part without records."""

    def is_there(self, header: LegacyFile) -> bool:
        """Return whether a header says that the file has the part."""

    def view(
        self, store: Store, tx: Transaction | None = None, *, strict: bool = False
    ) -> Any:
        """Open the part as a live object."""


class LegacyParts(Members):
    """Live mapping of a file: each part is a view of its own, among plain members."""

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
        return run_edit(self._layout, self._store, change)

    def _is_there(self, reads: Store | Transaction, name: str) -> bool:
        """Return whether the file has a part: with records, or empty."""
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
            self._mark_present(tx, name)
        else:
            self._rest.replace_in(tx, {**self._rest.values_in(tx), name: value})

    def _mark_present(self, tx: Transaction, name: str) -> None:
        """Write the header of a part, so that the file shows it even without records."""
        part, headers = self._parts[name], tx.collection(LEGACY_FILES)
        header = headers.get(part.file)
        if header is None or not part.is_there(header):
            headers.put(part.found())

    @override
    def _remove(self, tx: Transaction, name: str) -> None:
        """Delete a member; a part stays, empty."""
        if name in self._parts:
            part = self._part(name)
            part.replace_in(tx, {} if isinstance(part, Mapping) else [])
            return
        left = self._rest.values_in(tx)
        del left[name]
        self._rest.replace_in(tx, left)

    @override
    def _poppable(self) -> list[str]:
        """Return parts with records, and other members: an emptied part stays."""
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
        """Read the whole object as plain data, as a transaction sees it."""
        return self._all(reads)

    def replace_in(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Replace all members of the file in a transaction."""
        for name in self._parts:
            if name in values:
                self._set(tx, name, values[name])
            elif self._is_there(tx, name):
                self._remove(tx, name)
        rest = {n: value for n, value in values.items() if n not in self._parts}
        self._rest.replace_in(tx, rest)
