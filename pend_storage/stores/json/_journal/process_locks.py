"""Process locks: advisory file locks, released by the kernel when their holder dies.

A lock is taken through a turnstile, a second lock that is held only while waiting for the
first. A process that has just released the lock must pass the turnstile again, behind those
that wait already, so that one busy process cannot starve the others.

The lock of a whole directory, which is rarely needed, is a file beside the store's own
directory. A holder deletes it at the end, so a waiter verifies that what it has locked is
still the file of that name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from typing_extensions import override

from pend_storage._files.directory import Directory
from pend_storage._files.failures import translate, translated
from pend_storage._fork import on_fork
from pend_storage.errors import LockTimeout, PendStorageError
from pend_storage.stores.json._journal.directory_handle import (
    DirectoryHandle,
    identity_of,
)

__all__ = [
    "FileLock",
    "FlockLock",
    "ProcessLock",
    "directory_lock",
]


_POLL: Final = 0.01
"""Seconds between two attempts to acquire the lock of a directory."""


class ProcessLock(ABC):
    """Mutual exclusion between processes. Threads of one process must exclude each other."""

    @abstractmethod
    def acquire(self, timeout: float) -> None:
        """Acquire the lock.

        Args:
            timeout: seconds to wait; 0: fail at once.

        Raises:
            LockTimeout: another process holds it all that time.
        """

    @abstractmethod
    def release(self) -> None:
        """Release the lock."""

    @abstractmethod
    def close(self) -> None:
        """Close the descriptors, without releasing a lock that a forked parent holds."""

    @contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Hold the lock within the block."""
        self.acquire(timeout)
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def tried(self) -> Iterator[bool]:
        """Hold the lock within the block if it is free at once; yields True if it was."""
        try:
            self.acquire(0)
        except LockTimeout:
            yield False
            return
        try:
            yield True
        finally:
            self.release()


class FlockLock(ProcessLock):
    """Lock by ``flock`` on a descriptor that stays open: two microseconds if uncontended."""

    def __init__(self, path: Path, own: DirectoryHandle | None = None) -> None:
        self.path = path
        self._own = own or DirectoryHandle(path.parent)
        self._names = (path.name, f"{path.name}.turn")
        self._checked = 0
        self._fd = self._turn_fd = -1
        self._reopen()

    def _reopen(self) -> None:
        self.close()
        self._fd, self._turn_fd = (_open(self._own, name) for name in self._names)

    @override
    def acquire(self, timeout: float) -> None:
        while True:
            if not self._try_at_once():
                if timeout <= 0:
                    raise LockTimeout(path=str(self.path), seconds=timeout)
                self._wait(timeout)
            try:
                if self._is_named():
                    return
            except BaseException:
                self.release()
                raise
            # The lock file was deleted or replaced: other processes lock another file.
            self._reopen()

    def _is_named(self) -> bool:
        """Return True if the names still lead to the locked files."""
        generation = self._own.verify_path()
        if generation != self._checked:
            for name, fd in zip(self._names, (self._fd, self._turn_fd), strict=True):
                if self._own.identity(name) != identity_of(os.fstat(fd)):
                    return False
            self._checked = generation
        return True

    def _try_at_once(self) -> bool:
        # Through the turnstile even without waiting: otherwise this would overtake waiters.
        if not _try_flock(self._turn_fd):
            return False
        try:
            return _try_flock(self._fd)
        finally:
            fcntl.flock(self._turn_fd, fcntl.LOCK_UN)

    def _wait(self, timeout: float) -> None:
        """Wait in a helper thread: the kernel has the queue, but no timeout for ``flock``.

        The thread uses descriptors of its own. If the timeout passes first, it closes them
        as soon as it gets the lock.
        """
        wait = _LockWait(self._own, self._names)
        try:
            wait.start()
            served = wait.done.wait(timeout)
        except BaseException:
            wait.abandon_and_release()
            raise
        if not served and wait.abandon():
            raise LockTimeout(path=str(self.path), seconds=timeout)
        if isinstance(wait.error, OSError):
            raise translate(wait.error, self.path)
        if wait.error is not None:
            raise wait.error
        os.close(
            self._fd
        )  # the lock belongs to the thread's descriptor: adopt that one
        self._fd = wait.fd

    def __del__(self) -> None:
        """Close the descriptors of a store whose opening failed."""
        self.close()

    @override
    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    @override
    def close(self) -> None:
        fds, self._fd, self._turn_fd = (self._fd, self._turn_fd), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)


