"""Change log: pages, head, pruning, and the backlog of a follower.

Counting the entries of a large backlog at every call would cost more the larger it is. So
the last count is kept, up to an entry below which nothing can appear any more, and the
next call counts only what was added and what was passed since. That entry is looked up by
number and time: where it is not there any more (pruned, restored, another server behind
the address), everything is counted anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage._model.records import Change, Pending
from pend_storage._model.storable_text import is_storable
from pend_storage.errors import ChangesExpired, ConfigError, Conflict, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.own_names import EQ, GT, LE, OWN
from pend_storage.stores.postgres._connection.server_errors import ServerRefusal
from pend_storage.stores.postgres._connection.wire_format import (
    bigint_array,
    text_array,
)
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._queries.rows import CHANGE_RECORDS, change_of
from pend_storage.stores.postgres._schema.tables import quoted, table_name
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


_PURGED_AT_ONCE: Final = 5_000
_PURGE_DENIED: Final = Statement.make(
    "select t.lacking from (values "
    f"('{OWN}changes', 'UPDATE', 'UPDATE on changes'), "
    f"('{OWN}tombstones', 'DELETE', 'DELETE on tombstones')) "
    "as t (name, privilege, lacking) "
    "where not pg_catalog.has_table_privilege(t.name, t.privilege)"
)
_IS_PURGED: Final = (
    f"r.item operator(pg_catalog.->>) 0 {EQ} $1::text and exists (select from "
    "rows from (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[])) "
    "as w (key, bound) "
    f"where w.key {EQ} (r.item operator(pg_catalog.->>) 1) "
    f"and (r.item operator(pg_catalog.->>) 2)::bigint {LE} w.bound)"
)
# The text of the other records stays as it is: json_agg copies it.
_PURGE_PAGE: Final = Statement.make(
    f"with page as (select c.sequence from {OWN}changes as c "
    f"where c.sequence {GT} $4::bigint order by c.sequence limit {_PURGED_AT_ONCE}), "
    f"purged as (update {OWN}changes as c set records = coalesce((select "
    "pg_catalog.json_agg(r.item order by r.place) "
    "from pg_catalog.json_array_elements(c.records) "
    f"with ordinality as r (item, place) where not ({_IS_PURGED})), '[]'::json) "
    "where c.sequence in (select sequence from page) and exists (select from "
    f"pg_catalog.json_array_elements(c.records) as r (item) where {_IS_PURGED})) "
    "select pg_catalog.max(sequence) from page",
    (0, 1, 1, 0),
)
_PURGE_TOMBSTONES: Final = Statement.make(
    f"delete from {OWN}tombstones as t using "
    "rows from (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[])) "
    "as w (key, bound) "
    f"where t.collection {EQ} $1::text and t.key {EQ} w.key and t.version {LE} w.bound",
    (0, 1, 1),
)


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
        horizon = self._horizon()
        self._client.require_full_schema()
        change: Change | None = None
        while True:
            result = self._page(after, horizon)
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

    def _horizon(self) -> bytes | None:
        """Return the number up to which the log is complete."""
        return self._client.fetch(statements.HORIZON).get_value(0, 0)

    def _page(self, after: int, horizon: bytes | None) -> PGresult:
        """Return the next entries after a number, up to the horizon.

        Raises:
            ChangesExpired: the log is pruned above ``after``.
        """
        values = (b"%d" % after, horizon, b"%d" % _PAGE, b"%d" % MOST_BYTES)
        return self._client.fetch(statements.CHANGES, values)

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

    def purge(
        self, store: Store, collection: str, keys: Iterable[str], *, tombstones: bool
    ) -> bool:
        """Remove records from the entries of the log, and then their tombstones.

        Page by page, each in a transaction of its own: what is done stays done.

        Raises:
            Conflict: a record is there.
            ConfigError: the user lacks a privilege; nothing was changed.
            StoreUnavailable: the server cannot be reached; call it again.
        """
        self._require_privileges()
        name, gone = self._schema[collection].name, sorted(filter(is_storable, keys))
        if not gone:
            return True
        upto = int(self._client.fetch(statements.HORIZON).get_value(0, 0) or 0)
        rows = store.read(name, gone, deleted=True)
        for key, row in rows.items():
            if row.record is not None:
                raise Conflict(collection=name, key=key, expected=0, actual=row.version)
        # What is written again from here on has a higher version, and is left alone.
        bounds = [rows[key].version if key in rows else upto for key in gone]
        wanted = (name.encode(), text_array(gone), bigint_array(bounds))

        def purge_page(connection: LibpqConnection) -> bytes | None:
            result = connection.execute(_PURGE_PAGE, (*wanted, after))
            return result.get_value(0, 0)

        after: bytes | None = b"0"
        while after is not None:
            after = self._client.execute_write(purge_page, idempotent=True)
        if tombstones:
            self._client.execute_write(
                lambda connection: connection.execute(_PURGE_TOMBSTONES, wanted),
                idempotent=True,
            )
        self._vacuum(name)
        return True

    def _require_privileges(self) -> None:
        found = self._client.fetch(_PURGE_DENIED)
        names = [found.get_value(row, 0) or b"" for row in range(found.ntuples)]
        if names:
            raise ConfigError(
                "this user may not change entries of the change log, so nothing was "
                f"purged: it lacks {b' and '.join(names).decode()}. Run it with the URL "
                "of the role that owns the tables."
            )

    def _vacuum(self, collection: str) -> None:
        """Vacuum the tables, so that their files lose the rows; autovacuum does it later.

        The server skips tables that this user does not own, and rows that an open
        transaction may still see.
        """
        table = quoted(table_name(collection))
        vacuum = Statement.make(f"vacuum {OWN}changes, {OWN}tombstones, {OWN}{table}")
        with contextlib.suppress(ConfigError, StoreUnavailable):
            self._client.execute_write(
                lambda connection: connection.execute(vacuum), idempotent=True
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
        found = _PendingCounts.of(self._client.fetch(statements.PENDING, values))
        if found.pruned is not None and after < found.pruned:
            raise ChangesExpired(
                store=self._client.name, after=after, oldest=found.pruned
            )
        return found

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
