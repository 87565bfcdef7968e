"""Backend protocol: the methods of an asynchronous store that collections call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

from pend_storage._cursor import CursorKey
from pend_storage._model.records import Batch, Row
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema

__all__ = ["Backend"]


class Backend(Protocol):
    """Backend of asynchronous collections and transactions."""

    schema: Schema

    @property
    def cursor_key(self) -> CursorKey | None:
        """Signs the cursors of pages."""
        ...

    async def read(self, collection: str, keys: Iterable[str], /) -> dict[str, Row]:
        """Read rows by key; missing ones are absent."""
        ...

    async def lookup(self, collection: str, name: str, value: Any, /) -> Row | None:
        """Read the row with this value in a unique field."""
        ...

    async def query(self, collection: str, query: Query, /) -> list[Row]:
        """Read the rows of a page."""
        ...

    async def count(self, collection: str, where: Condition, /) -> int:
        """Count the rows that meet a condition."""
        ...

    def scan(
        self, collection: str, /, *, after: str | None = None
    ) -> AsyncIterator[Row]:
        """Read all rows in key order, beginning after a key."""
        ...

    async def commit(self, batch: Batch, /) -> tuple[int, ...]:
        """Commit a batch, and return the version of each operation."""
        ...
