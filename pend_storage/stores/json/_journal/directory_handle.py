"""Directory handle: detects that the store's own directory was moved or replaced.

A directory can be moved while a process has it open: restored by ``mv``, replaced by a copy,
rotated. The process would go on in files that no other process opens, or write by path into
a directory that is not its own. So the path is verified under each lock, and files are
opened, created, renamed and deleted through the descriptor.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from typing_extensions import override

from pend_storage._files.directory import Directory
from pend_storage.errors import StoreUnavailable

__all__ = ["DirectoryHandle", "Identity", "identity_of"]

_TICK: Final = 2 * 10**9
"""Nanoseconds: two changes of a directory closer together may leave one time stamp."""

Identity = tuple[int, int]
"""Device and inode."""


def identity_of(status: os.stat_result) -> Identity:
    """Return device and inode, which differ between files that had the same name."""
    return status.st_dev, status.st_ino


class DirectoryHandle(Directory):
    """Hold a directory open, and verify that its path still names it."""

    @override
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._name = os.fspath(path)
        self._identity = identity_of(self.status())
        self._stamp = (0, 0)
        self._rests = False
        self.generation = 0
        """What `look` last."""
        self.is_elsewhere = False
        """The path did not name the directory when it was verified last."""

    def verify_path(self) -> int:
        """Verify that the path still names this directory; takes two microseconds.

        Returns:
            The generation: another number when names in the directory may have changed.

        Raises:
            StoreUnavailable: the path names another directory, or none.
        """
        try:
            status = os.stat(self._name)  # noqa: PTH116 - a Path costs as much again
        except (FileNotFoundError, NotADirectoryError):
            self.is_elsewhere = True
            raise self._moved("nothing is there now") from None
        self.is_elsewhere = (status.st_dev, status.st_ino) != self._identity
        if self.is_elsewhere:
            raise self._moved(f"another one is there now ({_id(identity_of(status))})")
        stamp = (status.st_mtime_ns, status.st_ctime_ns)
        # A stamp of the last two seconds may stand for a later change too: until it is
        # older, every call counts as a change.
        if not self._rests or stamp != self._stamp:
            self._stamp = stamp
            self._rests = time.time_ns() - max(stamp) > _TICK
            self.generation += 1
        return self.generation

    def _moved(self, now: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"the directory was moved, replaced or deleted: {now}, and the one that this "
            f"process has open ({_id(self._identity)}) is {self._whereabouts()}. Nothing "
            f"was written. Put the right one at {self.path}, and restart the process if "
            "that is not the one it has open",
            store=str(self.path),
        )

    def _whereabouts(self) -> str:
        if self.fd >= 0:
            if os.fstat(self.fd).st_nlink == 0:
                return "deleted"
            with contextlib.suppress(OSError):
                return f"at {Path(f'/proc/self/fd/{self.fd}').readlink()}"
        return "elsewhere"

    def identity(self, name: str) -> Identity | None:
        """Return device and inode of a name in the directory; None if there is no such name."""
        try:  # without the checks of `status`: commits that follow each other ask often
            return identity_of(os.stat(name, dir_fd=self.fd, follow_symlinks=False))
        except FileNotFoundError:
            return None


def _id(identity: Identity) -> str:
    return "device {}, inode {}".format(*identity)
