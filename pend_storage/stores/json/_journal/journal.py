"""Journal: the write-ahead log. Frames in segments, one writer at a time, many readers.

A writer holds the commit lock. It appends a frame, syncs it, and then publishes the new end,
in a file of its own. Readers hold no lock: they compare that file with what they read last,
and read on if it has changed. So no reader ever sees a frame that is not on the disk yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pend_storage import crashpoints
from pend_storage._files.directory import Directory
from pend_storage._files.durability import sync, write_all
from pend_storage._files.failures import translate
from pend_storage.errors import CorruptFile, PendStorageError, StoreUnavailable
from pend_storage.stores._inmemory.state import LogRecord
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
    "json.frame-synced", "a frame is synced, but not published"
)
_SEGMENT_MADE = crashpoints.declare(
    "json.segment-made", "a new segment exists, but the old one does not name it"
)
_SEGMENT_ENDED = crashpoints.declare(
    "json.segment-ended", "the old segment names the new one; no snapshot yet"
)


class SegmentDropped(Exception):
    """The next segment was dropped by compaction: load the newest snapshot."""


def create_segment(own: Directory, start: SegmentStart) -> SegmentReader:
    """Create a segment with its first frame, sync it, and return its reader.

    Args:
        own: the store's own directory.
        start: payload of the first frame.
    """
    path = segment_path(own.path, start.number)
    # Left by a process that died before the segment before named it.
    own.unlink(path.name)
    reader = SegmentReader(path, own.create(path.name))
    frame, chain = encode_frame(encode_start(start), 0)
    try:
        write_all(reader.fd, frame)
        os.fsync(reader.fd)
        own.sync()
    except BaseException:
        reader.close()
        raise
    reader.end, reader.chain = len(frame), chain
    return reader


class Journal:
    """Cursor of one process in the journal. Not thread-safe: the owner locks."""

    def __init__(
        self,
        directory: Path,
        number: int,
        chain: int,
        own: DirectoryHandle | None = None,
        *,
        write: bool = True,
    ) -> None:
        """Open the journal at the start of a segment.

        Args:
            directory: the store's own directory.
            number: of the segment.
            chain: checksum at the end of the segment before.
            own: handle of the directory, if it is open.
            write: False: for reading only, so that no file need be writable.

        Raises:
            CorruptFile: the segment does not continue the one before.
            FileNotFoundError: it has been dropped.
        """
        self.directory = directory
        self._writes = write
        self._own = own
        self._directory = own or Directory(directory)
        self._reader = self._open(number, chain)
        self.end = EndFile(self._directory, write=write)

    def _open(self, number: int, chain: int) -> SegmentReader:
        reader = SegmentReader.open(
            segment_path(self.directory, number), self._directory, write=self._writes
        )
        try:
            self.start = reader.expected_start(number, chain)
            """Payload of the first frame of the present segment."""
        except BaseException:
            reader.close()
            raise
        self._first = reader.end
        return reader

    def close(self) -> None:
        """Close all descriptors."""
        self.end.close()
        self._reader.close()

    @property
    def position(self) -> Position:
        """Position up to which this process has read or written."""
        return Position(self.start.number, self._reader.end)

    @property
    def is_fresh(self) -> bool:
        """True if the present segment has only its first frame."""
        return self._reader.end == self._first

    def is_named(self) -> bool:
        """Return True if the names of its files still lead to the open ones.

        A file without any name left does not count here: :meth:`size_changed` notices it.
        """
        if self._own is None:
            return True
        segment = os.fstat(self._reader.fd)
        found = self._own.identity(self._reader.path.name)
        if segment.st_nlink and found != identity_of(segment):
            return False
        return self._own.identity(END_FILE) == self.end.identity()

    def require_continued(self, later: Journal) -> None:
        """Require that ``later``, the journal loaded again, has every acknowledged commit.

        Raises:
            StoreUnavailable: the files were replaced by an older or another state.
        """
        acknowledged, found = self._acknowledged_end(), later.position
        if found >= acknowledged and later.has_passed(
            self.position, self._reader.chain
        ):
            return
        raise StoreUnavailable(
            f"its files were replaced by those of an older or another state: the journal "
            f"there ends at byte {found.end} of segment {found.segment}, and this process "
            f"has seen commits up to byte {acknowledged.end} of segment {acknowledged.segment} that are "
            "not in it. Put back what was there, or restart the process to go on with what "
            "is there now",
            store=str(self.directory),
        )

    def _acknowledged_end(self) -> Position:
        """Return the position up to which commits are known to be acknowledged."""
        return min(unpacked(self.end.observed) or Position(), self.position)

    def has_passed(self, place: Position, chain: int) -> bool:
        """Return True if the frames up to a position lead to this checksum.

        The chain covers every frame before. True too if the segment was dropped.
        """
        if place > self.position:
            return True
        try:
            reader = SegmentReader.open(
                segment_path(self.directory, place.segment), self._directory
            )
        except FileNotFoundError:
            return place.segment < self.start.number
        for _ in reader.payloads(place.end):
            pass
        return (reader.end, reader.chain) == (place.end, chain)

    # -- reading ------------------------------------------------------------------------

    def changed(self) -> bool:
        """Return True if another process may have published; usually not."""
        return self.end.changed()

    def unread_end(self) -> Position | None:
        """Return the published end if this process has not read up to it; else None.

        Not marked as observed before it was read: a reader that fails gets it again.
        """
        found = self.end.read_raw()
        if found == self.end.observed:
            return None
        position = unpacked(found)
        if position is None:  # torn: another process is writing it at this moment
            return None
        if position <= self.position:
            self.end.observed = found
            return None
        return position

    def published(self) -> Position:
        """Return the published end of the journal."""
        return self.end.published()

    def first_end(self) -> Position | None:
        """Return the end up to which to read at first, never behind the snapshot.

        None where a damaged end file hides it from a reader: it takes every whole frame.
        """
        found = self.end.published() if self._writes else self.end.settled()
        return None if found is None else max(found, self.position)

    def effects(self, limit: Position | None = None) -> Iterator[LogRecord]:
        """Yield the log records from the present position on, through all segments.

        Args:
            limit: a published position to stop at; None: the last whole frame, which
                only a holder of the commit lock may ask for.

        Raises:
            CorruptFile: a frame is damaged, or one before the published end is missing.
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
            if limit is None and self._writes and following > self.published().segment:
                # A dead writer may not have synced the frame that names the next segment:
                # after a power failure, that segment could not be found.
                self.make_durable(begun)
            self._open_next_segment(following)

    def _check_end(self, limit: Position | None) -> None:
        """Require that every published frame was read, and that only a torn frame is left."""
        found = self.end.read_raw()
        published = (unpacked(found) or Position()) if limit is None else limit
        if limit is not None and self.position >= limit:
            return
        damage = self._reader.damage()
        if damage is not None and not damage.torn:
            raise self._reader.corrupt(damage.reason)
        if self.position < published:
            raise self._missing(published)
        self.end.observed = found

    def _missing(self, published: Position) -> CorruptFile:
        here = self.position
        return self._reader.corrupt(
            f"acknowledged commits are missing: the journal ends at byte "
            f"{here.end} of segment {here.segment}, and {self.directory / END_FILE} "
            f"has byte {published.end} of segment {published.segment} as the published end"
        )

    def _open_next_segment(self, number: int) -> None:
        try:
            following = self._open(number, self._reader.chain)
        except FileNotFoundError:
            raise SegmentDropped from None
        self._reader = following

    # -- writing: under the commit lock, and after reading to the end ------------------------

    def grown(self) -> bool:
        """Return True if the journal has, or should have, more than was read.

        Raises:
            CorruptFile: it has less than was read.
            SegmentDropped: the file was deleted.
        """
        return self.size_changed() or self.changed()

    def size_changed(self) -> bool:
        """Return True if the segment is longer than was read; raises as :meth:`grown`."""
        status = os.fstat(self._reader.fd)
        if status.st_nlink == 0:
            raise SegmentDropped
        if status.st_size < self._reader.end:
            raise self._reader.corrupt(
                f"the file was truncated while in use: it has {status.st_size} "
                f"bytes, and {self._reader.end} were read"
            )
        return status.st_size > self._reader.end

    def cut_torn_tail(self) -> Path:
        """Move a torn frame to a file of its own; return the path of that file."""
        tail = self._reader.tail()
        number, end = self.position
        aside = self.directory / f"torn-{number:08}-{end}-{time.time_ns()}"
        fd = self._directory.create(aside.name)
        try:
            write_all(fd, tail)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.ftruncate(self._reader.fd, end)
        sync(self._reader.fd)
        return aside

    def append(self, payload: bytes) -> None:
        """Append a frame and sync it; readers see it after :meth:`publish`.

        Raises:
            StoreUnavailable: the disk refuses; ``outcome_known``: the frame was removed.
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
        """Truncate a frame that could not be written or synced; return the error to raise.

        Only now, while the lock is held. If truncation fails, the next writer reads the
        frame as one of a process that died: it may still be committed.
        """
        try:
            os.ftruncate(self._reader.fd, self._reader.end)
            # After a failed sync, the kernel marks the pages as clean: only a sync that
            # succeeds with the old length proves what the disk holds.
            os.fsync(self._reader.fd)
        except OSError:
            return translate(error, self._reader.path, outcome_known=False)
        return translate(error, self._reader.path)

    def make_durable(self, begun: int) -> None:
        """Sync frames that another process wrote before it died.

        They are written once more, from the offset ``begun`` on: after a failed sync, the
        kernel marks pages as clean that never reached the disk, and would skip them.
        """
        fd = self._reader.fd
        write_all(fd, os.pread(fd, self._reader.end - begun, begun), begun)
        sync(fd)

    def publish(self) -> None:
        """Publish the present position: readers may read up to it."""
        self.end.publish(self.position)

    def end_segment(self, base: int) -> SegmentReader:
        """Create the next segment, and name it in the last frame of the present one.

        Args:
            base: the highest sequence number of the change log so far.
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
            following = create_segment(self._directory, start)
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
        """Move the cursor to a new segment, and publish it."""
        self._first = following.end
        self.start, self._reader = following.reread_start(), following
        self.publish()
