"""Connection pool: last in, first out, opened on demand, closed when idle.

An own pool for two reasons. It holds no lock, so that an exception of a signal handler
and a fork leave it intact; and acquiring and releasing costs a third of
``psycopg_pool``'s ``connection()`` (15 against 45 us, measured side by side on a busy
machine).
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

from pend_storage import _jitter as jitter
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.server_errors import ConnectionLost

__all__ = ["Pool"]

_INHERITED: Final[list[LibpqConnection]] = []
"""A parent process's connections: kept, because closing would end its sessions."""

_POLL_INTERVAL: Final = 0.25
"""Seconds between two checks of a thread that waits for a connection."""
_JITTER: Final = 0.1
"""Share of ``max_age`` by which a connection may expire earlier."""


class _Slot:
    """Permission to hold one connection; ends when its holder is garbage."""

    __slots__ = ("__weakref__",)


class Pool:
    """Pool of connections to one database. Thread-safe, and safe across a fork.

    An exception out of a signal handler may come between any two steps. So nothing here
    is held and released: there is no lock, each step on shared memory is one operation
    of CPython's containers, and open connections are counted by what is alive. A
    connection that is lost between acquire and release frees its slot when Python
    collects it.
    """

    def __init__(
        self,
        connect: Callable[[], LibpqConnection],
        *,
        size: int,
        wait: float,
        idle_timeout: float,
        response_timeout: float,
        max_age: float | None = None,
    ) -> None:
        """Configure the pool; opens nothing yet.

        Args:
            connect: opens a connection.
            size: maximum number of connections.
            wait: seconds to wait for one where all are in use.
            idle_timeout: seconds after which an unused one is closed.
            response_timeout: seconds after which one whose server is silent is aborted.
            max_age: seconds after which one is not reused, less up to a tenth, so that
                not all expire together; None: never.
        """
        self._connect = connect
        self._size = size
        self._wait = wait
        self._idle_timeout = idle_timeout
        self._response_timeout = response_timeout
        self._max_age = max_age
        self._reset()

    def _reset(self) -> None:
        self._owner_pid = os.getpid()
        self._idle: deque[LibpqConnection] = deque()
        self._open: dict[int, weakref.ref[LibpqConnection]] = {}
        """Weak references to all open connections, idle or not."""
        self._slots: dict[int, weakref.ref[_Slot]] = {}
        """Slots of connections that are open or being opened, in order of request."""
        self._returned = threading.Lock()
        """Released to wake one waiter: a lock, because that is a single step."""
        self._returned.acquire()
        self._generation = 0
        self._generations = count(1)
        self._closed = threading.Event()
        self._reaper: threading.Thread | None = None

    @property
    def is_closed(self) -> bool:
        """True if the pool is closed."""
        return self._closed.is_set()

    def acquire(self) -> LibpqConnection:
        """Acquire a healthy connection; return it with :meth:`release`.

        Raises:
            ConnectionLost: none is available in time, or the pool is closed.
        """
        if os.getpid() != self._owner_pid:
            self._reset_after_fork()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._acquire_or_open()
            try:
                if self._is_current(connection) and connection.is_usable:
                    return connection
            except BaseException:
                self._discard(connection)
                raise
            self._discard(connection)

    def release(self, connection: LibpqConnection) -> None:
        """Return a connection to the pool, or close it if it is no longer usable."""
        if connection.owner_pid != self._owner_pid:
            return
        if (
            self._closed.is_set()
            or not connection.is_ready
            or not self._is_current(connection)
        ):
            self._discard(connection)
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._closed.is_set():
            self._close_idle(older_than=0.0)
        self._notify()

    def invalidate(self) -> int:
        """Reuse no present connection; those in use are closed on release.

        Returns:
            The generation of the connections opened from now on.
        """
        self._generation = generation = next(self._generations)
        self._close_idle(older_than=0.0)
        return generation

    def close(self) -> None:
        """Close idle connections now, and those in use on release."""
        if os.getpid() != self._owner_pid:
            self._reset_after_fork()
        self._closed.set()
        self._close_idle(older_than=0.0)
        self._notify()

    def _is_current(self, connection: LibpqConnection) -> bool:
        return (
            connection.generation == self._generation
            and time.monotonic() < connection.expires_at
        )

    def _acquire_or_open(self) -> LibpqConnection:
        deadline = time.monotonic() + self._wait
        while True:
            if self._closed.is_set():
                self._notify()  # wake the next waiter
                raise ConnectionLost("the store is closed", sent=False)
            with contextlib.suppress(IndexError):
                connection = self._idle.pop()
                if self._is_current(connection) and connection.is_usable:
                    if self._idle:
                        self._notify()  # one notification may stand for several releases
                    return connection
                self._discard(connection)
            slot = self._reserve_slot()
            if slot is not None:
                return self._open_connection(slot)
            self._wait_for_return(deadline)

    def _reserve_slot(self) -> _Slot | None:
        """Reserve a slot for one more connection; None where all are taken."""
        slots, slot = self._slots, _Slot()
        place = id(slot)
        slots[place] = weakref.ref(slot, lambda _: slots.pop(place, None))
        return slot if list(slots).index(place) < self._size else None

    def _wait_for_return(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left > 0:
            # A connection that an interrupt has lost notifies no waiter.
            self._returned.acquire(timeout=min(left, _POLL_INTERVAL))
            return
        gc.collect()  # a connection may be left in the traceback of an interrupt
        if len(self._slots) >= self._size:
            raise ConnectionLost(
                f"all {self._size} connections were in use for {self._wait:g} s",
                sent=False,
            )

    def _notify(self) -> None:
        if self._returned.locked():
            with contextlib.suppress(RuntimeError):  # another thread was first
                self._returned.release()

    def _open_connection(self, slot: _Slot) -> LibpqConnection:
        generation = self._generation
        try:
            connection = self._connect()
            connection.slot, connection.generation = slot, generation
            if self._max_age is not None:
                share = jitter.between(1 - _JITTER, 1)
                connection.expires_at = connection.opened_at + self._max_age * share
            self._open[id(connection)] = weakref.ref(connection)
            self._start_reaper()
        except BaseException:
            self._free_slot(slot)
            raise
        return connection

    def _discard(self, connection: LibpqConnection) -> None:
        connection.close()
        self._open.pop(id(connection), None)
        self._free_slot(connection.slot)

    def _free_slot(self, slot: object) -> None:
        """Free a slot; where an interrupt comes first, its garbage collection does."""
        self._slots.pop(id(slot), None)
        self._notify()

    def _close_idle(self, older_than: float) -> None:
        limit = time.monotonic() - older_than
        while True:
            try:
                connection = self._idle.popleft()
            except IndexError:
                return
            if older_than and connection.idle_since > limit:
                self._idle.appendleft(connection)
                return
            self._discard(connection)

    def _close_expired(self) -> None:
        for connection in list(self._idle):
            if self._is_current(connection):
                continue
            with contextlib.suppress(ValueError):  # another thread has just acquired it
                self._idle.remove(connection)
                self._discard(connection)

    def _start_reaper(self) -> None:
        """Start the thread that closes idle connections when no call does.

        It also aborts waits for a silent server.
        """
        if self._reaper is not None:
            return
        interval = min(self._idle_timeout / 2, self._response_timeout / 4)
        arguments = (weakref.ref(self), self._closed, interval)
        name = "pend-storage-connections"
        thread = threading.Thread(
            target=_run_reaper, args=arguments, name=name, daemon=True
        )
        thread.start()
        self._reaper = thread  # two of them do no harm, none at all would

    def _reap(self) -> None:
        self._close_idle(older_than=self._idle_timeout)
        self._close_expired()
        for place, known in list(self._open.items()):
            connection = known()
            if connection is None:
                self._open.pop(place, None)
            else:
                connection.abort_if_stalled(self._response_timeout)

    def _reset_after_fork(self) -> None:
        """Start empty in a forked child: the sockets belong to the parent."""
        closed = self._closed.is_set()
        _INHERITED.extend(
            connection
            for known in self._open.values()
            if (connection := known()) is not None
        )
        self._reset()
        if closed:
            self._closed.set()


def _run_reaper(
    pool: weakref.ref[Pool], closed: threading.Event, interval: float
) -> None:
    while True:
        is_closed = closed.wait(interval)
        alive = pool()
        if alive is None or (is_closed and not alive._open):  # noqa: SLF001 - same module
            return
        alive._reap()  # noqa: SLF001
        del alive
        if is_closed:
            time.sleep(interval)  # some are still in use
