"""Exclusive use of files by tasks: nobody waits for it in a thread that others need.

Of the tasks that want one file, one waits for the store's lock, in a thread of its own, and
the others wait for that task.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from dataclasses import dataclass
from typing import Any, Final

from pend_storage._whole_files.exclusive_use import (
    EXCLUSIVE_USER,
    LEASE_SECONDS,
    ExclusiveUses,
    caller,
)
from pend_storage.aio._batching import to_future_exception
from pend_storage.errors import LockTimeout

__all__ = ["AsyncHolds"]


@dataclass(slots=True)
class _Loan:
    """Exclusive use from a ``load`` until the ``save`` of the same task."""

    hold: AbstractAsyncContextManager[None] | None
    """None: it was taken back."""
    end: asyncio.TimerHandle


class AsyncHolds:
    """The exclusive uses that tasks have of the files of one store."""

    def __init__(self, holds: ExclusiveUses) -> None:
        self._holds: Final = holds
        self._turns: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[str, asyncio.Lock]
        ] = weakref.WeakKeyDictionary()
        self._loans: weakref.WeakKeyDictionary[Any, dict[str, _Loan]] = (
            weakref.WeakKeyDictionary()
        )
        self._ending: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def exclusive(self, file: str, seconds: float) -> AsyncIterator[None]:
        """Exclusive use of a file in a block; see ``Store.exclusive``.

        Raises:
            LockTimeout: others had it for so many seconds.
        """
        owner = caller()
        if self._holds.held_by(owner, file) is not None:
            with self._holds.exclusive(file, seconds, owner):
                yield
            return
        deadline = time.monotonic() + seconds
        async with self._turn(file, seconds):
            left = max(deadline - time.monotonic(), 0.0)
            hold = self._holds.exclusive(file, left, owner)
            try:
                await _entered(hold)
            except LockTimeout:
                raise LockTimeout(
                    path=file, seconds=seconds, holder=EXCLUSIVE_USER
                ) from None
            try:
                yield
            finally:
                await asyncio.shield(asyncio.to_thread(hold.__exit__, None, None, None))

    @asynccontextmanager
    async def _turn(self, file: str, seconds: float) -> AsyncIterator[None]:
        """Keep other tasks of this loop out."""
        turns = self._turns.setdefault(asyncio.get_running_loop(), {})
        turn = turns.setdefault(file, asyncio.Lock())
        try:
            async with asyncio.timeout(seconds):
                await turn.acquire()
        except TimeoutError:
            raise LockTimeout(
                path=file, seconds=seconds, holder=EXCLUSIVE_USER
            ) from None
        try:
            yield
        finally:
            turn.release()

    # -- from a load to a save ----------------------------------------------------------

    async def borrow(self, file: str, seconds: float) -> None:
        """Exclusive use of a file, until the same task brings it back.

        Raises:
            LockTimeout: others had it for so many seconds.
        """
        owner, loop = caller(), asyncio.get_running_loop()
        mine = self._loans.setdefault(owner, {})
        known = mine.pop(file, None)
        hold = None
        if known is not None:
            known.end.cancel()
            hold = known.hold
        if hold is None:
            hold = self.exclusive(file, seconds)
            await hold.__aenter__()
            owner.add_done_callback(lambda _: self._take_back(mine, file))
        end = loop.call_later(LEASE_SECONDS, self._take_back, mine, file)
        mine[file] = _Loan(hold, end)

    async def bring_back(self, file: str) -> None:
        """End what :meth:`borrow` of this task has begun, if anything."""
        loan = self._loans.get(caller(), {}).pop(file, None)
        if loan is not None:
            loan.end.cancel()
            if loan.hold is not None:
                await asyncio.shield(loan.hold.__aexit__(None, None, None))

    def require(self, file: str) -> None:
        """See that this task still has what it believes to have.

        Raises:
            LockTimeout: it borrowed the file, and it was taken back.
            StoreUnavailable: the connection that held the lock is gone.
        """
        owner = caller()
        loan = self._loans.get(owner, {}).get(file)
        if loan is not None and loan.hold is None:
            raise LockTimeout(
                path=f"{file}, which was loaded for exclusive use and not saved in time,",
                seconds=LEASE_SECONDS,
                holder="this caller",
            )
        self._holds.require(file, owner)

    def _take_back(self, loans: dict[str, _Loan], file: str) -> None:
        """In the loop: end a loan that nobody brings back."""
        loan = loans.get(file)
        if loan is None or loan.hold is None:
            return
        hold, loan.hold = loan.hold, None
        loan.end.cancel()
        ending = asyncio.ensure_future(hold.__aexit__(None, None, None))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Entry:
    """A block that is entered in a thread of its own."""

    def __init__(self, hold: AbstractContextManager[None]) -> None:
        self._hold = hold
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()
        self._guard = threading.Lock()
        self._is_given_up = False
        self._is_in = False
        threading.Thread(target=self._run, name="pend-exclusive", daemon=True).start()

    def give_up(self) -> None:
        """Nobody waits any more: leave it as soon as it is entered."""
        with self._guard:
            self._is_given_up = True
            is_in = self._is_in
        if is_in:
            threading.Thread(target=self._leave, daemon=True).start()

    def _leave(self) -> None:
        self._hold.__exit__(None, None, None)

    def _run(self) -> None:
        try:
            self._hold.__enter__()
        except BaseException as error:  # noqa: BLE001 - raised in the coroutine
            self._tell(to_future_exception(error))
            return
        with self._guard:
            self._is_in = not self._is_given_up
        if not self._is_in or not self._tell(None):
            self._leave()

    def _tell(self, error: Exception | None) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._settle, error)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _settle(self, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


async def _entered(hold: AbstractContextManager[None]) -> None:
    """Enter a block, whose waiting keeps no thread of the loop's from others."""
    entry = _Entry(hold)
    try:
        await entry.future
    except asyncio.CancelledError:
        entry.give_up()
        raise
