"""End file: publishes the position up to which the journal is durable.

It is written after the sync of the frames before that position. So it never claims more
than the disk holds, and a journal that ends before it has lost acknowledged commits.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final, NamedTuple

from pend_storage._files.descriptor import Descriptor
from pend_storage._files.directory import Directory
from pend_storage.stores.json._journal.directory_handle import Identity, identity_of

__all__ = ["END_FILE", "EndFile", "Position", "unpacked"]

END_FILE: Final = "end"
_END: Final = struct.Struct("<QQI")
_SIZE: Final = _END.size


class Position(NamedTuple):
    """A position in the journal, between two frames."""

    segment: int = 0
    end: int = 0


class EndFile(Descriptor):
    """Publish and observe the end of the journal."""

    def __init__(self, own: Directory) -> None:
        self.fd = own.open_or_create(END_FILE)
        self.observed = self.read_raw()
        """Raw content as of which this process has read every published frame."""

    def read_raw(self) -> bytes:
        """Return the present content, undecoded."""
        return os.pread(self.fd, _SIZE, 0)

    def changed(self) -> bool:
        """Return True if another process has published since; costs one system call."""
        return os.pread(self.fd, _SIZE, 0) != self.observed

    def published(self) -> Position:
        """Return the published position; the beginning if the content is damaged."""
        return unpacked(self.read_raw()) or Position()

    def publish(self, position: Position) -> None:
        """Publish a position, in one write: readers that race see it torn, and retry."""
        body = struct.pack("<QQ", *position)
        content = body + struct.pack("<I", zlib.crc32(body))
        os.pwrite(self.fd, content, 0)
        self.observed = content

    def identity(self) -> Identity:
        """Return device and inode of the open file."""
        return identity_of(os.fstat(self.fd))


def unpacked(found: bytes) -> Position | None:
    """Decode the content of the file; None if it is damaged, or just being written."""
    if len(found) != _END.size:
        return None
    number, end, check = _END.unpack(found)
    return Position(number, end) if check == zlib.crc32(found[:-4]) else None
