"""Exclusive use of files: a re-entrant lock per file, held by a thread or a task.

Within the process a :class:`threading.Lock` per file queues the callers; across processes
the store's own lock does. Only the caller at the head of the queue waits for the store's
lock, so that waiting callers hold no connection. A caller that has a file may lock it
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from pend_storage._fork import on_fork
from pend_storage.errors import LockTimeout, StoreUnavailable

__all__ = [
    "EXCLUSIVE_USER",
    "LEASE_SECONDS",
    "ExclusiveUse",
    "ExclusiveUses",
    "IsHeld",
    "Lockable",
    "caller",
]

IsHeld: TypeAlias = Callable[[], bool]
"""Returns, without a round trip, whether the lock is still held as far as is known."""

EXCLUSIVE_USER: Final = "another caller of exclusive()"
LEASE_SECONDS: Final = 60.0
"""Seconds after which a lease (``load(..., exclusive=True)``) expires without a save."""
_CHECK_PERIOD: Final = 0.2
"""Seconds between two checks for expired leases."""


class Lockable(Protocol):
    """A store with named locks."""

    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        """See :meth:`pend_storage.store.Store.lock`."""


def caller() -> Any:
    """Return the identity of the caller: the running task, else the thread."""
    with contextlib.suppress(RuntimeError):
        task = asyncio.current_task()
        if task is not None:
            return task
    return threading.current_thread()


@dataclass(slots=True)
class ExclusiveUse:
    """Exclusive use of a file by one caller."""

    owner: Any
    is_held: IsHeld
    depth: int = 1


@dataclass(slots=True)
class _Lease:
    """Exclusive use with a deadline: from a ``load`` until the ``save`` of its caller."""

    owner: Any
    hold: AbstractContextManager[None] | None
    """None: the lease has expired."""
    ends: float

    @property
    def is_orphaned(self) -> bool:
        """True once the thread or task that took the lease has ended."""
        if isinstance(self.owner, threading.Thread):
            return not self.owner.is_alive()
        return bool(self.owner.done())

    def expire(self) -> AbstractContextManager[None] | None:
        """Expire the lease where its owner has ended, or its time is over.

        Returns:
            The block that is to be left; None while the lease is valid.
        """
        if not self.is_orphaned and time.monotonic() <= self.ends:
            return None
        hold, self.hold = self.hold, None
        return hold


class ExclusiveUses:
    """Registry of exclusive uses of one store's files in this process."""

    def __init__(self, store: Lockable) -> None:
        self._store = weakref.ref(store)
        self._reset()
        on_fork(self.after_fork)

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._gates: dict[str, threading.Lock] = {}
        self._writers: dict[str, threading.RLock] = {}
        self._held: dict[str, ExclusiveUse] = {}
        self._leases: dict[tuple[int, str], _Lease] = {}
        self._watching = False

    def after_fork(self) -> None:
        """Start without locks in a forked child: the parent's are not held here."""
        self._reset()

    # -- a block ------------------------------------------------------------------------

    def exclusive(
        self, file: str, timeout: float, owner: Any = None
    ) -> AbstractContextManager[None]:
        """Hold a file exclusively in a block; re-entrant for its owner.

        Args:
            file: the file.
            timeout: seconds to wait for other callers.
            owner: the thread or task that holds it; None: the caller.

        Raises:
            LockTimeout: other callers held it until the timeout.
        """
        store = self._store()
        assert store is not None  # noqa: S101 - its caller refers to it
        return self._exclusive(store, file, timeout, owner)

    @contextmanager
    def _exclusive(
        self, store: Lockable, file: str, timeout: float, owner: Any
    ) -> Iterator[None]:
        owner = caller() if owner is None else owner
        mine = self.held_by(owner, file)
        if mine is not None:
            mine.depth += 1
            try:
                yield
            finally:
                mine.depth -= 1
            return
        process = os.getpid()
        # The turn first: waiting callers of this process hold no connection of the store.
        with (
            self._wait_for_turn(file, timeout) as left,
            _locked(store, file, timeout, left) as is_held,
        ):
            self._held[file] = ExclusiveUse(owner, is_held)
            try:
                yield
            finally:
                # A child that was forked inside the block never held the lock.
                if os.getpid() == process:
                    self._held.pop(file, None)

    @contextmanager
    def writing(self, file: str, timeout: float) -> Iterator[None]:
        """Serialize the writers of this process, from reading a file to the commit.

        Raises:
            LockTimeout: other writers held it until the timeout.
        """
        with self._guard:
            gate = self._writers.setdefault(file, threading.RLock())
        if not gate.acquire(timeout=timeout):
            raise LockTimeout(path=file, seconds=timeout, holder="another writer")
        try:
            yield
        finally:
            gate.release()

    def held_by(self, owner: Any, file: str) -> ExclusiveUse | None:
        """Return the owner's exclusive use of a file; None without one."""
        held = self._held.get(file)
        return held if held is not None and held.owner is owner else None

    @contextmanager
    def _wait_for_turn(self, file: str, timeout: float) -> Iterator[float]:
        """Queue behind other callers of this process.

        Yields:
            The seconds of the timeout that are left.
        """
        with self._guard:
            gate = self._gates.setdefault(file, threading.Lock())
        deadline = time.monotonic() + timeout
        if not gate.acquire(timeout=max(timeout, 0)):
            raise LockTimeout(path=file, seconds=timeout, holder=EXCLUSIVE_USER)
        try:
            yield max(deadline - time.monotonic(), 0.0)
        finally:
            gate.release()

    # -- from a load to a save ----------------------------------------------------------

    def acquire_lease(self, file: str, timeout: float) -> None:
        """Take a lease: exclusive use of a file until the same caller releases it.

        Raises:
            LockTimeout: other callers held it until the timeout.
        """
        owner = caller()
        key = (id(owner), file)
        ends = time.monotonic() + LEASE_SECONDS
        with self._guard:
            known = self._leases.get(key)
            if known is not None and known.owner is owner and known.hold is not None:
                known.ends = ends
                return
        hold = self.exclusive(file, timeout, owner)
        hold.__enter__()
        # The wait for the lock above does not count towards the lease.
        ends = time.monotonic() + LEASE_SECONDS
        with self._guard:
            self._leases[key] = _Lease(owner, hold, ends)
            must_watch, self._watching = not self._watching, True
        if must_watch:
            threading.Thread(
                target=self._expire_leases, name="pend-loans", daemon=True
            ).start()

    def release_lease(self, file: str) -> None:
        """Release the caller's lease of a file, if there is one."""
        # An expired lease is popped as well: the next load begins a new one.
        with self._guard:
            lease = self._leases.pop((id(caller()), file), None)
        if lease is not None and lease.hold is not None:
            lease.hold.__exit__(None, None, None)

    def require(self, file: str, owner: Any) -> None:
        """Check that the owner's lease and lock of a file still hold, before a write.

        Raises:
            LockTimeout: the lease of the file has expired.
            StoreUnavailable: the connection that held the lock was lost.
        """
        with self._guard:
            lease = self._leases.get((id(owner), file))
            is_lost = lease is not None and lease.owner is owner and lease.hold is None
        if is_lost:
            raise LockTimeout(
                path=f"{file}, which was loaded for exclusive use and not saved in time,",
                seconds=LEASE_SECONDS,
                holder="this caller",
            )
        held = self.held_by(owner, file)
        if held is not None and not held.is_held():
            raise StoreUnavailable(
                f"the exclusive use of {file} has ended, because the connection that held "
                "it is gone",
                store="the lock",
            )

    def _expire_leases(self) -> None:
        """Expire leases in the background, until none is left."""
        while True:
            time.sleep(_CHECK_PERIOD)
            with self._guard:
                expired = [lease.expire() for lease in self._leases.values()]
                for key, lease in list(self._leases.items()):
                    if lease.is_orphaned:
                        del self._leases[key]
                is_last = not any(lease.hold for lease in self._leases.values())
                self._watching = not is_last
            # Outside of the guard: releasing the store's lock may take a round trip.
            for hold in expired:
                if hold is not None:
                    hold.__exit__(None, None, None)
            if is_last:
                return


@contextmanager
def _locked(
    store: Lockable, file: str, timeout: float, left: float
) -> Iterator[IsHeld]:
    """Hold the store's lock of a file; a timeout names the whole wait, not the rest."""
    with contextlib.ExitStack() as stack:
        try:
            is_held = stack.enter_context(store.lock(f"file:{file}", left))
        except LockTimeout:
            raise LockTimeout(
                path=file, seconds=timeout, holder=EXCLUSIVE_USER
            ) from None
        yield is_held
