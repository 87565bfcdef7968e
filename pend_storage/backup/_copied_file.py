"""Copied file: one file, copied as it was at one moment, for its owner alone."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from pend_storage._files.durability import sync, write_all
from pend_storage._files.ownership import set_mode
from pend_storage._files.subtree import Subtree
from pend_storage.backup._tree import Fingerprint, fingerprint

__all__ = ["BLOCK", "CopiedFile", "Origin", "ReportBytes", "copy_file"]

BLOCK: Final = 1 << 20
ReportBytes: TypeAlias = Callable[[int], None]


class Origin(NamedTuple):
    """Original of a file: how it is opened, and what is in its place now."""

    open: Callable[[], int]
    """Opens it for reading, and returns the descriptor."""
    status: Callable[[], os.stat_result | None]
    """Returns the status of its name; None or :class:`FileNotFoundError`: it is gone."""


class CopiedFile(NamedTuple):
    """Facts of a file at the moment of its copy."""

    fingerprint: Fingerprint
    digest: str
    mode: int
    """Permission bits of the original; those of the copy are its owner's only."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.fingerprint[1]


def copy_file(
    origin: Origin, target: Subtree, name: str, report: ReportBytes
) -> CopiedFile | None:
    """Copy and sync one file.

    Args:
        origin: the file.
        target: the copy under way.
        name: of the file in the copy.
        report: called with the bytes of each block.

    Returns:
        Its facts; None where it was written meanwhile.

    Raises:
        FileNotFoundError: it is gone.
    """
    digest = hashlib.sha256()
    reader = origin.open()
    try:
        writer = target.create(name)
        try:
            before = os.fstat(reader)
            while block := os.read(reader, BLOCK):
                digest.update(block)
                write_all(writer, block)
                report(len(block))
            mode = stat.S_IMODE(before.st_mode)
            os.utime(writer, ns=(before.st_atime_ns, before.st_mtime_ns))
            set_mode(writer, mode & stat.S_IRWXU)
            sync(writer)
            after = os.fstat(reader)
        finally:
            os.close(writer)
    finally:
        os.close(reader)
    now = origin.status()
    if fingerprint(before) != fingerprint(after):
        return None
    if now is None or fingerprint(now) != fingerprint(after):
        return None  # another file was moved to its path
    return CopiedFile(fingerprint(after), digest.hexdigest(), mode & 0o777)
