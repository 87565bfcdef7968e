"""The state and the journal as one process knows them, kept in step with each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from pend_storage.errors import CorruptFile
from pend_storage.records import JSON
from pend_storage.schema import Schema
from pend_storage.stores.json.journal import Journal, Position, SegmentDropped
from pend_storage.stores.json.segments import numbered, snapshot_path
from pend_storage.stores.json.snapshot import Contents, contents_of, read_snapshot
from pend_storage.stores.state import Effect, State

__all__ = ["Cut", "History", "Live", "load"]

_HISTORY_BYTES: Final = 4 << 20
_ROW_BYTES: Final = 300  # what a row costs in memory beside its body, roughly
_ATTEMPTS: Final = 10


class History:
    """The latest entries of the change log, for feeds that are nearly up to date."""

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._effects: deque[Effect] = deque()
        self._size = 0

    def add(self, effect: Effect) -> None:
        """Take note of an entry; the oldest ones are forgotten when there are many."""
        self._effects.append(effect)
        self._size += _size(effect)
        while self._size > _HISTORY_BYTES:
            oldest = self._effects.popleft()
            self._size -= _size(oldest)
            self._floor = oldest.sequence

    def since(self, after: int) -> list[Effect] | None:
        """Every entry after a sequence; None where some of them are forgotten."""
        if after < self._floor:
            return None
        found: list[Effect] = []
        for effect in reversed(self._effects):
            if effect.sequence <= after:
                break
            found.append(effect)
        found.reverse()
        return found


def _size(effect: Effect) -> int:
    return sum(_ROW_BYTES + len(row.body or b"") for row in effect.rows)


class Cut(NamedTuple):
    """The whole state as it was between two segments."""

    contents: Contents
    position: Position
    segment: int
    chain: int
    sequence: int
    meta: dict[str, JSON]


class Live:
    """State and journal. Its owner sees that threads take turns."""

    def __init__(self, state: State, journal: Journal) -> None:
        self.state = state
        self.journal = journal
        self.history = History(journal.start.base)

    def install(self, effects: Iterable[Effect]) -> None:
        """Make what is in the journal visible."""
        for effect in effects:
            self.state.install(effect)
            if effect.sequence:
                self.history.add(effect)

    def look(self) -> None:
        """See what other processes have committed.

        Raises:
            SegmentDropped: this process has slept for too long.
        """
        news = self.journal.news()
        if news is not None:
            self.install(self.journal.effects(news))

    def catch_up(self) -> bool:
        """Read to the very end, under the commit lock.

        Returns:
            Whether what is left of a frame stands there, that was never finished.

        Raises:
            CorruptFile: a frame is damaged.
            SegmentDropped: this process has slept for too long.
        """
        journal = self.journal
        journal.repair()
        if not journal.size_changed():
            return False
        before = journal.position
        self.install(journal.effects())
        if journal.position != before and journal.position > journal.published():
            # Its writer died before it could tell anyone, perhaps before the sync.
            journal.sync()
            journal.publish()
        return journal.size_changed()

    def cut(self) -> Cut:
        """A copy of the state at the start of a segment."""
        journal, state = self.journal, self.state
        return Cut(
            contents_of(state),
            journal.position,
            journal.start.number,
            journal.start.chain,
            state.sequence,
            {**state.meta},
        )


def load(directory: Path, schema: Schema, name: str) -> Live:
    """Load the newest snapshot, and what is published in the journal after it.

    Raises:
        CorruptFile: a file is damaged.
        SchemaOutOfDate: a newer version of the library has written it.
    """
    for _ in range(_ATTEMPTS):
        numbers = numbered(directory, "snapshot")
        if not numbers:
            break
        try:
            found = read_snapshot(snapshot_path(directory, numbers[-1]), schema, name)
            journal = Journal(directory, found.segment, found.chain)
        except FileNotFoundError:
            continue  # another process has just replaced it by a newer one
        live = Live(found.state, journal)
        try:
            live.install(journal.effects(max(journal.published(), journal.position)))
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
