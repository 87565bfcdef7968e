"""How much of the change log a follower has not got yet: counted once, then kept up.

Counting the entries of a large backlog at every look would cost more the larger it is.
So the last count is kept, up to an entry below which nothing can appear any more, and the
next look counts only what was added and what was passed since. The entry is looked for by
number and time: where it is not there any more (pruned, restored, another server behind the
address), everything is counted anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage._records import Pending
from pend_storage.stores.postgres import statements
from pend_storage.stores.postgres.server import Server

__all__ = ["Backlog"]

_WORTH_MOVING: Final = 1_000
"""Entries passed, after which the count begins further on. Not with each one: who asks
about a mark asks about the place right before it as well."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Count:
    """Entries after one place, up to another one."""

    after: int
    upto: int
    at: int
    """Time of the entry ``upto``, in microseconds since 1970."""
    entries: int

    @classmethod
    def nothing(cls, after: int) -> _Count:
        return cls(after, after, 0, 0)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one statement finds, on top of a count."""

    passed: int
    added: int
    final: int
    """Of those added, how many lie below all that may still appear."""
    last: int | None
    last_at: int | None
    oldest_at: int | None
    pruned: int | None
    is_there: bool
    """Whether the last entry of the count is still in the log."""

    @classmethod
    def of(cls, result: PGresult) -> _Look:
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


class Backlog:
    """Counts the change log of one store. Safe to share between threads."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: _Count | None = None

    def pending(self, after: int) -> Pending:
        """See :meth:`Store.pending`; one statement, mostly.

        Raises:
            ChangesExpired: the log is not kept so far back.
            StoreUnavailable: the server cannot be reached.
        """
        known = self._known
        if known is not None and known.after <= after <= known.upto:
            look = self._look(after, known)
            if look.is_there and (look.pruned or 0) <= known.after:
                return self._take(after, known, look)
        start = _Count.nothing(after)
        return self._take(after, start, self._look(after, start))

    def _look(self, after: int, known: _Count) -> _Look:
        places = (after, known.after, known.upto, known.at)
        values = [b"%d" % place for place in places]
        return _Look.of(self._server.ask(statements.PENDING, values))

    def _take(self, after: int, known: _Count, look: _Look) -> Pending:
        counted = known.entries - look.passed
        start, entries = known.after, known.entries
        if look.passed >= _WORTH_MOVING:
            start, entries = after, counted
        if look.last is not None and look.last_at is not None:
            self._known = _Count(start, look.last, look.last_at, entries + look.final)
        elif known.entries:
            self._known = _Count(start, known.upto, known.at, entries)
        oldest = look.oldest_at
        moment = None if oldest is None else _EPOCH + timedelta(microseconds=oldest)
        return Pending(counted + look.added, moment)
