"""Durability: complete writes, and syncs of their content to the disk."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["sync", "write_all"]

_FDATASYNC: Final = "fdatasync" if hasattr(os, "fdatasync") else "fsync"


def write_all(fd: int, data: bytes, offset: int | None = None) -> None:
    """Write all bytes, at the file position or at an offset; retry short writes."""
    rest: bytes | memoryview = data
    while rest:
        if offset is None:
            done = os.write(fd, rest)
        else:
            done = os.pwrite(fd, rest, offset)
            offset += done
        if done == len(rest):
            return
        rest = memoryview(rest)[done:]


def _fdatasync(fd: int) -> None:
    getattr(os, _FDATASYNC)(fd)


def sync(fd: int) -> None:
    """Sync the content of a file to the disk (``fdatasync``)."""
    _fdatasync(fd)
