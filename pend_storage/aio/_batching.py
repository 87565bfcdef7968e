"""Micro-batching of coroutines' requests: a few threads execute all that wait.

A request goes to a free thread at once. Where none is free it waits, and the next one that is
executes all that have gathered. There is no timer: an idle store answers as soon as it can,
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
    """Request of one coroutine to a store, with the future that the coroutine awaits."""

    __slots__ = ("future", "is_taken")

    size: int = 1
    """Share of a batch that it fills: keys of a read, operations and checks of a commit."""
    conflict_keys: Sequence[Hashable] = ()
    """Keys that it reads or writes; requests with one in common are executed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.future: asyncio.Future[Any]
        """Made when it is submitted."""
        self.is_taken = False
        """True once a batch has it: from then on it cannot be cancelled."""

    def complete(
        self, do: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Resolve with the result of a function, or with the error that it raises."""
        try:
            self.resolve(do(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
            self.resolve(error)


A = TypeVar("A", bound=AsyncRequest)


class Batcher(WorkerLedQueue[A]):
    """Batcher: queue of requests of one kind, executed in batches by a few threads."""

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
        """Make a batcher; threads start with the first request.

        Args:
            loop: where the coroutines run.
            threads: pool with as many threads as all batchers have slots.
            semaphore: bounds the requests in the queues of all batchers.
            execute: executes a batch in a thread, and resolves each request of it.
            slots: batches that may be under way at a time.
            most: size of a batch at most, in the unit of :attr:`AsyncRequest.size`.
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
        """Execute a request, alone or in a batch, and return the answer.

        Cancelled while it waits, it never happens. Cancelled later it is executed to its
        end, and the answer is dropped.

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
        """Refuse further requests; those in the queue are executed."""
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
        that executes that batch reads the queue again afterwards. A later request with a
        key in common with one that was passed over does not overtake it.
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
            # In this order: a timeout that finds it not taken has cancelled it by then, so
            # that it may report the outcome as known.
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
        with contextlib.suppress(
            RuntimeError
        ):  # the loop is closed, and with it callers
            self._loop.call_soon_threadsafe(_answer, batch)


def to_future_exception(error: BaseException) -> Exception:
    """Convert an error of a thread to one that a coroutine may raise."""
    # A future refuses StopIteration; KeyboardInterrupt or SystemExit would end the loop.
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
