"""Quiescence: when a legacy file that other programs write may be read.

A program that writes in place truncates the file first and fills it afterwards, so for a
moment the file says less than the program means. One that renames a finished file into
place has no such moment. Both readers of a legacy file, the first adoption and the keeper
that looks at it in each round, go by the rule that is kept here:

- A file that was renamed into place is read at once.
- One that was written in place is read when it has rested for :data:`SETTLE` seconds.
- Where it does not come to rest for :data:`HURRY_AFTER` seconds, it is read all the same, if
  two reads in a row say the same. So no steady writer keeps the store from its file.
- What is not whole (empty, cut off, not JSON) counts only after :data:`UNSOUND` seconds
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
"""Seconds after the last write in place after which a file is taken for finished."""
UNSOUND: Final = 2.0
"""The same for a file that is empty or broken: its writer may have stalled."""
HURRY_AFTER: Final = 1.0
"""Seconds after which a file is read that was found being written each time."""
_QUIET: Final = 3.0
"""Seconds without such a finding after which it must rest again to be read."""
_AGREE: Final = 0.006
"""Seconds between two reads that must say the same, and up to twice as long."""
_NEXT: Final = 0.15
"""Seconds to wait for the next write, so that there is time until the one after it."""
_STEP: Final = 0.004
_HURRIED: Final = 5
"""Pairs of such reads in one go."""
_POLL: Final = (0.03, 0.07)
"""Seconds between two looks of a reader that waits, least and most."""

Read: TypeAlias = tuple[bytes, os.stat_result]


class Clock(Protocol):
    """The functions of the module ``time`` that are used here; tests have another one."""

    def time(self) -> float:
        """Seconds since the epoch, as in the times of files."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


class ReadableFile(Protocol):
    """What is read: :class:`~pend_storage.stores.json._legacy_sync.synced_file.SyncedFile`."""

    def status(self) -> os.stat_result | None:
        """Of the file; None where it is missing."""

    def read(self) -> Read | None:
        """The file, if it holds still meanwhile; None where it is missing."""


class QuiescentReader:
    """Read one file when it is at rest or certainly whole, over many rounds."""

    def __init__(self, file: ReadableFile, clock: Clock = time) -> None:
        """Args: file: to be read. clock: the module ``time``, but in tests."""
        self._file = file
        self.clock = clock
        self._since: float | None = None
        """When it was first found being written in place; until it stays quiet."""
        self._last = 0.0
        """When it was so most recently."""
        self._unrested: float | None = None
        """When it was first so after the last time that it was found at rest."""

    @property
    def restless(self) -> float:
        """Seconds for which it was not found at rest, nor renamed into place."""
        if self._unrested is None:
            return 0.0
        return self.clock.monotonic() - self._unrested

    @property
    def is_quiet(self) -> bool:
        """Whether it was not written in place for a while."""
        return self._since is None

    def record_rest(self) -> None:
        """Note that it was found at rest, or as its reader has left it."""
        self._unrested = None
        if self.clock.monotonic() - self._last >= _QUIET:
            self._since = None

    def _record_write(self) -> None:
        """Note that it is being written in place."""
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
        """The file and its status as soon as it may be read; None where it is missing.

        Args:
            known: of the file that was read or written last.
            sound: whether a content is whole.
            patience: seconds to wait for that at most.

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
        if not rested and not _was_renamed(status, known):
            return self._read_busy(sound)
        read = self._file.read()
        if read is not None and signature_of(read[1]) != signature_of(status):
            raise _being_written(self._file)
        long = self._rested(status, UNSOUND)
        if read is not None and not long and not sound(read[0]):
            self._record_write()
            raise _being_written(self._file)
        self.record_rest()
        return read

    def _rested(self, status: os.stat_result, seconds: float) -> bool:
        return not 0 <= self.clock.time() - status.st_mtime < seconds

    def _await_write(self) -> None:
        status = self._file.status()
        end = self.clock.monotonic() + _NEXT
        while self.clock.monotonic() < end:
            if _changed(status, self._file.status()):
                return
            self.clock.sleep(_STEP)

    def _read_busy(self, sound: Callable[[bytes], bool]) -> Read | None:
        """Read a file that is being written, where that has been going on for long."""
        self._record_write()
        if self._last - (self._since or 0.0) < HURRY_AFTER:
            raise _being_written(self._file)
        self._await_write()
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
    """Whether a file came to its place as a whole.

    Its status has changed after its content, or it is another file than before.
    """
    if status.st_ctime_ns > status.st_mtime_ns:
        return True
    return known is not None and status.st_ino != known.inode


def _being_written(file: ReadableFile) -> InterruptedError:
    return InterruptedError(errno.EINTR, "being written", str(file))


def is_whole(layout: Layout, schema: Schema, raw: bytes) -> bool:
    """Whether a file can be divided into records: neither empty nor broken as a whole."""
    if not raw.strip():
        return False
    first = next(iter(layout.parse(schema, raw).entries), None)
    record = None if first is None else first.home.record
    return not (isinstance(record, QuarantinedRecord) and is_whole_file(record))
