"""Row spill: rows of the initial import, in a temporary file instead of in memory.

The rows of a legacy file take several times its size. They are needed again in order, when
the snapshot is written, and now and then by key; in between they are in a file without a
name, and only their places are in memory.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from typing import Final

from pend_storage._files.directory import Directory
from pend_storage._layouts.layout import Entry
from pend_storage.stores.json._legacy_sync.file_contents import SeenRecord
from pend_storage.stores.json._legacy_sync.file_manifest import UNKNOWN, token_of

__all__ = ["RowSpill", "SeenRows", "SpilledRows"]

_TAIL: Final = 1 << 20
"""Bytes in one write."""
_WINDOW: Final = 1 << 18
"""Bytes in one read of consecutive rows."""
_LENGTH_BITS: Final = 30
"""Low bits of a place, which hold the length: no row is as long as 1 GiB."""
_LENGTH: Final = (1 << _LENGTH_BITS) - 1


class RowSpill:
    """Append-only file of texts, without a name. A place is one integer: offset and length."""

    def __init__(self, directory: Directory) -> None:
        """Create the file; the kernel deletes it when it is closed.

        Raises:
            OSError: it cannot be created.
        """
        self._file = os.fdopen(directory.anonymous(), "r+b", buffering=0)
        self._tail = bytearray()
        self._written = 0

    def close(self) -> None:
        """Close the file, which frees its space."""
        self._file.close()
        self._tail = bytearray()

    def add(self, text: bytes) -> int:
        """Append a text; return its place."""
        place = (self._written + len(self._tail)) << _LENGTH_BITS | len(text)
        self._tail += text
        if len(self._tail) >= _TAIL:
            left = memoryview(self._tail)
            while left:
                left = left[os.write(self._file.fileno(), left) :]
            self._written += len(self._tail)
            self._tail = bytearray()
        return place

    def at(self, place: int) -> bytes:
        """Return the text at a place."""
        return self._read(place >> _LENGTH_BITS, place & _LENGTH)

    def in_order(self, places: Iterator[int]) -> Iterator[bytes]:
        """Yield the texts at places; fast if they are consecutive."""
        window, begin = b"", 0
        for place in places:
            start, length = place >> _LENGTH_BITS, place & _LENGTH
            # Rows follow each other as a rule: one read serves many of them.
            if start < begin or start + length > begin + len(window):
                begin, window = start, self._read(start, max(length, _WINDOW))
            yield window[start - begin : start - begin + length]

    def _read(self, start: int, length: int) -> bytes:
        """Read bytes at an offset; fewer at the end."""
        if start >= self._written:
            start -= self._written
            return bytes(self._tail[start : start + length])
        length = min(length, self._written - start)
        pieces: list[bytes] = []
        while length and (piece := os.pread(self._file.fileno(), length, start)):
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class SpilledRows:
    """Rows of one collection, all of one version, as a mapping."""

    def __init__(self, spill: RowSpill, version: int) -> None:
        self._spill = spill
        self._version = version
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> tuple[int, bytes]:
        return self._version, self._spill.at(self._places[key])

    def __setitem__(self, key: str, body: bytes) -> None:
        self._places[key] = self._spill.add(body)

    def get(
        self, key: str, default: tuple[int, bytes] | None = None
    ) -> tuple[int, bytes] | None:
        """Return a row, or the default."""
        return self[key] if key in self._places else default

    def pop(self, key: str, default: None = None) -> None:
        """Remove a row; its text stays in the file."""
        self._places.pop(key, default)

    def keys(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._places)

    def items(self) -> Iterator[tuple[str, tuple[int, bytes]]]:
        """Yield every row, in insertion order of the keys."""
        bodies = self._spill.in_order(iter(self._places.values()))
        for key, body in zip(self._places, bodies, strict=True):
            yield key, (self._version, body)

    def copy(self) -> SpilledRows:
        """Return these rows themselves: they never change once they are complete."""
        return self

    def place(self, key: str, body: bytes) -> int:
        """Return the place of a body: that of its row if it is equal, else a new one."""
        place = self._places.get(key)
        if place is None or place & _LENGTH != len(body):
            return self._spill.add(body)
        return place if self._spill.at(place) == body else self._spill.add(body)


class SeenRows:
    """Entries of a file as :class:`SeenRecord`, with their bodies in the spill."""

    def __init__(self, spill: RowSpill, rows: dict[str, SpilledRows]) -> None:
        self._spill = spill
        self._rows = rows
        self._last: Entry | None = None
        self._bodies = array("q")
        self._starts = array("q")
        self._ends = array("q")
        self.tokens: list[str] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[SeenRecord]:
        columns = (self._starts, self._ends)
        bodies = self._spill.in_order(iter(self._bodies))
        yield from map(SeenRecord, self.tokens, bodies, *columns)

    def recorded(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Yield entries; record each when its consumer has handled it."""
        for entry in entries:
            self._last = entry
            yield entry
            self.record_last()

    def record_last(self) -> None:
        """Record the last entry; its row may share its body."""
        entry, self._last = self._last, None
        if entry is None:
            return
        home = entry.home
        start, end = entry.span or (UNKNOWN, UNKNOWN)
        self.tokens.append(token_of(home.collection, home.key))
        self._bodies.append(self._rows[home.collection].place(home.key, home.body))
        self._starts.append(start)
        self._ends.append(end)
