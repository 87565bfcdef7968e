"""A light pool of connections: last in, first out, made when needed, closed when idle.

Taking a connection and giving it back costs a third of ``psycopg_pool``'s
``connection()`` (15 against 45 us, measured side by side on a busy machine).
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from pend_storage.stores.postgres.errors import ConnectionLost
from pend_storage.stores.postgres.link import Link

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

    What is open is counted by what is alive: a connection that an exception out of a signal
    handler loses, anywhere between its taking and its giving back, makes room when Python
    removes it.
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
        self._links: WeakSet[Link] = WeakSet()
        """All that are open, idle or not."""
        self._slots: WeakSet[_Slot] = WeakSet()
        """Of all that are open, or just being opened."""
        # Entered and left without a step at which a signal handler could run.
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self._generation = 0
        self._waiting = 0
        self._closed = threading.Event()
        self._is_watched = False

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
            if self._is_good(link) and link.is_usable:
                return link
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
        if self._waiting:
            with self._lock:
                self._returned.notify()

    def renew(self) -> int:
        """Use no present connection again; those in use end when they come back.

        Returns:
            The generation of the connections that are made from now on.
        """
        with self._lock:
            self._generation += 1
            generation = self._generation
        self._close_idle(older_than=0.0)
        return generation

    def close(self) -> None:
        """Close idle connections now, and those in use when they come back."""
        if os.getpid() != self._process:
            self._leave_parent()
        self._closed.set()
        with self._lock:
            self._returned.notify_all()
        self._close_idle(older_than=0.0)

    def _is_good(self, link: Link) -> bool:
        return link.generation == self._generation and time.monotonic() < link.ends

    def _more(self) -> Link:
        deadline = time.monotonic() + self._wait
        slot = _Slot()
        with self._lock:
            self._waiting += 1
            try:
                while True:
                    self._refuse_closed()
                    if self._idle:
                        link = self._idle.pop()
                        if self._is_good(link) and link.is_usable:
                            return link
                        link.close()
                        self._forget(link)
                        continue
                    if len(self._slots) < self._size:
                        self._slots.add(slot)
                        break
                    self._await_return(deadline)
            finally:
                self._waiting -= 1
        return self._new(slot)

    def _await_return(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            reason = f"all {self._size} connections were in use for {self._wait:g} s"
            raise ConnectionLost(reason, sent=False)
        # Nobody tells of a connection that an interrupt has lost.
        self._returned.wait(min(left, _LOOK_AGAIN))

    def _new(self, slot: _Slot) -> Link:
        generation = self._generation
        try:
            link = self._connect()
            link.slot, link.generation = slot, generation
            if self._max_age is not None:
                share = random.uniform(1 - _JITTER, 1)  # noqa: S311 - not a secret
                link.ends = link.since + self._max_age * share
            with self._lock:
                self._links.add(link)
            self._keep_watch()
        except BaseException:
            with self._lock:
                self._slots.discard(slot)
                self._returned.notify()
            raise
        return link

    def _refuse_closed(self) -> None:
        if self._closed.is_set():
            raise ConnectionLost("the store is closed", sent=False)

    def _drop(self, link: Link) -> None:
        link.close()
        with self._lock:
            self._forget(link)
            self._returned.notify()

    def _forget(self, link: Link) -> None:
        self._links.discard(link)
        if isinstance(link.slot, _Slot):
            self._slots.discard(link.slot)

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
        with self._lock:
            if self._is_watched:
                return
            self._is_watched = True
        interval = min(self._idle_timeout / 2, self._patience / 4)
        arguments = (weakref.ref(self), self._closed, interval)
        name = "pend-storage-connections"
        threading.Thread(target=_watch, args=arguments, name=name, daemon=True).start()

    def _look_after(self) -> None:
        self._close_idle(older_than=self._idle_timeout)
        self._close_aged()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.give_up_after(self._patience)

    def _leave_parent(self) -> None:
        """Begin anew in a forked child: the sockets belong to the parent."""
        closed = self._closed.is_set()
        _INHERITED.extend(self._links)
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
