"""Log sequence numbers: positions in the write-ahead log, and names of its segments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = ["SegmentName", "lsn_text", "parse_lsn", "parse_segment", "segment_at"]

_LSN: Final = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})", re.ASCII)
_SEGMENT: Final = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})", re.ASCII)
_WORD: Final = 1 << 32


def parse_lsn(text: str) -> int:
    """Return the byte position of a text such as ``0/2000028``.

    Raises:
        ConfigError: it is none.
    """
    found = _LSN.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{shown(text)} is no position of the write-ahead log. Write it as the server "
            "shows it: 0/2000028."
        )
    return int(found[1], 16) * _WORD + int(found[2], 16)


def lsn_text(position: int) -> str:
    """Return a position as the server shows it."""
    return f"{position // _WORD:X}/{position % _WORD:X}"


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """Segment of the write-ahead log: a timeline, and the number of the segment."""

    timeline: int
    number: int
    """Of the segment, counted from the beginning of the log."""

    def text(self, size: int) -> str:
        """Return the name of its file; ``size``: bytes of a segment."""
        per_word = _WORD // size
        high, low = divmod(self.number, per_word)
        return f"{self.timeline:08X}{high:08X}{low:08X}"

    def following(self) -> SegmentName:
        """Return the next segment of the timeline."""
        return SegmentName(self.timeline, self.number + 1)


def parse_segment(name: str, size: int) -> SegmentName | None:
    """Parse the name of a segment's file; None where it is none.

    Args:
        name: of the file.
        size: bytes of a segment.
    """
    found = _SEGMENT.fullmatch(name)
    if found is None:
        return None
    timeline, high, low = (int(word, 16) for word in found.groups())
    return SegmentName(timeline, high * (_WORD // size) + low)


def segment_at(timeline: int, position: int, size: int) -> SegmentName:
    """Return the segment with the byte at a position; ``size``: bytes of a segment."""
    return SegmentName(timeline, position // size)
