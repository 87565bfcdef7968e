"""Calls of coroutines, carried out by few threads, all that wait at a time.

A call goes to a free lane at once. Where no lane is free it waits, and the next lane that
is takes all that have gathered, and carries them out together. No timer: an idle store
answers as soon as it can, and under load the groups grow by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, Protocol, TypeVar

from pend_storage.errors import StoreUnavailable
from pend_storage.sharing import own_copy
from pend_storage.shown import shown

__all__ = ["Batcher", "Sized", "to_future_exception"]


class Sized(Protocol):
    """What a call asks for."""

    @property
    def size(self) -> int:
        """How much of a group it fills."""
        ...

    @property
    def conflict_keys(self) -> Iterable[Hashable]:
        """What it touches: of calls with a place in common the order is kept."""
        ...


W = TypeVar("W", bound=Sized)
_NAME: Final = "the asynchronous store"


class _Call(Generic[W]):
    """What one coroutine waits for."""

    __slots__ = ("future", "is_taken", "wish")

    def __init__(self, wish: W, future: asyncio.Future[Any]) -> None:
        self.wish = wish
        self.future = future
        self.is_taken = False
        """From here on it cannot be taken back."""


class Batcher(Generic[W]):
    """So many threads at most carry out calls of one kind."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPoolExecutor,
        room: asyncio.Semaphore,
        carry_out: Callable[[Sequence[W]], Sequence[Any]],
        *,
        lanes: int,
        most: int,
        timeout: float | None,
    ) -> None:
        """Make them; threads start with the first call.

        Args:
            loop: where the coroutines run.
            threads: as many as all lanes of all kinds together.
            room: lets so many calls in at a time; the others wait outside.
            carry_out: answers several calls at once, in a thread: for each a value, or
                the error to raise.
            lanes: how many groups may be under way.
            most: how large a group may be.
            timeout: seconds that a call may take; None: any time.
        """
        self._loop = loop
        self._threads = threads
        self._semaphore = room
        self._carry_out = carry_out
        self._most = most
        self._timeout = timeout
        self._gate = threading.Lock()
        self._idle = lanes
        self._is_closed = False
        self._waiting: deque[_Call[W]] = deque()
        self._touched: set[Hashable] = set()
        """ConflictKeys of the groups that are under way."""

    async def call(self, wish: W) -> Any:
        """Have it carried out, alone or in company; gives the answer.

        Cancelled while it waits, it never happens. Cancelled later it is carried out to
        its end, and nobody is told.

        Raises:
            StoreUnavailable: it took longer than the timeout; ``outcome_known`` tells
                whether it certainly did not happen.
        """
        await self._semaphore.acquire()
        try:
            self._refuse_closed()
            call = _Call(wish, self._loop.create_future())
            self._submit(call)
            if self._timeout is None:
                return await call.future
            return await self._in_time(call)
        finally:
            self._semaphore.release()

    def close(self) -> None:
        """Let no more calls in; what is in is carried out."""
        self._is_closed = True

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the store is closed", store=_NAME)

    def _submit(self, call: _Call[W]) -> None:
        with self._gate:
            self._waiting.append(call)
            if not self._idle:
                return
            self._idle -= 1
        self._threads.submit(self._work)

    async def _in_time(self, call: _Call[W]) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await call.future
        except TimeoutError:
            raise StoreUnavailable(
                f"no answer within {self._timeout:g} s",
                store=_NAME,
                outcome_known=not call.is_taken,
            ) from None

    # -- in a thread --------------------------------------------------------------------

    def _work(self) -> None:
        """Carry out groups until nothing waits any more."""
        while calls := self._take():
            answers = self._answers([call.wish for call in calls])
            self._leave(calls)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(_deliver, calls, answers)

    def _take(self) -> list[_Call[W]]:
        """The next group; without one this lane is idle.

        What has a place in common with a group under way is passed over: whoever carries
        that one out looks again afterwards.
        """
        taken: list[_Call[W]] = []
        passed: list[_Call[W]] = []
        held: set[Hashable] = set()
        size = 0
        with self._gate:
            while self._waiting and len(passed) < self._most:
                call = self._waiting[0]
                conflict_keys = call.wish.conflict_keys
                if any(p in self._touched or p in held for p in conflict_keys):
                    held.update(conflict_keys)
                    passed.append(self._waiting.popleft())
                    continue
                size += call.wish.size
                if taken and size > self._most:
                    break
                self._waiting.popleft()
                # In this order: whoever has seen that it is not taken has cancelled it.
                call.is_taken = True
                if not call.future.cancelled():
                    taken.append(call)
            self._waiting.extendleft(reversed(passed))
            self._touched.update(p for call in taken for p in call.wish.conflict_keys)
            if not taken:
                self._idle += 1
        return taken

    def _leave(self, calls: Sequence[_Call[W]]) -> None:
        with self._gate:
            self._touched.difference_update(
                p for c in calls for p in c.wish.conflict_keys
            )

    def _answers(self, wishes: Sequence[W]) -> Sequence[Any]:
        try:
            return self._carry_out(wishes)
        except BaseException as error:  # noqa: BLE001 - raised again in each coroutine
            shared = to_future_exception(error)
            return [own_copy(shared) for _ in wishes]


def to_future_exception(error: BaseException) -> Exception:
    """An error as a coroutine may raise it.

    A future does not take a ``StopIteration``; and what ends a thread, an interrupt or
    an exit, would end the loop.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"the call ended with {shown(error)} in its thread")


def _deliver(calls: Sequence[_Call[Any]], answers: Sequence[Any]) -> None:
    """In the loop: tell the coroutines."""
    for call, answer in zip(calls, answers, strict=True):
        future = call.future
        if future.done():  # cancelled on the way
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
