"""Segments: the journal's files, their names, and the reader of their frames."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from pend_storage._files.by_path import open_file
from pend_storage._files.descriptor import Descriptor
from pend_storage._files.directory import Directory
from pend_storage.errors import CorruptFile
from pend_storage.stores.json._journal.log_frames import (
    Damage,
    diagnose,
    read_frame,
    wanted_size,
)
from pend_storage.stores.json._journal.log_records import (
    FramePayload,
    SegmentStart,
    decode_payload,
)

__all__ = [
    "SegmentReader",
    "journal_bytes",
    "numbered",
    "read_start",
    "segment_path",
    "snapshot_path",
]

_CHUNK: Final = 1 << 20
_NUMBERED: Final = re.compile(r"(journal|snapshot)-(\d{8,})\.jsonl")


def segment_path(directory: Path, number: int) -> Path:
    """Return the path of a segment of the journal."""
    return directory / f"journal-{number:08}.jsonl"


def snapshot_path(directory: Path, number: int) -> Path:
    """Return the path of the snapshot of the state before a segment."""
    return directory / f"snapshot-{number:08}.jsonl"


def numbered(directory: Path, kind: str) -> list[int]:
    """Return the numbers of segments (``journal``) or snapshots in a directory, in order."""
    found = (_NUMBERED.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(m[2]) for m in found if m is not None and m[1] == kind)


def journal_bytes(directory: Path) -> int:
    """Return the size of all segments together.

    Args:
        directory: the store's own directory.
    """
    total = 0
    for number in numbered(directory, "journal"):
        with contextlib.suppress(FileNotFoundError):  # dropped in the meantime
            total += segment_path(directory, number).lstat().st_size
    return total


class SegmentReader(Descriptor):
    """Read the frames of one segment in order, as far as they are whole."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.end = 0
        """Offset after the last frame that was read."""
        self.chain = 0

    @classmethod
    def open(
        cls, path: Path, own: Directory | None = None, *, write: bool = False
    ) -> SegmentReader:
        """Open a segment.

        Args:
            path: of the segment.
            own: its directory, if that is open.
            write: for writing too: only the journal of a process that commits does.
        """
        if own is None:
            return cls(path, open_file(path, write=write))
        return cls(path, own.open_file(path.name, write=write))

    def payloads(self, limit: int | None = None) -> Iterator[FramePayload]:
        """Yield the payloads of the following frames.

        Args:
            limit: offset to stop at; None: at the first byte that is no whole frame.

        Raises:
            CorruptFile: a frame is sound, but its payload cannot be decoded.
        """
        return map(self._decode, self._raw_payloads(limit))

    def payloads_with(self, *texts: bytes, limit: int | None) -> Iterator[FramePayload]:
        """Yield the payloads that have all of some texts, of a segment not read yet.

        Args:
            texts: the first one is rare, and is searched before anything is read.
            limit: as for :meth:`payloads`.

        Raises:
            CorruptFile: the segment has the first text, and is damaged.
        """
        if not self._has(texts[0], limit):
            return
        for payload in self._raw_payloads(limit):
            if all(text in payload for text in texts):
                yield self._decode(payload)
        damage = None if limit is not None else self.damage()
        if damage is not None:
            raise self.corrupt(damage.reason)

    def _has(self, text: bytes, limit: int | None) -> bool:
        """Return True if the file has a text; read in windows, which overlap."""
        size = os.fstat(self.fd).st_size if limit is None else limit
        step = _CHUNK + len(text)
        return any(
            text in os.pread(self.fd, min(step, size - start), start)
            for start in range(0, size, _CHUNK)
        )

    def _raw_payloads(self, limit: int | None) -> Iterator[bytes]:
        size = _CHUNK
        while limit is None or self.end < limit:
            room = size if limit is None else min(size, limit - self.end)
            data = os.pread(self.fd, room, self.end)
            start = 0
            while (frame := read_frame(data, start, self.chain)) is not None:
                self.end += frame.end - start
                self.chain = frame.chain
                start = frame.end
                yield frame.payload
            if (
                start == 0
            ):  # no whole frame in the window: cut off, or larger than the window
                wanted = wanted_size(data, 0)
                if len(data) < room or wanted is None or wanted <= len(data):
                    return
                size = max(
                    wanted, _CHUNK
                )  # a frame larger than the window: read all of it

    def _decode(self, payload: bytes) -> FramePayload:
        try:
            return decode_payload(payload)
        except (msgspec.DecodeError, ValueError) as error:
            raise CorruptFile(
                f"a frame is sound, but its payload cannot be decoded ({error})",
                path=str(self.path),
                offset=self.end,
            ) from error

    def tail(self) -> bytes:
        """Return the bytes behind the last frame that was read."""
        size = os.fstat(self.fd).st_size - self.end
        return os.pread(self.fd, size, self.end) if size > 0 else b""

    def damage(self) -> Damage | None:
        """Return the damage at which reading stopped; None at the end of the file."""
        tail = self.tail()
        return diagnose(tail, self.end) if tail else None

    def corrupt(self, reason: str) -> CorruptFile:
        """Return the error for damage at the offset that was reached."""
        return CorruptFile(reason, path=str(self.path), offset=self.end)

    def expected_start(self, number: int, chain: int) -> SegmentStart:
        """Read the first frame, and verify that it continues the segment before.

        Args:
            number: of the segment.
            chain: checksum at the end of the segment before.

        Raises:
            CorruptFile: another number or checksum.
        """
        start = self.start()
        if (start.number, start.chain) != (number, chain):
            raise self.corrupt("the segment does not continue the one before it")
        return start

    def reread_start(self) -> SegmentStart:
        """Return the first frame again, after the reader has moved on."""
        again = SegmentReader(self.path, os.dup(self.fd))
        return again.start()

    def start(self) -> SegmentStart:
        """Read the first frame.

        Raises:
            CorruptFile: it is not the start of a segment.
        """
        for payload in self.payloads():
            if payload.segment is None:
                break
            return payload.segment
        raise CorruptFile(
            "the file does not begin as a segment of a journal does",
            path=str(self.path),
            offset=0,
        )


def read_start(directory: Path, number: int) -> SegmentStart:
    """Read the first frame of a segment.

    Raises:
        FileNotFoundError: compaction has dropped it.
    """
    reader = SegmentReader.open(segment_path(directory, number))
    try:
        return reader.start()
    finally:
        reader.close()
