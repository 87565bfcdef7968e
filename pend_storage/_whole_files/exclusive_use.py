"""Exclusive use of files: who has it, and who waits for it.

One caller at a time: a thread, or a task of an event loop. The one that has it may take it
again. The store's own lock keeps other processes out; only one caller of this process at a
time waits for that, so that those who wait hold no connection.
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
    "LONGEST_LOAN",
    "Holding",
    "Holds",
    "IsHeld",
    "Lockable",
    "caller",
]

IsHeld: TypeAlias = Callable[[], bool]
"""Tells, without asking a server, whether a lock is held as far as is known."""

EXCLUSIVE_USER: Final = "another caller of exclusive()"
LONGEST_LOAN: Final = 60.0
"""Seconds for which a file that was loaded for exclusive use waits to be saved."""
_PERIOD: Final = 0.2
"""Seconds between two looks whether a borrower is still alive."""


class Lockable(Protocol):
    """What is needed of a store."""

    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        """As that of a store."""


def caller() -> Any:
    """Who is calling: the task, where one runs in this thread; else the thread."""
    with contextlib.suppress(RuntimeError):
        task = asyncio.current_task()
        if task is not None:
            return task
    return threading.current_thread()


@dataclass(slots=True)
class Holding:
    """One caller's exclusive use of a file."""

    owner: Any
    is_held: IsHeld
    depth: int = 1


@dataclass(slots=True)
class _Loan:
    """Exclusive use from a ``load`` until the ``save`` of the same caller."""

    owner: Any
    hold: AbstractContextManager[None] | None
    """None: it was taken back."""
    ends: float

    @property
    def is_orphaned(self) -> bool:
        """Whether its borrower has ended."""
        if isinstance(self.owner, threading.Thread):
            return not self.owner.is_alive()
        return bool(self.owner.done())

    def taken_back(self) -> AbstractContextManager[None] | None:
        """What is to be left, because nobody brings it back, or not in time."""
        if not self.is_orphaned and time.monotonic() <= self.ends:
            return None
        hold, self.hold = self.hold, None
        return hold


class Holds:
    """The exclusive uses of one store's files in this process."""

    def __init__(self, store: Lockable) -> None:
        self._store = weakref.ref(store)
        self._fresh()
        on_fork(self.after_fork)

    def _fresh(self) -> None:
        self._guard = threading.Lock()
        self._gates: dict[str, threading.Lock] = {}
        self._writers: dict[str, threading.RLock] = {}
        self._held: dict[str, Holding] = {}
        self._loans: dict[tuple[int, str], _Loan] = {}
        self._watching = False

    def after_fork(self) -> None:
        """In a forked child: what the parent holds is not ours."""
        self._fresh()

    # -- a block ------------------------------------------------------------------------

    def exclusive(
        self, file: str, timeout: float, owner: Any = None
    ) -> AbstractContextManager[None]:
        """Exclusive use of a file in a block.

        Args:
            file: the file.
            timeout: seconds to wait for others.
            owner: who has it; None: whoever calls.

        Raises:
            LockTimeout: others had it all that time.
        """
        store = self._store()
        assert store is not None  # noqa: S101 - whoever calls has it
        return self._exclusive(store, file, timeout, owner)

    @contextmanager
    def _exclusive(
        self, store: Lockable, file: str, timeout: float, owner: Any
    ) -> Iterator[None]:
        owner = caller() if owner is None else owner
        mine = self.of(owner, file)
        if mine is not None:
            mine.depth += 1
            try:
                yield
            finally:
                mine.depth -= 1
            return
        process = os.getpid()
        with (
            self._turn(file, timeout) as left,
            _locked(store, file, timeout, left) as is_held,
        ):
            self._held[file] = Holding(owner, is_held)
            try:
                yield
            finally:
                if os.getpid() == process:
                    self._held.pop(file, None)

    @contextmanager
    def writing(self, file: str, timeout: float) -> Iterator[None]:
        """Keep other writers of this process out, from a look to its commit.

        Raises:
            LockTimeout: they were in all that time.
        """
        with self._guard:
            gate = self._writers.setdefault(file, threading.RLock())
        if not gate.acquire(timeout=timeout):
            raise LockTimeout(path=file, seconds=timeout, holder="another writer")
        try:
            yield
        finally:
            gate.release()

    def of(self, owner: Any, file: str) -> Holding | None:
        """The use of a file that this caller has; None if he has none."""
        held = self._held.get(file)
        return held if held is not None and held.owner is owner else None

    @contextmanager
    def _turn(self, file: str, timeout: float) -> Iterator[float]:
        """Keep other callers of this process out; gives the seconds that are left."""
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

    def borrow(self, file: str, timeout: float) -> None:
        """Exclusive use of a file, until the same caller brings it back.

        Raises:
            LockTimeout: others had it all that time.
        """
        owner = caller()
        place = (id(owner), file)
        ends = time.monotonic() + LONGEST_LOAN
        with self._guard:
            known = self._loans.get(place)
            if known is not None and known.owner is owner and known.hold is not None:
                known.ends = ends
                return
        hold = self.exclusive(file, timeout, owner)
        hold.__enter__()
        ends = time.monotonic() + LONGEST_LOAN
        with self._guard:
            self._loans[place] = _Loan(owner, hold, ends)
            must_watch, self._watching = not self._watching, True
        if must_watch:
            threading.Thread(target=self._watch, name="pend-loans", daemon=True).start()

    def bring_back(self, file: str) -> None:
        """End what :meth:`borrow` of this caller has begun, if anything."""
        with self._guard:
            loan = self._loans.pop((id(caller()), file), None)
        if loan is not None and loan.hold is not None:
            loan.hold.__exit__(None, None, None)

    def require(self, file: str, owner: Any) -> None:
        """See that a caller still has what he believes to have.

        Raises:
            LockTimeout: he borrowed a file, and it was taken back.
            StoreUnavailable: the connection that held the lock is gone.
        """
        with self._guard:
            loan = self._loans.get((id(owner), file))
            is_lost = loan is not None and loan.owner is owner and loan.hold is None
        if is_lost:
            raise LockTimeout(
                path=f"{file}, which was loaded for exclusive use and not saved in time,",
                seconds=LONGEST_LOAN,
                holder="this caller",
            )
        held = self.of(owner, file)
        if held is not None and not held.is_held():
            raise StoreUnavailable(
                f"the exclusive use of {file} has ended, because the connection that held "
                "it is gone",
                store="the lock",
            )

    def _watch(self) -> None:
        """Take back what nobody will bring back, until nothing is lent."""
        while True:
            time.sleep(_PERIOD)
            with self._guard:
                over = [loan.taken_back() for loan in self._loans.values()]
                for place, loan in list(self._loans.items()):
                    if loan.is_orphaned:
                        del self._loans[place]
                is_last = not any(loan.hold for loan in self._loans.values())
                self._watching = not is_last
            for hold in over:
                if hold is not None:
                    hold.__exit__(None, None, None)
            if is_last:
                return


@contextmanager
def _locked(
    store: Lockable, file: str, timeout: float, left: float
) -> Iterator[IsHeld]:
    """Hold the store's lock of a file."""
    with contextlib.ExitStack() as stack:
        try:
            is_held = stack.enter_context(store.lock(f"file:{file}", left))
        except LockTimeout:
            raise LockTimeout(
                path=file, seconds=timeout, holder=EXCLUSIVE_USER
            ) from None
        yield is_held
