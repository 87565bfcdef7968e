"""Change log: pages, head, pruning, and the backlog of a follower.

Counting the entries of a large backlog at every call would cost more the larger it is. So
the last count is kept, up to an entry below which nothing can appear any more, and the
next call counts only what was added and what was passed since. That entry is looked up by
number and time: where it is not there any more (pruned, restored, another server behind
the address), everything is counted anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage._model.records import Change, Pending
from pend_storage.errors import ChangesExpired, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.server_errors import ServerRefusal
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._queries.rows import CHANGE_RECORDS, change_of
from pend_storage.stores.postgres._writes.commit_batches import MOST_BYTES

__all__ = ["ChangeLog"]

_NO_PRIVILEGE: Final = "42501"
_PAGE: Final = 200
"""Commits in memory at a time; their records have as many bytes as a group of commits,
but for the last one."""
_WORTH_MOVING: Final = 1_000
"""Entries passed, after which the count begins further on. Not with each one: a caller
that asks about a mark asks about the place right before it as well.
"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Count:
    """Number of entries after one sequence number, up to another one."""

    after: int
    upto: int
    at: int
    """Time of the entry ``upto``, in microseconds since 1970."""
    entries: int

    @classmethod
    def nothing(cls, after: int) -> _Count:
        return cls(after, after, 0, 0)


@dataclass(frozen=True, slots=True)
class _PendingCounts:
    """Result of one statement, on top of a count."""

    passed: int
    added: int
    final: int
    """Of the entries added, those below all that may still appear."""
    last: int | None
    last_at: int | None
    oldest_at: int | None
    pruned: int | None
    is_there: bool
    """Whether the last entry of the count is still in the log."""

    @classmethod
    def of(cls, result: PGresult) -> _PendingCounts:
        fields = [result.get_value(0, column) for column in range(8)]
        numbers = [None if f is None else int(f) for f in fields[:7]]
        passed, added, final, last, last_at, oldest_at, pruned = numbers
        return cls(
            passed=passed or 0,
            added=added or 0,
            final=final or 0,
            last=last,
            last_at=last_at,
            oldest_at=oldest_at,
            pruned=pruned,
            is_there=fields[7] == b"t",
        )


class ChangeLog:
    """Change log of one database. Thread-safe."""

    def __init__(self, schema: Schema, client: DatabaseClient, hook: Hook) -> None:
        self._schema = schema
        self._client = client
        self._hook = hook
        self._was_refused = False
        """Whether the server has refused a pruning, which is reported once."""
        self._known: _Count | None = None

    def changes(self, after: int = 0) -> Iterator[Change]:
        """Read the log in pages; see :meth:`Store.changes`.

        Raises:
            ChangesExpired: the log is pruned above ``after``.
            StoreUnavailable: the server cannot be reached, or was replaced meanwhile.
        """
        horizon = self._client.fetch(statements.HORIZON).get_value(0, 0)
        self._client.require_full_schema()
        change: Change | None = None
        while True:
            values = (b"%d" % after, horizon, b"%d" % _PAGE, b"%d" % MOST_BYTES)
            result = self._client.fetch(statements.CHANGES, values)
            if change is not None:
                self._require_continued(change)
            size = 0
            for index in range(result.ntuples):
                size += len(result.get_value(index, CHANGE_RECORDS) or b"")
                change = change_of(self._schema, result, index)
                yield change
                after = change.sequence
            if result.ntuples < _PAGE and size < MOST_BYTES:
                return

    def _require_continued(self, change: Change) -> None:
        """Verify that the page just read continues the log of the previous page."""
        # Checked after the page was read: if the entry before it is still there, both
        # are of one history, whatever server has answered.
        try:
            oldest = self.pending(change.sequence - 1).oldest
        except ChangesExpired:
            oldest = None
        if oldest != change.at:
            raise StoreUnavailable(
                "while its change log was read, another server came in its place, or the "
                "log was pruned; it has to be read again",
                store=self._client.name,
            )

    def head(self) -> int:
        """Sequence number below every later commit."""
        return int(self._client.fetch(statements.HEAD).get_value(0, 0) or 0)

    def prune(self, upto: int) -> None:
        """Delete entries up to a sequence number, or to the horizon if it is lower.

        A role that may only add to the log deletes nothing, and reports that once.
        """
        horizon = int(self._client.fetch(statements.HORIZON).get_value(0, 0) or 0)
        values = (b"%d" % min(upto, horizon),)

        def attempt(connection: LibpqConnection) -> bool:
            try:
                connection.execute(statements.PRUNE, values)
            except ServerRefusal as refusal:
                if refusal.code != _NO_PRIVILEGE:
                    raise
                return False
            return True

        is_pruned = self._client.execute_write(attempt, idempotent=True)
        if not is_pruned and not self._was_refused:
            self._was_refused = True
            self._hook(
                Event(
                    "prune-refused",
                    f"{self._client.name}: the database role may only add to the change "
                    "log, so old entries stay. Schedule `pend-storage db prune` as the "
                    "archiver or the owner",
                    logging.WARNING,
                    {"store": self._client.name},
                )
            )

    def pending(self, after: int) -> Pending:
        """Count the entries after a sequence number: one statement, mostly.

        Raises:
            ChangesExpired: the log is pruned above ``after``.
            StoreUnavailable: the server cannot be reached.
        """
        known = self._known
        if known is not None and known.after <= after <= known.upto:
            counts = self._query_counts(after, known)
            if counts.is_there and (counts.pruned or 0) <= known.after:
                return self._update(after, known, counts)
        start = _Count.nothing(after)
        return self._update(after, start, self._query_counts(after, start))

    def _query_counts(self, after: int, known: _Count) -> _PendingCounts:
        places = (after, known.after, known.upto, known.at)
        values = [b"%d" % place for place in places]
        return _PendingCounts.of(self._client.fetch(statements.PENDING, values))

    def _update(self, after: int, known: _Count, counts: _PendingCounts) -> Pending:
        """Keep the new count, and return the backlog."""
        counted = known.entries - counts.passed
        start, entries = known.after, known.entries
        if counts.passed >= _WORTH_MOVING:
            start, entries = after, counted
        if counts.last is not None and counts.last_at is not None:
            entries += counts.final
            self._known = _Count(start, counts.last, counts.last_at, entries)
        elif known.entries:
            self._known = _Count(start, known.upto, known.at, entries)
        oldest = counts.oldest_at
        moment = None if oldest is None else _EPOCH + timedelta(microseconds=oldest)
        return Pending(counted + counts.added, moment)
