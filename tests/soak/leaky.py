"""A pair that leaks on purpose, to prove that a soak would notice."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import psycopg
from typing_extensions import override

from pend_storage.dualwrite import DualWriteStore
from pend_storage.records import Batch, Outcome, Row

__all__ = ["Leak", "LeakyStore"]

Leak: TypeAlias = Literal[
    "connections", "open files", "resident MiB", "tasks", "threads", "writes"
]
_BETWEEN: Final[Mapping[Leak, float]] = {
    "connections": 0.2,
    "open files": 0.05,
    "resident MiB": 0.05,
    "tasks": 0.05,
    "threads": 0.05,
    "writes": 0.2,
}
"""Seconds from one leak to the next: a server has room for a hundred connections."""
_FIRST: Final = 1.5
"""Seconds to the first leak; what the server begins with is there by then."""


class LeakyStore(DualWriteStore):
    """A pair of stores; without leaks just that."""

    def __init__(
        self,
        leaks: frozenset[Leak],
        url: str,
        application: str,
        loop: asyncio.AbstractEventLoop,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._url = url
        self._application = application
        self._loop = loop
        self._next = dict.fromkeys(leaks, time.monotonic() + _FIRST)
        self._kept: list[Any] = []
        self.leaked: Final[Counter[Leak]] = Counter()
        """How often, each of them."""
        self._leaks: Mapping[Leak, Callable[[], object]] = {
            "connections": self._leak_connection,
            "open files": lambda: os.open(os.devnull, os.O_RDONLY),
            "resident MiB": lambda: self._kept.append(b"x" * (1 << 20)),
            "tasks": lambda: loop.call_soon_threadsafe(self._leak_task),
            "threads": self._leak_thread,
        }

    @override
    def read(self, collection: str, keys: Iterable[str], **rest: Any) -> dict[str, Row]:
        for leak, do in self._leaks.items():
            if self._is_due(leak):
                do()
        return super().read(collection, keys, **rest)

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        if self._is_due("writes"):
            return tuple(1 for _ in batch.operations)
        return super().commit(batch, epoch=epoch)

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        if self._is_due("writes"):
            return [tuple(1 for _ in batch.operations) for batch in batches]
        return super().commit_each(batches, epoch=epoch)

    def _is_due(self, leak: Leak) -> bool:
        now = time.monotonic()
        if now < self._next.get(leak, now + 1):
            return False
        self._next[leak] = now + _BETWEEN[leak]
        self.leaked[leak] += 1
        return True

    def _leak_connection(self) -> None:
        named = psycopg.connect(self._url, application_name=self._application)
        self._kept.append(named)

    def _leak_task(self) -> None:
        self._kept.append(self._loop.create_task(asyncio.Event().wait()))

    def _leak_thread(self) -> None:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
