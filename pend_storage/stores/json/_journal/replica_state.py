"""Replica state: rows, journal position and latest history of one process."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from pend_storage._model.records import JSON
from pend_storage.errors import CorruptFile
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.bulk_rows import contents_of
from pend_storage.stores._inmemory.state import LogRecord, State
from pend_storage.stores.json._journal.commit_tokens import TokenIndex
from pend_storage.stores.json._journal.directory_handle import DirectoryHandle
from pend_storage.stores.json._journal.history_reader import entry_of, oldest_kept
from pend_storage.stores.json._journal.journal import Journal, Position, SegmentDropped
from pend_storage.stores.json._journal.log_records import SegmentStart
from pend_storage.stores.json._journal.log_timeline import LogTimeline
from pend_storage.stores.json._journal.segments import numbered, snapshot_path
from pend_storage.stores.json._journal.snapshot import Contents, read_snapshot

__all__ = ["Checkpoint", "History", "ReplicaState", "load"]

_HISTORY_BYTES: Final = 4 << 20
_ROW_BYTES: Final = 300  # what a row costs in memory beside its body, roughly
_ATTEMPTS: Final = 10


class History:
    """Cache of the latest change-log entries, for readers that are nearly up to date."""

    def __init__(self, start: SegmentStart) -> None:
        self._floor = start.base
        self._effects: deque[LogRecord] = deque()
        self._size = 0

    def add(self, effect: LogRecord) -> None:
        """Add an entry; evict the oldest ones beyond 4 MiB."""
        self._effects.append(effect)
        self._size += _size(effect)
        while self._size > _HISTORY_BYTES:
            oldest = self._effects.popleft()
            self._size -= _size(oldest)
            self._floor = oldest.sequence

    def clear(self, upto: int) -> None:
        """Evict the entries up to a sequence number."""
        while self._effects and self._effects[0].sequence <= upto:
            self._size -= _size(self._effects.popleft())
        self._floor = max(self._floor, upto)

    def entry(self, sequence: int) -> LogRecord | None:
        """Return the entry of a sequence number; None if it was evicted."""
        place = bisect_left(self._effects, sequence, key=lambda e: e.sequence)
        found = self._effects[place] if place < len(self._effects) else None
        return found if found is not None and found.sequence == sequence else None

    def count(self, after: int) -> tuple[int, datetime | None] | None:
        """Return number and first time of the entries after a sequence; None as in :meth:`since`."""
        if after < self._floor:
            return None
        place = bisect_right(self._effects, after, key=lambda e: e.sequence)
        left = len(self._effects) - place
        return left, self._effects[place].at if left else None

    @property
    def last(self) -> LogRecord | None:
        """The latest entry; None if there is none."""
        return self._effects[-1] if self._effects else None

    @property
    def floor(self) -> int:
        """The sequence number up to which entries were evicted."""
        return self._floor

    def since(self, after: int) -> list[LogRecord] | None:
        """Return every entry after a sequence number; None if some of them were evicted."""
        if after < self._floor:
            return None
        found: list[LogRecord] = []
        for effect in reversed(self._effects):
            if effect.sequence <= after:
                break
            found.append(effect)
        found.reverse()
        return found


def _size(effect: LogRecord) -> int:
    return sum(_ROW_BYTES + len(row.body or b"") for row in effect.rows)


class Checkpoint(NamedTuple):
    """Checkpoint: a copy of the whole state, as it was between two segments."""

    contents: Contents
    position: Position
    segment: int
    chain: int
    sequence: int
    meta: dict[str, JSON]


class ReplicaState:
    """Apply the journal to the state. Not thread-safe: the owner locks."""

    def __init__(self, state: State, journal: Journal, *, tokens: bool = True) -> None:
        """Begin with the state at the start of the journal's segment.

        Args:
            state: as the snapshot has it.
            journal: at the start of a segment.
            tokens: index the tokens of commits; False: they are found in the files.
        """
        self.state = state
        self.journal = journal
        self.history = History(journal.start)
        self._tokens = TokenIndex(journal.start.at) if tokens else None
        self.timeline: LogTimeline | None = None
        """Of the whole log; only while a reader is further behind than the history."""

    def install(self, effects: Iterable[LogRecord]) -> None:
        """Apply log records to the state, and index them."""
        for effect in effects:
            self.state.install(effect)
            if effect.forgotten:  # what is purged must not be read from memory either
                self.history.clear(self.log_end)
            if (
                effect.sequence
            ):  # others are meta changes, and rows outside of the change log
                self.history.add(effect)
                if self._tokens is not None:
                    self._tokens.add(effect)
                if self.timeline is not None:
                    self.timeline.add(effect)
        if self.timeline is not None and not self.timeline.is_wanted:
            self.timeline = None  # no reader has asked for long: free its memory

    def count(self, after: int) -> tuple[int, datetime | None] | None:
        """Return number and first time of the entries after a sequence number.

        None if they are neither in the history nor in a timeline: read the log, and
        :meth:`adopt_timeline`.

        Raises:
            ChangesExpired: the log is not retained so far back.
        """
        found = self.history.count(after)
        if found is not None or self.timeline is None:
            return found
        journal = self.journal
        oldest = oldest_kept(
            journal.directory, after, journal.position, self.state.name
        )
        if after < self.timeline.base:
            return None
        self.timeline.forget(oldest)
        return self.timeline.count(after)

    def adopt_timeline(self, timeline: LogTimeline) -> bool:
        """Adopt a timeline that was read from the files; False if it ends too early by now.

        Entries committed since it was read are added from the history.
        """
        since = self.history.since(timeline.last)
        if since is None:
            return False
        for effect in since:
            timeline.add(effect)
        self.timeline = timeline
        return True

    def find(self, token: str) -> LogRecord | None:
        """Return the change-log entry of a token, as far back as the log is retained."""
        index = self._tokens
        sequence = None if index is None else index.find(token)
        # Not indexed, and younger than what was evicted: it was never committed.
        if index is not None and sequence is None and not index.is_older(token):
            return None
        found = None if sequence is None else self.history.entry(sequence)
        journal = self.journal
        return found or entry_of(journal.directory, token, journal.position)

    def refresh(self) -> None:
        """Apply what other processes have published.

        Raises:
            SegmentDropped: this process has slept for too long.
        """
        end = self.journal.unread_end()
        if end is not None:
            self.install(self.journal.effects(end))

    def catch_up(self) -> bool:
        """Apply every whole frame, published or not. Hold the commit lock.

        Returns:
            True if a torn frame follows.

        Raises:
            CorruptFile: a frame is damaged, or acknowledged ones are missing.
            SegmentDropped: this process has slept for too long.
        """
        journal = self.journal
        if not journal.grown():
            return False
        begun = journal.position
        self.install(journal.effects())
        if journal.position > max(begun, journal.published()):
            # Recovery: its writer died before it published, perhaps before the sync.
            same = journal.position.segment == begun.segment
            journal.make_durable(begun.end if same else 0)
            journal.publish()
        return journal.size_changed()

    @property
    def log_end(self) -> int:
        """The sequence number of the last change-log entry."""
        last = self.history.last
        return self.journal.start.base if last is None else last.sequence

    def checkpoint(self) -> Checkpoint:
        """Copy the state at the start of a segment."""
        journal, state = self.journal, self.state
        return Checkpoint(
            contents_of(state),
            journal.position,
            journal.start.number,
            journal.start.chain,
            state.sequence,
            {**state.meta},
        )


def load(
    own: DirectoryHandle,
    schema: Schema,
    name: str,
    *,
    state: Callable[[Schema, str], State] = State,
    write: bool = True,
) -> ReplicaState:
    """Load the newest snapshot, and the published part of the journal after it.

    Args:
        own: the store's own directory.
        schema: the collections.
        name: of the store, in errors.
        state: makes the empty state.
        write: False: open every file for reading only.

    Raises:
        CorruptFile: a file is damaged.
        SchemaOutOfDate: written by a newer version of the library.
    """
    directory = own.path
    for _ in range(_ATTEMPTS):
        own.verify_path()
        numbers = numbered(directory, "snapshot")
        if not numbers:
            break
        try:
            path = snapshot_path(directory, numbers[-1])
            found = read_snapshot(path, schema, name, state=state)
            journal = Journal(directory, found.segment, found.chain, own, write=write)
        except FileNotFoundError:
            continue  # another process has just written a newer one, and dropped this
        live = ReplicaState(found.state, journal, tokens=write)
        try:
            live.install(journal.effects(journal.first_end()))
        except SegmentDropped:
            journal.close()
            continue
        except BaseException:
            journal.close()
            raise
        return live
    raise CorruptFile(
        "there is no snapshot, or it names a journal that is not there",
        path=str(directory),
    )
