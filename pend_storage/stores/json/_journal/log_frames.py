"""Log frames: checksummed lines, in which damage is detected and located. No I/O.

A frame is one line of text::

    0000002a 8c7dd922 5f1e03b7 {"effects": ... }

The length of the payload, a CRC over the payload and over every frame before it (the
chain), and a CRC of these two, all in hexadecimal. The last one makes the length
trustworthy: a frame that reaches beyond the end of the file was cut off, rather than one
whose length was damaged.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = [
    "HEADER_SIZE",
    "Damage",
    "LogFrame",
    "diagnose",
    "encode_frame",
    "read_frame",
    "wanted_size",
]

HEADER_SIZE: Final = 27
"""Bytes before the payload."""
_PREFIX_SIZE: Final = 18  # what the header's own checksum goes over
_SECTOR: Final = 512  # what a disk writes whole; larger ones are multiples of it
_HEADER: Final = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ")
_HEADER_START: Final = re.compile(rb"(?:[0-9a-f]{8} ){0,2}(?:[0-9a-f]{0,8})")
_NULS: Final = re.compile(rb"\0+")


class LogFrame(NamedTuple):
    """A whole frame."""

    payload: bytes
    end: int
    """Offset of the byte after it, counted as the start was."""
    chain: int
    """The checksum that the next frame continues."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage at a position: why the bytes there are no frame."""

    torn: bool
    """What a crash leaves of a write that was never acknowledged."""
    reason: str


def encode_frame(payload: bytes, chain: int) -> tuple[bytes, int]:
    """Encode a payload as a frame.

    Args:
        payload: one line of JSON.
        chain: checksum at the end of the frame before.

    Returns:
        The frame, and the checksum that the next frame continues.
    """
    after = zlib.crc32(payload, chain)
    prefix = b"%08x %08x " % (len(payload), after)
    check = zlib.crc32(prefix)
    return b"%b%08x %b\n" % (prefix, check, payload), after


def _header(data: bytes, start: int) -> tuple[int, int] | None:
    """Return length and checksum of a sound header; None if there is none."""
    found = _HEADER.match(data, start)
    if found is None:
        return None
    if int(found[3], 16) != zlib.crc32(data[start : start + _PREFIX_SIZE]):
        return None
    return int(found[1], 16), int(found[2], 16)


def read_frame(data: bytes, start: int, chain: int) -> LogFrame | None:
    """Decode the frame at a position; None if it is incomplete or damaged."""
    header = _header(data, start)
    if header is None:
        return None
    body = start + HEADER_SIZE
    end = body + header[0]
    if data[end : end + 1] != b"\n":
        return None
    payload = data[body:end]
    if zlib.crc32(payload, chain) != header[1]:
        return None
    return LogFrame(payload, end + 1, header[1])


def wanted_size(data: bytes, start: int) -> int | None:
    """Return the size of the whole frame at a position; None if its header is damaged."""
    header = _header(data, start)
    return None if header is None else HEADER_SIZE + header[0] + 1


def diagnose(tail: bytes, offset: int) -> Damage:
    """Classify the end of a file that does not begin with a whole frame: torn or damaged.

    Torn is the beginning of a frame, or what a power failure leaves of the last one:
    blocks that were never written, and read as NUL bytes.

    Args:
        tail: everything from the offset to the end of the file; not empty.
        offset: in the file, in bytes.
    """
    size = wanted_size(tail, 0)
    begun = len(tail) < (size or HEADER_SIZE)
    if begun and (size is not None or _HEADER_START.fullmatch(tail)):
        return Damage(torn=True, reason="the last frame was not written to its end")
    # A frame that others follow was written whole once: that is no torn write.
    last = size == len(tail) if size is not None else not _has_header(tail)
    if last and _has_unwritten_blocks(tail, offset):
        return Damage(torn=True, reason="the last frame never reached the disk whole")
    what = "a frame is damaged" if size is None else "the checksum of a frame is wrong"
    return Damage(torn=False, reason=what)


def _has_header(tail: bytes) -> bool:
    """Return True if a sound header follows: the damage is not in the last frame."""
    lines = (m.end() for m in re.finditer(rb"\n", tail))
    return any(_header(tail, place) is not None for place in lines)


def _has_unwritten_blocks(tail: bytes, offset: int) -> bool:
    """Return True if there are NULs, and each run of them begins or ends at a disk block."""
    runs = [(offset + m.start(), offset + m.end()) for m in _NULS.finditer(tail)]
    end = offset + len(tail)
    return bool(runs) and all(
        (start == offset or start % _SECTOR == 0)
        and (stop == end or stop % _SECTOR == 0)
        for start, stop in runs
    )
