"""Archive as a reader of the journal: how far it is, and what it did not get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from pend_storage._archive_hold import ARCHIVE_META, ArchiveHold
from pend_storage.events import Hook
from pend_storage.phases import Role
from pend_storage.stores.json._journal.compaction import Retention
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.segments import numbered, read_start

__all__ = ["ArchiveReader"]


class ArchiveReader:
    """Archive of one directory's change log."""

    def __init__(self, engine: Engine, retention: Retention, hook: Hook) -> None:
        self._engine = engine
        self._retention = timedelta(seconds=retention.seconds)
        self._most = timedelta(seconds=retention.archive_hold)
        self._hook = hook

    def _hold(self) -> ArchiveHold | None:
        value = self._engine.read_state(lambda state: state.meta.get(ARCHIVE_META))
        return ArchiveHold.of(value)

    def limit(self, upto: int | None) -> int | None:
        """Return up to where entries may be dropped by age; None: no entry is held.

        Args:
            upto: how far other readers are; None: all have passed the log.
        """
        hold = self._hold()
        if hold is None:
            return upto
        return hold.limit(upto, retention=self._retention, most=self._most)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Emit an event where entries are dropped in a block that are not archived."""
        before = self._begin()
        yield
        hold = self._hold()
        if hold is None:
            return
        end = self._begin()
        role = self._engine.read_state(lambda state: state.role.role)
        # The log of a store that follows has no new entries, and its segments begin at the
        # versions that it has applied.
        if end > max(before, hold.sequence) and role is Role.PRIMARY:
            self._hook(hold.exceeded(end, str(self._engine.directory.parent)))

    def _begin(self) -> int:
        """Return the number after which the log is kept."""
        directory = self._engine.directory
        for number in numbered(directory, "journal"):
            try:
                return read_start(directory, number).base
            except FileNotFoundError:  # dropped by another process
                continue
        return 0
