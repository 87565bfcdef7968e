"""Micro-batching of coroutines' requests: few threads execute all that wait at a time.

A request goes to a free thread at once. Where none is free it waits, and the next one that is
executes all that have gathered together. No timer: an idle store answers as soon as it can,
and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from typing_extensions import override

from pend_storage._group_commit import Request, WorkerLedQueue
from pend_storage._shown import shown
from pend_storage.errors import StoreUnavailable

__all__ = ["AsyncRequest", "Batcher", "to_future_exception"]

P = ParamSpec("P")
_NAME: Final = "the asynchronous store"


class AsyncRequest(Request):
    """What one coroutine asks of a store, and waits for."""

    __slots__ = ("future", "is_taken")

    size: int = 1
    """How much of a batch it fills."""
    conflict_keys: Sequence[Hashable] = ()
    """What it touches: requests with one in common are executed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.future: asyncio.Future[Any]
        """Made when it is submitted."""
        self.is_taken = False
        """From here on it cannot be taken back."""

    def complete(
        self, do: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """End with what a function returns or raises."""
        try:
            self.resolve(do(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
            self.resolve(error)


A = TypeVar("A", bound=AsyncRequest)


class Batcher(WorkerLedQueue[A]):
    """Queue of requests of one kind, executed by so many threads at most."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPoolExecutor,
        semaphore: asyncio.Semaphore,
        execute: Callable[[list[A]], None],
        *,
        slots: int,
        most: int,
        timeout: float | None,
    ) -> None:
        """Make one; threads start with the first request.

        Args:
            loop: where the coroutines run.
            threads: as many as all slots of all kinds together.
            semaphore: lets so many requests in at a time; the others wait outside.
            execute: executes a batch in a thread, and resolves each request of it.
            slots: how many batches may be under way.
            most: how large a batch may be.
            timeout: seconds that a request may take; None: any time.
        """
        self._loop = loop
        self._semaphore = semaphore
        self._most = most
        self._timeout = timeout
        self._is_closed = False
        self._start_worker = threads.submit
        super().__init__(execute, slots=slots)

    @override
    def reset(self) -> None:
        super().reset()
        self._busy_keys: set[Hashable] = set()
        """Conflict keys of the batches that are under way."""

    async def call(self, request: A) -> Any:
        """Have a request executed, alone or in a batch; returns the answer.

        Cancelled while it waits, it never happens. Cancelled later it is carried out to
        its end, and nobody gets the answer.

        Raises:
            StoreUnavailable: it took longer than the timeout; ``outcome_known`` says
                whether it certainly did not happen.
        """
        await self._semaphore.acquire()
        try:
            if self._is_closed:
                raise StoreUnavailable("the store is closed", store=_NAME)
            request.future = self._loop.create_future()
            self.submit(request)
            if self._timeout is None:
                return await request.future
            return await self._in_time(request)
        finally:
            self._semaphore.release()

    def close(self) -> None:
        """Let no more requests in; those that are in are executed."""
        self._is_closed = True

    async def _in_time(self, request: A) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await request.future
        except TimeoutError:
            raise StoreUnavailable(
                f"no answer within {self._timeout:g} s",
                store=_NAME,
                outcome_known=not request.is_taken,
            ) from None

    # -- in a thread --------------------------------------------------------------------

    @override
    def _next_batch(self) -> list[A]:
        """Remove the next batch from the queue.

        A request with a key in common with a batch under way is passed over: the worker
        that executes that batch looks again afterwards. One that comes later and has a key
        in common with one that was passed over does not overtake it.
        """
        batch: list[A] = []
        passed: list[A] = []
        held: set[Hashable] = set()
        size = 0
        waiting, busy = self._waiting, self._busy_keys
        while waiting and len(passed) < self._most:
            request = waiting[0]
            keys = request.conflict_keys
            if keys and not (busy.isdisjoint(keys) and held.isdisjoint(keys)):
                held.update(keys)
                passed.append(waiting.popleft())
                continue
            size += request.size
            if batch and size > self._most:
                break
            waiting.popleft()
            # In this order: whoever has seen that it is not taken has cancelled it.
            request.is_taken = True
            if not request.future.cancelled():
                batch.append(request)
        waiting.extendleft(reversed(passed))
        for request in batch:
            busy.update(request.conflict_keys)
        return batch

    @override
    def _finished(self, batch: list[A]) -> None:
        for request in batch:
            self._busy_keys.difference_update(request.conflict_keys)

    @override
    def _deliver(self, batch: list[A]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(_answer, batch)


def to_future_exception(error: BaseException) -> Exception:
    """Return an error as a coroutine may raise it.

    A future does not take a ``StopIteration``; and what ends a thread, an interrupt or
    an exit, would end the loop.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"the call ended with {shown(error)} in its thread")


def _answer(batch: Sequence[AsyncRequest]) -> None:
    """Wake the coroutines, in the loop."""
    for request in batch:
        future = request.future
        if future.done():  # cancelled on the way
            continue
        if request.error is not None:
            future.set_exception(to_future_exception(request.error))
        else:
            future.set_result(request.result)
