"""End file: publishes the position up to which the journal is durable.

It is written after the sync of the frames before that position. So it never claims more
than the disk holds, and a journal that ends before it has lost acknowledged commits.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from typing import Final, NamedTuple

from pend_storage._files.descriptor import Descriptor
from pend_storage._files.directory import Directory
from pend_storage.stores.json._journal.directory_handle import Identity, identity_of

__all__ = ["END_FILE", "EndFile", "Position", "unpacked"]

END_FILE: Final = "end"
_END: Final = struct.Struct("<QQI")
_SIZE: Final = _END.size
_ATTEMPTS: Final = 3
_PAUSE: Final = 0.001


class Position(NamedTuple):
    """A position in the journal, between two frames."""

    segment: int = 0
    end: int = 0


class EndFile(Descriptor):
    """Publish and observe the end of the journal."""

    def __init__(self, own: Directory, *, write: bool = True) -> None:
        """Open the file.

        Args:
            own: the store's own directory.
            write: create it if it is missing; False: only read it.
        """
        self.fd = own.open_or_create(END_FILE) if write else _opened(own)
        self.observed = self.read_raw()
        """Raw content as of which this process has read every published frame."""

    def read_raw(self) -> bytes:
        """Return the present content, undecoded."""
        return os.pread(self.fd, _SIZE, 0) if self.fd >= 0 else b""

    def changed(self) -> bool:
        """Return True if another process has published since; costs one system call."""
        return self.fd >= 0 and os.pread(self.fd, _SIZE, 0) != self.observed

    def published(self) -> Position:
        """Return the published position; the beginning if the content is damaged."""
        return unpacked(self.read_raw()) or Position()

    def settled(self) -> Position | None:
        """Return the published position; None if the content is damaged, or missing.

        What another process is writing at this moment is read again before that.
        """
        for _ in range(_ATTEMPTS):
            found = unpacked(self.read_raw())
            if found is not None:
                return found
            time.sleep(_PAUSE)
        return None

    def publish(self, position: Position) -> None:
        """Publish a position, in one write: readers that race see it torn, and retry."""
        body = struct.pack("<QQ", *position)
        content = body + struct.pack("<I", zlib.crc32(body))
        os.pwrite(self.fd, content, 0)
        self.observed = content

    def identity(self) -> Identity | None:
        """Return device and inode of the open file; None if it was missing."""
        return identity_of(os.fstat(self.fd)) if self.fd >= 0 else None


def _opened(own: Directory) -> int:
    try:
        return own.open_file(END_FILE)
    except FileNotFoundError:
        return -1


def unpacked(found: bytes) -> Position | None:
    """Decode the content of the file; None if it is damaged, or just being written."""
    if len(found) != _END.size:
        return None
    number, end, check = _END.unpack(found)
    return Position(number, end) if check == zlib.crc32(found[:-4]) else None
