"""Named locks: exclusive locks of a database, for all machines that use it.

A holder has a connection of its own, outside of the pool, and on it a transaction that
holds an advisory lock and nothing else: no snapshot, and no transaction id, so it keeps
no row from being vacuumed. That works behind a pooler too, which assigns one of its own
connections to the holder meanwhile; waiters there poll, so that they occupy none. The
server releases the lock when the connection ends.
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

from pend_storage import _jitter as jitter
from pend_storage._fork import on_fork
from pend_storage._whole_files.exclusive_use import EXCLUSIVE_USER, IsHeld
from pend_storage.errors import LockTimeout, StoreUnavailable
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)
from pend_storage.stores.postgres._connection.wire_format import flag
from pend_storage.stores.postgres._queries.statements import LOCK_NAME

__all__ = ["NamedLocks"]

_NOT_AVAILABLE: Final = "55P03"
_MAX_WAIT: Final = 5.0
"""Seconds of one wait on the server; less than after which a connection is aborted."""
_PAUSE: Final = (0.01, 0.05)
_MAX_IDLE: Final = 10.0
"""Seconds after which an unused connection is not reused."""


class NamedLocks:
    """Named locks of one store."""

    def __init__(
        self, name: str, connect: Callable[[], LibpqConnection], *, pooled: bool
    ) -> None:
        """Configure the locks; connects to nothing before it is needed.

        Args:
            name: of the store.
            connect: opens a connection.
            pooled: whether a pooler is in between.
        """
        self._name: Final = name
        self._connect: Final = connect
        self._pooled: Final = pooled
        self._mutex = threading.Lock()
        self._idle: LibpqConnection | None = None
        self._held: set[LibpqConnection] = set()
        self._is_closed = False
        on_fork(self.after_fork)

    def after_fork(self) -> None:
        """Drop the parent's connections in a forked child, without closing them.

        Else the server would not notice when the parent dies.
        """
        connections = {*self._held, *filter(None, (self._idle,))}
        self._mutex = threading.Lock()
        self._held, self._idle = set(), None
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for connection in connections:
            with contextlib.suppress(OSError, psycopg.Error):
                os.dup2(
                    nowhere,
                    connection.driver_connection.pgconn.socket,
                    inheritable=False,
                )
        os.close(nowhere)

    def close(self) -> None:
        """Close the idle connection."""
        with self._mutex:
            connection, self._idle = self._idle, None
            self._is_closed = True
        if connection is not None:
            connection.close()

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[IsHeld]:
        """Hold the lock of a name; see :meth:`pend_storage.store.Store.lock`.

        Args:
            name: of the lock.
            timeout: seconds.

        Raises:
            LockTimeout: another holder has it.
            StoreUnavailable: the server cannot be reached.
        """
        process = os.getpid()
        keys = _lock_keys(name)
        deadline = time.monotonic() + timeout
        connection = self._acquire_connection()
        try:
            self._held.add(connection)
            try:
                while not self._try_lock(connection, keys, deadline):
                    if time.monotonic() >= deadline:
                        raise LockTimeout(
                            path=name, seconds=timeout, holder=EXCLUSIVE_USER
                        )
                    time.sleep(jitter.between(*_PAUSE))
            except ServerRefusal as refusal:
                raise refusal.public(self._name) from refusal
            except ConnectionLost as error:
                raise StoreUnavailable(str(error), store=self._name) from error
            yield lambda: _is_alive(connection)
        finally:
            if os.getpid() == process:
                self._unlock(connection)

    def _acquire_connection(self) -> LibpqConnection:
        with self._mutex:
            connection, self._idle = self._idle, None
        if connection is not None:
            rested = time.monotonic() - connection.idle_since
            if rested < _MAX_IDLE and connection.is_usable:
                return connection
            connection.close()
        try:
            return self._connect()
        except ConnectionLost as lost:
            raise StoreUnavailable(lost.reason, store=self._name) from lost

    def _try_lock(
        self, connection: LibpqConnection, keys: tuple[bytes, bytes], deadline: float
    ) -> bool:
        """Begin a transaction that holds the lock; False if the wait timed out."""
        left = min(max(deadline - time.monotonic(), 0.0), _MAX_WAIT)
        connection.execute_text("begin")
        try:
            # A holder may be idle for any time.
            connection.execute_text("set local idle_in_transaction_session_timeout = 0")
            connection.execute_text("set local statement_timeout = 0")
            is_waiting = left > 0.0 and not self._pooled
            if is_waiting:
                connection.execute_text(
                    f"set local lock_timeout = {math.ceil(left * 1000)}"
                )
            # A number of its own each time: a stranger cannot have taken it before.
            mine = b"%d" % int.from_bytes(os.urandom(4), signed=True)
            values = (*keys, mine, flag(is_waiting))
            result = connection.execute(LOCK_NAME, values)
            taken = result.get_value(0, 0) == b"t"
        except ServerRefusal as refusal:
            if refusal.code != _NOT_AVAILABLE:
                raise
            taken = False
        if not taken:
            connection.execute_text("rollback")
        return taken

    def _unlock(self, connection: LibpqConnection) -> None:
        """Release the lock, and keep the connection for the next one."""
        is_idle = False
        try:
            connection.execute_text("rollback")
            is_idle = True
        except (ConnectionLost, ServerRefusal):
            pass  # the server frees it when the connection ends
        finally:
            with self._mutex:
                self._held.discard(connection)
                if is_idle and self._idle is None and not self._is_closed:
                    connection.idle_since = time.monotonic()
                    self._idle = connection
                else:
                    is_idle = False
            if not is_idle:
                connection.close()


def _lock_keys(name: str) -> tuple[bytes, bytes]:
    """Numbers of a name's queue and of its holders, as parameter text."""
    digest = hashlib.sha256(f"pend_storage lock\n{name}".encode()).digest()
    queue, holders = struct.unpack_from("!qi", digest)
    return b"%d" % queue, b"%d" % holders


def _is_alive(connection: LibpqConnection) -> bool:
    """Return whether the connection is open, as far as is known without a round trip."""
    pg = connection.driver_connection.pgconn
    try:
        pg.consume_input()  # a last message, perhaps
        pg.consume_input()  # the end after them
    except psycopg.OperationalError:
        return False
    return pg.transaction_status == TransactionStatus.INTRANS
