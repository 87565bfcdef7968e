"""A light pool of connections: last in, first out, made when needed, closed when idle.

Taking a connection and giving it back costs a third of ``psycopg_pool``'s
``connection()`` (15 against 45 us, measured side by side on a busy machine).
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

from pend_storage import jitter
from pend_storage.stores.postgres._connection.connection import Link
from pend_storage.stores.postgres._connection.server_errors import ConnectionLost

__all__ = ["Pool"]

_INHERITED: Final[list[Link]] = []
"""Connections of a parent process: kept, because closing them would end its sessions."""

_LOOK_AGAIN: Final = 0.25
"""Seconds between two looks of those who wait for a connection."""
_JITTER: Final = 0.1
"""Share of its greatest age by which a connection may end earlier."""


class _Slot:
    """The right to one connection. It ends with whoever has it, however that ended."""

    __slots__ = ("__weakref__",)


class Pool:
    """Connections to one database. Safe to share between threads, and across a fork.

    An exception out of a signal handler may come between any two steps. So nothing here is
    held and let go of: there is no lock, each step on shared memory is one operation of
    CPython's containers, and what is open is counted by what is alive. A connection that is
    lost between its taking and its giving back makes room when Python removes it.
    """

    def __init__(
        self,
        connect: Callable[[], Link],
        *,
        size: int,
        wait: float,
        idle_timeout: float,
        patience: float,
        max_age: float | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            connect: makes a connection.
            size: how many there may be at a time.
            wait: seconds to wait for one where all are in use.
            idle_timeout: seconds after which an unused one is closed.
            patience: seconds after which one whose server is silent is given up.
            max_age: seconds after which one is not used again, less up to a tenth, so
                that not all end together; None: never.
        """
        self._connect = connect
        self._size = size
        self._wait = wait
        self._idle_timeout = idle_timeout
        self._patience = patience
        self._max_age = max_age
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._idle: deque[Link] = deque()
        self._links: dict[int, weakref.ref[Link]] = {}
        """All that are open, idle or not."""
        self._slots: dict[int, weakref.ref[_Slot]] = {}
        """Of all that are open, or just being opened, in the order of their asking."""
        self._bell = threading.Lock()
        """Let go of for one who waits: a lock, because that is one step."""
        self._bell.acquire()
        self._generation = 0
        self._generations = count(1)
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it gives no more connections."""
        return self._closed.is_set()

    def take(self) -> Link:
        """A healthy connection; give it back with :meth:`give_back`.

        Raises:
            ConnectionLost: none can be had in time, or the pool is closed.
        """
        if os.getpid() != self._process:
            self._leave_parent()
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self._more()
            try:
                if self._is_good(link) and link.is_usable:
                    return link
            except BaseException:
                self._drop(link)
                raise
            self._drop(link)

    def give_back(self, link: Link) -> None:
        """Take a connection back, or close it if it is no longer good."""
        if link.process != self._process:
            return
        if self._closed.is_set() or not link.is_quiet or not self._is_good(link):
            self._drop(link)
            return
        link.idle_since = time.monotonic()
        self._idle.append(link)
        if self._closed.is_set():
            self._close_idle(older_than=0.0)
        self._ring()

    def renew(self) -> int:
        """Use no present connection again; those in use end when they come back.

        Returns:
            The generation of the connections that are made from now on.
        """
        self._generation = generation = next(self._generations)
        self._close_idle(older_than=0.0)
        return generation

    def close(self) -> None:
        """Close idle connections now, and those in use when they come back."""
        if os.getpid() != self._process:
            self._leave_parent()
        self._closed.set()
        self._close_idle(older_than=0.0)
        self._ring()

    def _is_good(self, link: Link) -> bool:
        return link.generation == self._generation and time.monotonic() < link.ends

    def _more(self) -> Link:
        deadline = time.monotonic() + self._wait
        while True:
            if self._closed.is_set():
                self._ring()  # the next one who waits
                raise ConnectionLost("the store is closed", sent=False)
            with contextlib.suppress(IndexError):
                link = self._idle.pop()
                if self._is_good(link) and link.is_usable:
                    if self._idle:
                        self._ring()  # one ring may stand for several that came back
                    return link
                self._drop(link)
            slot = self._room()
            if slot is not None:
                return self._new(slot)
            self._await_return(deadline)

    def _room(self) -> _Slot | None:
        """The right to open one more; None where those before have all the room."""
        slots, slot = self._slots, _Slot()
        place = id(slot)
        slots[place] = weakref.ref(slot, lambda _: slots.pop(place, None))
        return slot if list(slots).index(place) < self._size else None

    def _await_return(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left > 0:
            # Nobody rings for a connection that an interrupt has lost.
            self._bell.acquire(timeout=min(left, _LOOK_AGAIN))
            return
        gc.collect()  # one may be left in the traceback of an interrupt
        if len(self._slots) >= self._size:
            raise ConnectionLost(
                f"all {self._size} connections were in use for {self._wait:g} s",
                sent=False,
            )

    def _ring(self) -> None:
        if self._bell.locked():
            with contextlib.suppress(RuntimeError):  # another thread was quicker
                self._bell.release()

    def _new(self, slot: _Slot) -> Link:
        generation = self._generation
        try:
            link = self._connect()
            link.slot, link.generation = slot, generation
            if self._max_age is not None:
                share = jitter.between(1 - _JITTER, 1)
                link.ends = link.since + self._max_age * share
            self._links[id(link)] = weakref.ref(link)
            self._keep_watch()
        except BaseException:
            self._free(slot)
            raise
        return link

    def _drop(self, link: Link) -> None:
        link.close()
        self._links.pop(id(link), None)
        self._free(link.slot)

    def _free(self, slot: object) -> None:
        """Make room; where an interrupt comes before this, the end of the slot does."""
        self._slots.pop(id(slot), None)
        self._ring()

    def _close_idle(self, older_than: float) -> None:
        limit = time.monotonic() - older_than
        while True:
            try:
                link = self._idle.popleft()
            except IndexError:
                return
            if older_than and link.idle_since > limit:
                self._idle.appendleft(link)
                return
            self._drop(link)

    def _close_aged(self) -> None:
        for link in list(self._idle):
            if self._is_good(link):
                continue
            with contextlib.suppress(ValueError):  # somebody has just taken it
                self._idle.remove(link)
                self._drop(link)

    def _keep_watch(self) -> None:
        """See to it that idle connections are closed, even if nobody calls any more.

        And that no thread waits for a silent server for ever.
        """
        if self._watcher is not None:
            return
        interval = min(self._idle_timeout / 2, self._patience / 4)
        arguments = (weakref.ref(self), self._closed, interval)
        name = "pend-storage-connections"
        thread = threading.Thread(target=_watch, args=arguments, name=name, daemon=True)
        thread.start()
        self._watcher = thread  # two of them do no harm, none would

    def _look_after(self) -> None:
        self._close_idle(older_than=self._idle_timeout)
        self._close_aged()
        for place, known in list(self._links.items()):
            link = known()
            if link is None:
                self._links.pop(place, None)
            else:
                link.give_up_after(self._patience)

    def _leave_parent(self) -> None:
        """Begin anew in a forked child: the sockets belong to the parent."""
        closed = self._closed.is_set()
        _INHERITED.extend(
            link for known in self._links.values() if (link := known()) is not None
        )
        self._begin()
        if closed:
            self._closed.set()


def _watch(pool: weakref.ref[Pool], closed: threading.Event, interval: float) -> None:
    while True:
        is_closed = closed.wait(interval)
        alive = pool()
        if alive is None or (is_closed and not alive._links):  # noqa: SLF001 - same module
            return
        alive._look_after()  # noqa: SLF001
        del alive
        if is_closed:
            time.sleep(interval)  # some are still in use
