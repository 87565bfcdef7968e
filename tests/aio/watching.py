"""Stores that record their calls, and event loops to call them in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from typing_extensions import override

from pend_storage import AsyncStore
from pend_storage.query import Query
from pend_storage.records import Batch, Outcome, Row
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

__all__ = ["WatchedStore", "run", "settled"]

T = TypeVar("T")


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a loop that complains of what is slow to complain of."""
    return asyncio.run(work())


async def settled() -> None:
    """Let every task run as far as it can by itself."""
    for _ in range(5):
        await asyncio.sleep(0)


class WatchedStore(WrapperStore):
    """Notes every call that arrives, and holds calls back while a test wants it."""

    def __init__(self, inner: Store | None = None) -> None:
        super().__init__(inner or MemoryStore(SCHEMA))
        self.reads: list[list[str]] = []
        self.queries: list[Query] = []
        self.commits: list[int] = []
        """How many batches came in each call."""
        self.arrived = threading.Semaphore(0)
        """Released by every call that arrives."""
        self._open = threading.Event()
        self._open.set()
        self.is_closed = False

    def hold(self) -> None:
        """Let calls arrive, and go no further."""
        self._open.clear()

    def let_go(self) -> None:
        """Let them go on."""
        self._open.set()

    async def until_arrived(self, calls: int = 1) -> None:
        """Wait until so many more calls have arrived."""
        for _ in range(calls):
            assert await asyncio.to_thread(self.arrived.acquire, timeout=30)

    async def occupy(self, db: AsyncStore) -> list[asyncio.Task[int]]:
        """Hold two commits, so that no lane is free for others."""
        self.hold()
        under_way = []
        for name in ("first", "second"):
            put = db.collection(Log).put(a_log(name))
            under_way.append(asyncio.create_task(put))
            await self.until_arrived()
        return under_way

    def _pass(self) -> None:
        self.arrived.release()
        assert self._open.wait(60)

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        wanted = list(keys)
        self.reads.append(wanted)
        self._pass()
        return super().read(collection, wanted, deleted=deleted, epoch=epoch)

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        self.queries.append(query)
        self._pass()
        return super().query(collection, query, epoch=epoch)

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        self.commits.append(1)
        self._pass()
        return super().commit(batch, epoch=epoch)

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        self.commits.append(len(batches))
        self._pass()
        return self.inner.commit_each(batches, epoch=epoch)

    @override
    def close(self) -> None:
        self.is_closed = True  # the inner one stays open, to be looked into
