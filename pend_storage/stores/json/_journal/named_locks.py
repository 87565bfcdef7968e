"""Named locks: advisory locks of a directory, between all threads and processes.

Each is a lock file in the store's directory, opened anew by each holder, so that it
excludes threads of the same process as well. The kernel releases it when its holder dies.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pend_storage._fork import on_fork
from pend_storage._whole_files.exclusive_use import EXCLUSIVE_USER, IsHeld
from pend_storage.errors import LockTimeout
from pend_storage.stores.json._journal.directory_handle import DirectoryHandle
from pend_storage.stores.json._journal.process_locks import FlockLock, ProcessLock

__all__ = ["named_lock"]

_held: Final[weakref.WeakSet[ProcessLock]] = weakref.WeakSet()
"""Locks that this process holds, for its forked children to close."""


@contextmanager
def named_lock(own: DirectoryHandle, name: str, timeout: float) -> Iterator[IsHeld]:
    """Hold the lock of a name; see :meth:`pend_storage.store.Store.lock`.

    Args:
        own: the store's own directory.
        name: of the lock.
        timeout: seconds to wait.

    Raises:
        LockTimeout: another thread or process holds it all that time.
    """
    # A name may hold any character, and be longer than a file name may.
    digest = hashlib.sha256(name.encode()).hexdigest()[:24]
    lock = FlockLock(own.path / f"exclusive-{digest}.lock", own)
    process = os.getpid()
    try:
        _held.add(lock)
        try:
            lock.acquire(timeout)
        except LockTimeout:
            raise LockTimeout(
                path=name, seconds=timeout, holder=EXCLUSIVE_USER
            ) from None
        try:
            yield lambda: not own.is_elsewhere
        finally:
            if (
                os.getpid() == process
            ):  # a child that was forked in the block must not unlock
                lock.release()
    finally:
        _held.discard(lock)
        lock.close()


def _forget_held() -> None:
    """Close the parent's locks, in a forked child.

    ``flock`` belongs to the open file, which parent and child share: an open descriptor
    of the child would hold the lock after the parent has died.
    """
    for lock in list(_held):
        lock.close()
    _held.clear()


on_fork(_forget_held)
