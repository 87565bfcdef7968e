"""Exclusive use of files by tasks.

Of the tasks that want one file, one waits for the store's lock, in a thread of its own, and
the others wait for that task. So waiting takes no thread of the loop's pool, which those
that hold the lock may need.
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
class _Lease:
    """Exclusive use from a ``load`` until the ``save`` of the same task."""

    hold: AbstractAsyncContextManager[None] | None
    """None: it was revoked, because it lasted too long or the task has ended."""
    end: asyncio.TimerHandle


class AsyncHolds:
    """Exclusive uses by tasks of the files of one store."""

    def __init__(self, holds: ExclusiveUses) -> None:
        self._holds: Final = holds
        self._turns: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[str, asyncio.Lock]
        ] = weakref.WeakKeyDictionary()
        self._leases: weakref.WeakKeyDictionary[Any, dict[str, _Lease]] = (
            weakref.WeakKeyDictionary()
        )
        self._ending: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def exclusive(self, file: str, seconds: float) -> AsyncIterator[None]:
        """Hold the exclusive use of a file for a block; see ``Store.exclusive``.

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
            # Releasing is shielded: a task that is cancelled must not keep the lock.
            try:
                yield
            finally:
                await asyncio.shield(asyncio.to_thread(hold.__exit__, None, None, None))

    @asynccontextmanager
    async def _turn(self, file: str, seconds: float) -> AsyncIterator[None]:
        """Hold the lock between the tasks of this loop; only its holder asks the store."""
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

    async def lease(self, file: str, seconds: float) -> None:
        """Lease the exclusive use of a file, until the same task releases it.

        Raises:
            LockTimeout: others had it for so many seconds.
        """
        owner, loop = caller(), asyncio.get_running_loop()
        mine = self._leases.setdefault(owner, {})
        known = mine.pop(file, None)
        hold = None
        if known is not None:
            known.end.cancel()
            hold = known.hold
        if hold is None:
            hold = self.exclusive(file, seconds)
            await hold.__aenter__()
            owner.add_done_callback(lambda _: self._revoke(mine, file))
        end = loop.call_later(LEASE_SECONDS, self._revoke, mine, file)
        mine[file] = _Lease(hold, end)

    async def release(self, file: str) -> None:
        """Release the lease of this task, if it has one."""
        lease = self._leases.get(caller(), {}).pop(file, None)
        if lease is not None:
            lease.end.cancel()
            if lease.hold is not None:
                await asyncio.shield(lease.hold.__aexit__(None, None, None))

    def require(self, file: str) -> None:
        """Check that a lease of this task was not revoked.

        Raises:
            LockTimeout: it was revoked.
            StoreUnavailable: the connection that held the lock is gone.
        """
        owner = caller()
        lease = self._leases.get(owner, {}).get(file)
        if lease is not None and lease.hold is None:
            raise LockTimeout(
                path=f"{file}, which was loaded for exclusive use and not saved in time,",
                seconds=LEASE_SECONDS,
                holder="this caller",
            )
        self._holds.require(file, owner)

    def _revoke(self, leases: dict[str, _Lease], file: str) -> None:
        """Revoke a lease that was not released in time; called in the loop."""
        lease = leases.get(file)
        if lease is None or lease.hold is None:
            return
        hold, lease.hold = lease.hold, None
        lease.end.cancel()
        ending = asyncio.ensure_future(hold.__aexit__(None, None, None))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Entry:
    """Entry of a context manager in a thread of its own."""

    def __init__(self, hold: AbstractContextManager[None]) -> None:
        self._hold = hold
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()
        self._guard = threading.Lock()
        self._is_abandoned = False
        self._is_entered = False
        threading.Thread(target=self._run, name="pend-exclusive", daemon=True).start()

    def abandon(self) -> None:
        """Exit the block as soon as it is entered: its task was cancelled."""
        # The guard decides which of the two threads exits the block: the one that enters it
        # after the task was cancelled, or the one that finds it entered already.
        with self._guard:
            self._is_abandoned = True
            is_entered = self._is_entered
        if is_entered:
            threading.Thread(target=self._exit, daemon=True).start()

    def _exit(self) -> None:
        self._hold.__exit__(None, None, None)

    def _run(self) -> None:
        try:
            self._hold.__enter__()
        except BaseException as error:  # noqa: BLE001 - raised in the coroutine
            self._notify(to_future_exception(error))
            return
        with self._guard:
            self._is_entered = not self._is_abandoned
        if not self._is_entered or not self._notify(None):
            self._exit()

    def _notify(self, error: Exception | None) -> bool:
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
    """Enter a context manager in a thread of its own, and await that."""
    entry = _Entry(hold)
    try:
        await entry.future
    except asyncio.CancelledError:
        entry.abandon()
        raise
