"""Queues and threads of an asynchronous store in one event loop."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from pend_storage.aio._batching import Batcher
from pend_storage.aio._requests import (
    CallRequest,
    CommitRequest,
    LookupRequest,
    ReadRequest,
    execute_calls,
    execute_commits,
    execute_reads,
)
from pend_storage.store import Store

__all__ = ["LoopEngine"]

_READING_THREADS: Final = 2
"""One asks while the other decodes; more only fight for the interpreter."""
_COMMITTING_THREADS: Final = 2
"""One is prepared, or waits for the second store, while the other is carried out."""
_MOST_KEYS: Final = 256
"""Keys of one merged read or commit at most: merging more gains nothing."""


@dataclass(frozen=True, slots=True)
class LoopEngine:
    """Engine of one event loop: a batcher for each kind of request, and the threads."""

    loop: asyncio.AbstractEventLoop
    process: int
    threads: ThreadPoolExecutor
    reads: Batcher[ReadRequest | LookupRequest]
    commits: Batcher[CommitRequest]
    calls: Batcher[CallRequest]

    @classmethod
    def of(
        cls,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        *,
        threads: int,
        max_waiting: int,
        timeout: float | None,
    ) -> Self:
        """Make the engine of a loop.

        Args:
            loop: where the coroutines run.
            store: executes the requests.
            threads: number of threads for requests that are not merged.
            max_waiting: requests in all queues at most; further callers wait.
            timeout: seconds that a request may take; None: any time.
        """
        slots = _READING_THREADS + _COMMITTING_THREADS + threads
        pool = ThreadPoolExecutor(slots, thread_name_prefix="pend-storage")
        semaphore = asyncio.Semaphore(max_waiting)
        batcher: Any = partial(Batcher, loop, pool, semaphore, timeout=timeout)
        return cls(
            loop=loop,
            process=os.getpid(),
            threads=pool,
            reads=batcher(
                partial(execute_reads, store), slots=_READING_THREADS, most=_MOST_KEYS
            ),
            commits=batcher(
                partial(execute_commits, store),
                slots=_COMMITTING_THREADS,
                most=_MOST_KEYS,
            ),
            calls=batcher(execute_calls, slots=threads, most=1),
        )

    async def close(self) -> None:
        """Refuse further requests, and wait until those in the queues are executed."""
        for batcher in (self.reads, self.commits, self.calls):
            batcher.close()
        await asyncio.to_thread(self.threads.shutdown)
