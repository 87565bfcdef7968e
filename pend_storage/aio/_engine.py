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
"""Of one merged read or commit: from there on merging more gains nothing."""


@dataclass(frozen=True, slots=True)
class LoopEngine:
    """A queue for each kind of request, and the threads that execute them."""

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
        """Make one.

        Args:
            loop: where the coroutines run.
            store: executes the requests.
            threads: for requests that are not merged.
            max_waiting: requests that are let in at a time.
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
        """Let no more requests in, and wait until those that are in are executed."""
        for batcher in (self.reads, self.commits, self.calls):
            batcher.close()
        await asyncio.to_thread(self.threads.shutdown)
