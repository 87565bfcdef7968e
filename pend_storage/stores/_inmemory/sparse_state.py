"""Sparse state: meta, counters, and the rows of some collections only.

A reader that wants a few facts of a large store must not hold its rows in memory. Of the
collections that it leaves out, only the rows that changed last are known, up to a size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from typing_extensions import override

from pend_storage.schema import Schema
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord, State
from pend_storage.stores._inmemory.table import Table

__all__ = ["SparseState"]

_LATEST_BYTES: Final = 4 << 20
_ROW_BYTES: Final = 300
"""What a row costs in memory beside its body, roughly."""


class SparseState(State):
    """State that holds the rows of some collections, and the latest ones of the others."""

    def __init__(self, schema: Schema, name: str, *, held: Iterable[str]) -> None:
        """Create an empty state.

        Args:
            schema: the collections.
            name: of the store, in errors.
            held: names of the collections whose rows are held.
        """
        super().__init__(schema, name)
        self._held = frozenset(held)
        self._latest: dict[tuple[str, str], ChangedRow] = {}
        """Rows of the other collections, the one that changed last at the end."""
        self._latest_bytes = 0

    @override
    def install(self, effect: LogRecord) -> None:
        held = self._held
        others = [row for row in effect.rows if row.collection not in held]
        for row in others:
            self.sequence = max(self.sequence, row.version)
            self._remember(row)
        if others or effect.forgotten:  # a table that is not held must not be touched
            effect = replace(
                effect,
                rows=tuple(row for row in effect.rows if row.collection in held),
                forgotten=tuple(f for f in effect.forgotten if f[0] in held),
            )
        super().install(effect)

    def _remember(self, row: ChangedRow) -> None:
        place = (row.collection, row.key)
        before = self._latest.pop(place, None)
        if before is not None:
            self._latest_bytes -= _size(before)
        self._latest[place] = row
        self._latest_bytes += _size(row)
        while self._latest_bytes > _LATEST_BYTES and len(self._latest) > 1:
            oldest = next(iter(self._latest))
            self._latest_bytes -= _size(self._latest.pop(oldest))

    @override
    def table(self, collection: str) -> Table:
        """Return the table of a collection that is held.

        Raises:
            LookupError: its rows are not held: what the table has would be incomplete.
        """
        found = super().table(collection)
        if found.spec.name not in self._held:
            raise LookupError(f"the rows of {found.spec.name} are not in memory")
        return found

    @override
    def stored(self, collection: str, key: str) -> tuple[int, bytes] | None:
        if collection in self._held:
            return super().stored(collection, key)
        row = self._latest[collection, key]
        return None if row.body is None else (row.version, row.body)


def _size(row: ChangedRow) -> int:
    return _ROW_BYTES + len(row.body or b"")
