"""Asynchronous iteration, a page at a time, and the history of a record."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from pend_storage._model.snapshots import KeyChange
from pend_storage.store import Store

__all__ = ["AsyncHistoryVerbs"]

T = TypeVar("T")

_PAGE: Final = 200
"""Rows or changes that an iterator fetches at a time."""


class AsyncHistoryVerbs:
    """Method of a store that reads the history of a record, awaited."""

    _store: Store

    @abstractmethod
    async def _in_thread(self, job: Callable[[], T]) -> T:
        """Run a job in a thread of the store."""

    async def _fetched(self, items: Iterator[T]) -> AsyncIterator[T]:
        """Iterate over a blocking iterator, a page at a time in a thread."""
        # A page at a time: a thread for each item would cost more than the item.
        while True:
            page = await self._in_thread(lambda: list(islice(items, _PAGE)))
            for item in page:
                yield item
            if len(page) < _PAGE:
                return

    async def record_history(
        self, collection: str, key: str, *, before: int | None = None
    ) -> AsyncIterator[KeyChange]:
        """Await :meth:`Store.record_history <pend_storage.store.Store.record_history>`."""
        found = await self._in_thread(
            partial(self._store.record_history, collection, key, before=before)
        )
        async for change in self._fetched(found):
            yield change
