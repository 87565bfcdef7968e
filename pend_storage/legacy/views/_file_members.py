"""Base of views of files that are objects: reads and writes through the file's records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from typing_extensions import override

from pend_storage._transaction import Transaction
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.legacy.views._file_records import FileRecords
from pend_storage.live import Members
from pend_storage.store import Store

__all__ = ["FileMembers"]

T = TypeVar("T")


class FileMembers(Members):
    """Mapping of member names to values, of the file of one layout."""

    def __init__(
        self,
        layout: RecordPlacement,
        store: Store,
        tx: Transaction | None = None,
        *,
        strict: bool = False,
    ) -> None:
        super().__init__(layout.file, store, tx)
        self._contents: Final = FileRecords(layout, store, tx, strict)

    @override
    def _run(self, change: Callable[[Transaction], T]) -> T:
        return self._contents.run(change)

    def values_in(self, reads: Store | Transaction) -> dict[str, Any]:
        """Read the whole object as plain data, as a transaction sees it."""
        return self._all(reads)
