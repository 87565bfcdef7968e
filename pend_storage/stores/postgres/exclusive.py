"""Named locks of a database, for all machines that use it.

A holder has a connection of its own, outside of the pool, and on it a transaction that
holds an advisory lock and nothing else: no snapshot, and no number of a transaction, so it
keeps no row from being cleaned up. That works behind a pooler too, which gives one of its
own connections to the holder meanwhile; those who wait there try now and then, so that
they take none. The server frees the lock when the connection ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from pend_storage import jitter
from pend_storage._fork import on_fork
from pend_storage.errors import LockTimeout, StoreUnavailable
from pend_storage.holding import EXCLUSIVE_USER, IsHeld
from pend_storage.stores.postgres.errors import ConnectionLost, ServerRefusal
from pend_storage.stores.postgres.link import Link, Statement

__all__ = ["NamedLocks"]

_WAIT: Final = Statement(b"select pg_catalog.pg_advisory_xact_lock($1)")
_TRY: Final = Statement(b"select pg_catalog.pg_try_advisory_xact_lock($1)")
_NOT_AVAILABLE: Final = "55P03"
_LONGEST_WAIT: Final = 5.0
"""Seconds of one wait on the server; less than after which a connection is given up."""
_PAUSE: Final = (0.01, 0.05)
_LONGEST_REST: Final = 10.0
"""Seconds after which a connection that nobody used is not used again."""


class NamedLocks:
    """The locks of one store."""

    def __init__(self, name: str, connect: Callable[[], Link], *, pooled: bool) -> None:
        """Make them; nothing is connected to before it is needed.

        Args:
            name: of the store.
            connect: opens a connection.
            pooled: whether there is a pooler in between.
        """
        self._name: Final = name
        self._connect: Final = connect
        self._pooled: Final = pooled
        self._guard = threading.Lock()
        self._resting: Link | None = None
        self._held: set[Link] = set()
        self._is_closed = False
        on_fork(self.after_fork)

    def after_fork(self) -> None:
        """In a forked child: let go of the parent's connections, without a word.

        Else the server would not notice when the parent dies.
        """
        links = {*self._held, *filter(None, (self._resting,))}
        self._guard = threading.Lock()
        self._held, self._resting = set(), None
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for link in links:
            with contextlib.suppress(OSError, psycopg.Error):
                os.dup2(nowhere, link.connection.pgconn.socket, inheritable=False)
        os.close(nowhere)

    def close(self) -> None:
        """Hang up what is not in use."""
        with self._guard:
            link, self._resting = self._resting, None
            self._is_closed = True
        if link is not None:
            link.close()

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[IsHeld]:
        """Hold the lock of a name; see :meth:`pend_storage.store.Store.lock`."""
        process = os.getpid()
        number = _number(name)
        deadline = time.monotonic() + timeout
        link = self._take()
        try:
            self._held.add(link)
            try:
                while not self._has_taken(link, number, deadline):
                    if time.monotonic() >= deadline:
                        raise LockTimeout(
                            path=name, seconds=timeout, holder=EXCLUSIVE_USER
                        )
                    if self._pooled:
                        time.sleep(jitter.between(*_PAUSE))
            except (ConnectionLost, ServerRefusal) as error:
                raise StoreUnavailable(str(error), store=self._name) from error
            yield lambda: _is_alive(link)
        finally:
            if os.getpid() == process:
                self._end(link)

    def _take(self) -> Link:
        with self._guard:
            link, self._resting = self._resting, None
        if link is not None:
            rested = time.monotonic() - link.idle_since
            if rested < _LONGEST_REST and link.is_usable:
                return link
            link.close()
        try:
            return self._connect()
        except ConnectionLost as lost:
            raise StoreUnavailable(lost.reason, store=self._name) from lost

    def _has_taken(self, link: Link, number: bytes, deadline: float) -> bool:
        """Begin a transaction that has the lock; False if others have it for long."""
        left = min(max(deadline - time.monotonic(), 0.0), _LONGEST_WAIT)
        link.simple("begin")
        try:
            # A holder may rest for as long as it likes.
            link.simple("set local idle_in_transaction_session_timeout = 0")
            link.simple("set local statement_timeout = 0")
            if left == 0.0 or self._pooled:
                taken = link.run(_TRY, (number,)).get_value(0, 0) == b"t"
            else:
                link.simple(f"set local lock_timeout = {math.ceil(left * 1000)}")
                link.run(_WAIT, (number,))
                taken = True
        except ServerRefusal as refusal:
            if refusal.code != _NOT_AVAILABLE:
                raise
            taken = False
        if not taken:
            link.simple("rollback")
        return taken

    def _end(self, link: Link) -> None:
        """Free the lock, and keep the connection for the next one."""
        is_idle = False
        try:
            link.simple("rollback")
            is_idle = True
        except (ConnectionLost, ServerRefusal):
            pass  # the server frees it when the connection ends
        finally:
            with self._guard:
                self._held.discard(link)
                if is_idle and self._resting is None and not self._is_closed:
                    link.idle_since = time.monotonic()
                    self._resting = link
                else:
                    is_idle = False
            if not is_idle:
                link.close()


def _number(name: str) -> bytes:
    """The number of a name's lock, in the server's text."""
    digest = hashlib.sha256(f"pend_storage lock\n{name}".encode()).digest()
    (number,) = struct.unpack_from("!q", digest)
    return b"%d" % number


def _is_alive(link: Link) -> bool:
    """Whether the connection is open, as far as has been heard."""
    pg = link.connection.pgconn
    try:
        pg.consume_input()  # last words, perhaps
        pg.consume_input()  # the end after them
    except psycopg.OperationalError:
        return False
    return pg.transaction_status == TransactionStatus.INTRANS