def _open(own: DirectoryHandle, name: str) -> int:
    with translated(own.path / name):
        own.verify_path()
        return own.open_or_create(name)


def _try_flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _LockWait:
    """One wait for a lock, in a thread of its own."""

    under_way: ClassVar[set[_LockWait]] = set()

    def __init__(self, own: DirectoryHandle, names: tuple[str, str]) -> None:
        self.done = threading.Event()
        self.error: OSError | PendStorageError | None = None
        self.fd = -1
        """Descriptor that holds the lock after a success."""
        self.turn_fd = -1
        self._own = own
        self._names = names
        self._guard = threading.Lock()
        self._is_abandoned = False

    def start(self) -> None:
        """Start the thread."""
        self.under_way.add(self)
        threading.Thread(target=self._run, name="pend-lock", daemon=True).start()

    def abandon(self) -> bool:
        """Abandon the wait; False if the lock was acquired at the last moment."""
        with self._guard:
            self._is_abandoned = not self.done.is_set()
            return self._is_abandoned

    def abandon_and_release(self) -> None:
        """Abandon the wait, and release the lock if it was acquired."""
        if not self.abandon() and self.fd >= 0:
            os.close(self.fd)

    def _run(self) -> None:
        try:
            self._queue()
        except (OSError, PendStorageError) as error:
            self.error = error
        # Under the guard: abandon() sees either a pending wait or its final outcome.
        with self._guard:
            self.under_way.discard(self)
            self.done.set()
            if self._is_abandoned and self.fd >= 0:
                os.close(self.fd)

    def _queue(self) -> None:
        self.turn_fd = _open(self._own, self._names[1])
        try:
            fcntl.flock(self.turn_fd, fcntl.LOCK_EX)
            # Waiting for the turnstile may have outlasted the caller's timeout.
            if not self._is_abandoned:
                self.fd = _open(self._own, self._names[0])
                fcntl.flock(self.fd, fcntl.LOCK_EX)
            fcntl.flock(self.turn_fd, fcntl.LOCK_UN)
        finally:
            os.close(self.turn_fd)
            self.turn_fd = -1


def _forget_waits() -> None:
    """Close the descriptors of the parent's waiting threads, in a forked child.

    Otherwise the child would hold the lock if the parent acquires it and is killed.
    """
    for wait in list(_LockWait.under_way):
        for fd in (wait.fd, wait.turn_fd):
            if fd >= 0:
                with contextlib.suppress(
                    OSError
                ):  # closed by its thread just before the fork
                    os.close(fd)
    _LockWait.under_way.clear()


on_fork(_forget_waits)


class FileLock(ProcessLock):
    """Lock file that its holder may delete. It is polled: for rare operations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    @override
    def acquire(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        with translated(self.path), Directory(self.path.parent) as directory:
            while not self._try_at_once(directory):
                if time.monotonic() >= end:
                    raise LockTimeout(path=str(self.path), seconds=timeout)
                time.sleep(_POLL)

    def _try_at_once(self, directory: Directory) -> bool:
        fd = directory.open_or_create(self.path.name)
        try:
            if not _try_flock(fd):
                return False
            found = directory.find(self.path.name)
            if found is None or identity_of(found) != identity_of(os.fstat(fd)):
                return False  # deleted by its last holder: others lock another file
            fd, self._fd = -1, fd
        finally:
            if fd >= 0:
                os.close(fd)
        return True

    @override
    def release(self) -> None:
        self.close()

    @override
    def close(self) -> None:
        """Close the descriptor, which releases the lock."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@contextmanager
def directory_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock under which a directory's own store is created or replaced.

    Args:
        path: of the lock file, beside the directory.
        timeout: seconds to wait.

    Raises:
        LockTimeout: another process holds it all that time.
    """
    with FileLock(path).held(timeout):
        yield
