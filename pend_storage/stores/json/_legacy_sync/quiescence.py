"""Quiescence: decides when a legacy file that other programs write may be read.

A program that writes in place truncates the file first and fills it afterwards, so for a
moment the file is incomplete. One that renames a finished file into place has no such moment.
Both readers of a legacy file, the initial import and the rounds of file synchronisation,
follow these rules:

- A file that was renamed into place is read at once.
- One that was written in place is read after :data:`SETTLE` seconds without a write.
- If it is not quiescent for :data:`HURRY_AFTER` seconds, it is read all the same, if two reads
  in a row agree. So a steady writer does not block the synchronisation of its file.
- Incomplete content (empty, cut off, not JSON) is accepted only after :data:`UNSOUND` seconds
  without a write.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from pend_storage import _jitter as jitter
from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.layout import Layout
from pend_storage._model.records import QuarantinedRecord
from pend_storage.schema import Schema
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileSignature,
    signature_of,
)

__all__ = ["HURRY_AFTER", "SETTLE", "UNSOUND", "Clock", "QuiescentReader", "is_whole"]

SETTLE: Final = 0.25
"""Seconds after the last write in place after which a file counts as finished."""
UNSOUND: Final = 2.0
"""The same, for an empty or broken file: its writer may have stalled."""
HURRY_AFTER: Final = 1.0
"""Seconds of continuous writing after which a file is read without a rest."""
_QUIET: Final = 3.0
"""Seconds without a write in place after which a file must rest again to be read."""
_AGREE: Final = 0.006
"""Shortest pause in seconds between two reads that must agree; the longest is twice that."""
_NEXT: Final = 0.15
"""Seconds to wait for the next write: right after it is the longest time without one."""
_STEP: Final = 0.004
_HURRIED: Final = 5
"""Pairs of reads in one attempt."""
_POLL: Final = (0.03, 0.07)
"""Shortest and longest pause in seconds of a reader that polls."""

Read: TypeAlias = tuple[bytes, os.stat_result]


class Clock(Protocol):
    """Clock: the functions of the module ``time`` that are used here; a fake in tests."""

    def time(self) -> float:
        """Seconds since the epoch, as in the times of files."""

    def monotonic(self) -> float:
        """Seconds of a monotonic clock."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


class ReadableFile(Protocol):
    """Interface of :class:`~pend_storage.stores.json._legacy_sync.synced_file.SyncedFile`."""

    def status(self) -> os.stat_result | None:
        """Return the status of the file; None if it is missing."""

    def read(self) -> Read | None:
        """Read the file, if it does not change meanwhile; None if it is missing."""


class QuiescentReader:
    """Read one file when it is quiescent, or provably whole; used over many rounds."""

    def __init__(self, file: ReadableFile, clock: Clock = time) -> None:
        """Create a reader.

        Args:
            file: to read.
            clock: the module ``time``; a fake in tests.
        """
        self._file = file
        self.clock = clock
        self._since: float | None = None
        """Monotonic time of the first write in place of the present series; None: quiet."""
        self._last = 0.0
        """Monotonic time of the latest write in place."""
        self._unrested: float | None = None
        """Monotonic time of the first write in place since the file was last at rest."""

    @property
    def restless(self) -> float:
        """Seconds for which the file was neither at rest nor renamed into place."""
        if self._unrested is None:
            return 0.0
        return self.clock.monotonic() - self._unrested

    @property
    def is_quiet(self) -> bool:
        """True if the file was not written in place for a while."""
        return self._since is None

    def record_rest(self) -> None:
        """Record that the file was found at rest, or as it was left."""
        self._unrested = None
        if self.clock.monotonic() - self._last >= _QUIET:
            self._since = None

    def _record_write(self) -> None:
        """Record that the file is being written in place."""
        self._last = now = self.clock.monotonic()
        self._since = now if self._since is None else self._since
        self._unrested = now if self._unrested is None else self._unrested

    def read(
        self,
        known: FileSignature | None,
        sound: Callable[[bytes], bool],
        *,
        patience: float = 0.0,
    ) -> Read | None:
        """Return content and status as soon as the file may be read; None if it is missing.

        Args:
            known: signature of the file at the last read or write.
            sound: returns True if a content is whole.
            patience: seconds to wait.

        Raises:
            InterruptedError: another program is writing it just now.
        """
        end = self.clock.monotonic() + patience
        while True:
            try:
                return self._attempt(known, sound)
            except InterruptedError:
                if self.clock.monotonic() >= end:
                    raise
            self.clock.sleep(jitter.between(*_POLL))

    def _attempt(
        self, known: FileSignature | None, sound: Callable[[bytes], bool]
    ) -> Read | None:
        status = self._file.status()
        if status is None:
            return None
        rested = self._rested(status, SETTLE)
        # Written in place moments ago: its writer may not have finished.
        if not rested and not _was_renamed(status, known):
            return self._read_busy(sound)
        read = self._file.read()
        # It changed since its status was taken: the decision was about another version.
        if read is not None and signature_of(read[1]) != signature_of(status):
            raise _being_written(self._file)
        long = self._rested(status, UNSOUND)
        if read is not None and not long and not sound(read[0]):
            self._record_write()
            raise _being_written(self._file)
        self.record_rest()
        return read

    def _rested(self, status: os.stat_result, seconds: float) -> bool:
        # A time in the future, from another clock, counts as rested: it may stay so for long.
        return not 0 <= self.clock.time() - status.st_mtime < seconds

    def _await_write(self) -> None:
        status = self._file.status()
        end = self.clock.monotonic() + _NEXT
        while self.clock.monotonic() < end:
            if _changed(status, self._file.status()):
                return
            self.clock.sleep(_STEP)

    def _read_busy(self, sound: Callable[[bytes], bool]) -> Read | None:
        """Read a file under continuous writing: accept two reads in a row that agree."""
        self._record_write()
        if self._last - (self._since or 0.0) < HURRY_AFTER:
            raise _being_written(self._file)
        self._await_write()  # right after a write, the next one is furthest away
        for _ in range(_HURRIED):
            first = self._file.read()
            self.clock.sleep(jitter.between(_AGREE, 2 * _AGREE))
            second = self._file.read()
            if first is None or second is None:
                return second
            same = signature_of(first[1]) == signature_of(second[1])
            if same and first[0] == second[0] and sound(second[0]):
                return second
        raise _being_written(self._file)


def _changed(status: os.stat_result | None, now: os.stat_result | None) -> bool:
    if status is None or now is None:
        return status is not now
    return signature_of(status) != signature_of(now)


def _was_renamed(status: os.stat_result, known: FileSignature | None) -> bool:
    """Return True if a file was renamed into place.

    A rename changes the ctime, not the mtime; or the inode is another one than before.
    """
    if status.st_ctime_ns > status.st_mtime_ns:
        return True
    return known is not None and status.st_ino != known.inode


def _being_written(file: ReadableFile) -> InterruptedError:
    return InterruptedError(errno.EINTR, "being written", str(file))


def is_whole(layout: Layout, schema: Schema, raw: bytes) -> bool:
    """Return True if a file can be split into records: neither empty nor broken as a whole."""
    if not raw.strip():
        return False
    first = next(iter(layout.parse(schema, raw).entries), None)
    record = None if first is None else first.home.record
    return not (isinstance(record, QuarantinedRecord) and is_whole_file(record))
