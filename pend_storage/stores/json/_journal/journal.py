"""Journal: the source of truth. Frames in segments, one writer at a time, many readers.

A writer holds the commit lock. It appends a frame, syncs it, and then publishes the new end,
in a file of its own. Readers hold no lock: they compare that file with what they saw last,
and read on if it has changed. So no reader ever sees a frame that is not on the disk yet.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pend_storage import crashpoints
from pend_storage.errors import CorruptFile, PendStorageError, StoreUnavailable
from pend_storage.stores._inmemory.state import LogRecord
from pend_storage.stores.json._journal.atomic_files import (
    create,
    sync,
    sync_directory,
    translate,
    write_all,
)
from pend_storage.stores.json._journal.directory_handle import (
    DirectoryHandle,
    identity_of,
)
from pend_storage.stores.json._journal.end_file import (
    END_FILE,
    EndFile,
    Position,
    unpacked,
)
from pend_storage.stores.json._journal.log_frames import encode_frame
from pend_storage.stores.json._journal.log_records import (
    SegmentStart,
    encode_end,
    encode_start,
)
from pend_storage.stores.json._journal.segments import SegmentReader, segment_path

__all__ = ["Journal", "Position", "SegmentDropped", "create_segment"]

_WRITTEN = crashpoints.declare(
    "json.frame-written", "a frame is in the journal's file, but not synced"
)
_SYNCED = crashpoints.declare(
    "json.frame-synced", "a frame is synced, but no other process is told"
)
_SEGMENT_MADE = crashpoints.declare(
    "json.segment-made", "a new segment exists, but the old one does not name it"
)
_SEGMENT_ENDED = crashpoints.declare(
    "json.segment-ended", "the old segment names the new one; no snapshot yet"
)


class SegmentDropped(Exception):
    """The journal goes on in a segment that was dropped: load a snapshot."""


def create_segment(
    directory: Path, start: SegmentStart, at: int | None = None
) -> SegmentReader:
    """Create a segment with nothing in it but its first frame, durable.

    Args:
        directory: where to.
        start: what the first frame says.
        at: a descriptor of the directory, whatever stands at its path now.
    """
    path = segment_path(directory, start.number)
    with contextlib.suppress(FileNotFoundError):
        # left by a process that died before it was named
        os.unlink(path if at is None else path.name, dir_fd=at)
    reader = SegmentReader(path, create(path, os.O_EXCL, at))
    frame, chain = encode_frame(encode_start(start), 0)
    try:
        write_all(reader.fd, frame)
        os.fsync(reader.fd)
        sync_directory(directory, at)
    except BaseException:
        reader.close()
        raise
    reader.end, reader.chain = len(frame), chain
    return reader


class Journal:
    """The position of one process in the journal. Not thread-safe: its owner locks."""

    def __init__(
        self,
        directory: Path,
        number: int,
        chain: int,
        own: DirectoryHandle | None = None,
    ) -> None:
        """Open the journal at the start of a segment.

        Args:
            directory: where its files are.
            number: the segment.
            chain: the checksum at the end of the one before.
            own: the directory, if it is open.

        Raises:
            CorruptFile: that segment does not continue the one before.
            FileNotFoundError: it has been dropped.
        """
        self.directory = directory
        self._own = own
        self._reader = self._open(number, chain)
        self.end = EndFile(directory, own)

    @property
    def _at(self) -> int | None:
        return None if self._own is None else self._own.fd

    def _open(self, number: int, chain: int) -> SegmentReader:
        reader = SegmentReader.open(segment_path(self.directory, number), self._at)
        try:
            self.start = reader.expected_start(number, chain)
            """What the first frame of the present segment says."""
        except BaseException:
            reader.close()
            raise
        self._first = reader.end
        return reader

    def close(self) -> None:
        """Let go of the files."""
        self.end.close()
        self._reader.close()

    @property
    def position(self) -> Position:
        """How far this process has read or written."""
        return Position(self.start.number, self._reader.end)

    @property
    def is_fresh(self) -> bool:
        """Whether nothing stands in the present segment but its first frame."""
        return self._reader.end == self._first

    def is_named(self) -> bool:
        """Whether the names of its files still stand for what is open.

        A file without any name left is no matter here: it was dropped or deleted.
        """
        if self._own is None:
            return True
        segment = os.fstat(self._reader.fd)
        found = self._own.identity(self._reader.path.name)
        if segment.st_nlink and found != identity_of(segment):
            return False
        return self._own.identity(END_FILE) == self.end.identity()

    def require_continued(self, later: Journal) -> None:
        """See that another reading of the directory holds all that was seen here.

        Raises:
            StoreUnavailable: an older or another state was put in its place.
        """
        told, found = self._acknowledged_end(), later.position
        if found >= told and later.has_passed(self.position, self._reader.chain):
            return
        raise StoreUnavailable(
            f"its files were replaced by those of an older or another state: the journal "
            f"there ends at byte {found.end} of segment {found.segment}, and this process "
            f"has seen commits up to byte {told.end} of segment {told.segment} that are "
            "not in it. Put back what was there, or restart the process to go on with what "
            "is there now",
            store=str(self.directory),
        )

    def _acknowledged_end(self) -> Position:
        """How far it is known that commits were acknowledged."""
        return min(unpacked(self.end.observed) or Position(), self.position)

    def has_passed(self, place: Position, chain: int) -> bool:
        """Whether the frames up to a place, if it is there, lead to this checksum."""
        if place > self.position:
            return True
        try:
            reader = SegmentReader.open(
                segment_path(self.directory, place.segment), self._at
            )
        except FileNotFoundError:
            return place.segment < self.start.number
        for _ in reader.payloads(place.end):
            pass
        return (reader.end, reader.chain) == (place.end, chain)

    # -- reading ------------------------------------------------------------------------

    def changed(self) -> bool:
        """Whether there may be unread_end; the quick, usual answer is no."""
        return self.end.changed()

    def unread_end(self) -> Position | None:
        """How far the journal reaches, if that is further than was read.

        It is unread_end until it has been read: a reader that cannot read it is told each time.
        """
        found = self.end.read_raw()
        if found == self.end.observed:
            return None
        position = unpacked(found)
        if position is None:  # a writer is just about to change it
            return None
        if position <= self.position:
            self.end.observed = found
            return None
        return position

    def published(self) -> Position:
        """How far readers have been told that the journal reaches."""
        return self.end.published()

    def effects(self, limit: Position | None = None) -> Iterator[LogRecord]:
        """What the frames from here on do.

        Args:
            limit: up to this place, which was published; None: to the last whole frame.
                That is for who holds the commit lock.

        Raises:
            CorruptFile: a frame on the way is damaged, or the journal ends before what
                was published.
            SegmentDropped: this process has slept for too long.
        """
        while True:
            begun = self._reader.end
            here = limit is not None and limit.segment == self.start.number
            following = None
            for payload in self._reader.payloads(limit.end if limit and here else None):
                yield from payload.effects
                following = payload.next
            if following is None:
                self._check_end(limit)
                return
            if limit is None and self.published().segment < following:
                self.make_durable(begun)  # else what follows it might lose its name
            self._open_next_segment(following)

    def _check_end(self, limit: Position | None) -> None:
        """See that nothing published is missing, and that only a torn frame is left."""
        found = self.end.read_raw()
        told = (unpacked(found) or Position()) if limit is None else limit
        if limit is not None and self.position >= limit:
            return
        damage = self._reader.damage()
        if damage is not None and not damage.torn:
            raise self._reader.corrupt(damage.reason)
        if self.position < told:
            raise self._missing(told)
        self.end.observed = found

    def _missing(self, told: Position) -> CorruptFile:
        here = self.position
        return self._reader.corrupt(
            f"commits are missing that were acknowledged: the journal ends at byte "
            f"{here.end} of segment {here.segment}, and {self.directory / END_FILE} "
            f"tells that it reached byte {told.end} of segment {told.segment}"
        )

    def _open_next_segment(self, number: int) -> None:
        try:
            following = self._open(number, self._reader.chain)
        except FileNotFoundError:
            raise SegmentDropped from None
        self._reader = following

    # -- writing: under the commit lock, and after reading to the end ------------------------

    def grown(self) -> bool:
        """Whether there is more than was read, or should be.

        Raises:
            CorruptFile: there is less than was read.
            SegmentDropped: the file is not there any more.
        """
        return self.size_changed() or self.changed()

    def size_changed(self) -> bool:
        """Whether there is more in the segment than was read; raises as :meth:`grown`."""
        status = os.fstat(self._reader.fd)
        if status.st_nlink == 0:
            raise SegmentDropped
        if status.st_size < self._reader.end:
            raise self._reader.corrupt(
                f"the file has become shorter while in use: it has {status.st_size} "
                f"bytes, and {self._reader.end} were read"
            )
        return status.st_size > self._reader.end

    def cut_torn_tail(self) -> Path:
        """Keep what a crash left of a frame in a file of its own, and cut it off."""
        tail = self._reader.tail()
        number, end = self.position
        aside = self.directory / f"torn-{number:08}-{end}-{time.time_ns()}"
        fd = create(aside, at=self._at)
        try:
            write_all(fd, tail)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.ftruncate(self._reader.fd, end)
        sync(self._reader.fd)
        return aside

    def append(self, payload: bytes) -> None:
        """Write a frame, durable when this returns; readers are told by ``publish``.

        Raises:
            StoreUnavailable: the disk refuses; nothing has changed, if it says so.
        """
        frame, chain = encode_frame(payload, self._reader.chain)
        try:
            write_all(self._reader.fd, frame, self._reader.end)
            _WRITTEN()
            sync(self._reader.fd)
        except OSError as error:
            raise self._roll_back_append(error) from error
        _SYNCED()
        self._reader.end += len(frame)
        self._reader.chain = chain

    def _roll_back_append(self, error: OSError) -> PendStorageError:
        """Cut off what was written of a frame that could not be synced.

        Only now, while the lock is held. If that fails, what stands there is read by the
        next writer as what is left by a process that died.
        """
        try:
            os.ftruncate(self._reader.fd, self._reader.end)
            # After a failed sync, the system takes the pages for clean: only a sync that
            # succeeds with the old length tells that the disk holds what we think it does.
            os.fsync(self._reader.fd)
        except OSError:
            return translate(error, self._reader.path, outcome_known=False)
        return translate(error, self._reader.path)

    def make_durable(self, begun: int) -> None:
        """Have on the disk what another process wrote before it died.

        It is written once more: after a sync that failed, the system takes pages for
        clean that never reached the disk, and the next sync would not write them.

        Args:
            begun: from which byte of the present segment on.
        """
        fd = self._reader.fd
        write_all(fd, os.pread(fd, self._reader.end - begun, begun), begun)
        sync(fd)

    def publish(self) -> None:
        """Tell readers how far the journal reaches now."""
        self.end.publish(self.position)

    def end_segment(self, base: int) -> SegmentReader:
        """Make a new segment, and name it as the last thing in the present one.

        Args:
            base: the highest sequence of the change log so far.

        Returns:
            The new segment, for :meth:`continue_in`.
        """
        start = SegmentStart(
            number=self.start.number + 1,
            chain=encode_frame(encode_end(self.start.number + 1), self._reader.chain)[
                1
            ],
            base=base,
            at=datetime.now(UTC),
        )
        try:
            following = create_segment(self.directory, start, self._at)
        except OSError as error:
            raise translate(error, self.directory) from error
        _SEGMENT_MADE()
        try:
            self.append(encode_end(start.number))
        except BaseException:
            following.close()
            raise
        _SEGMENT_ENDED()
        return following

    def continue_in(self, following: SegmentReader) -> None:
        """Read and write in a new segment from now on."""
        self._first = following.end
        self.start, self._reader = following.reread_start(), following
        self.publish()
