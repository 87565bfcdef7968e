"""Applier: applies another store's changes, in few statements."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from psycopg.pq.abc import PGresult

from pend_storage._model.records import JSON, Advance, ChangedRecord
from pend_storage.codec import dump_json
from pend_storage.errors import StalePosition
from pend_storage.schema import Schema
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.server_errors import (
    ServerRefusal,
    raise_stale,
)
from pend_storage.stores.postgres._connection.wire_format import (
    Value,
    bigint_array,
    flag,
    json_array,
    number,
    text_array,
)
from pend_storage.stores.postgres._queries import statements
from pend_storage.stores.postgres._queries.statements import CollectionStatements
from pend_storage.stores.postgres._writes.bulk_copy import BulkCopier
from pend_storage.stores.postgres._writes.commit_batches import MOST_BYTES
from pend_storage.stores.postgres._writes.commit_retry import retry_exclusive

__all__ = ["Applier"]

_COPY_THRESHOLD: Final = 257
"""Number of rows from which the three further round trips of a COPY pay. Not below what
makes an apply take the store lock exclusively, because COPY relies on that.
"""
_ANALYZE_THRESHOLD: Final = 2_000
"""Rows copied into a table after which it is analyzed; then at each doubling."""


@dataclass(frozen=True, slots=True)
class _ApplyPlan:
    """Deduplicated changes of one apply: each key once, at its highest version."""

    mark: Advance | None
    top: int
    """Highest version of all."""
    bulk: dict[str, list[ChangedRecord]] = field(default_factory=dict)
    """Rows to copy, by collection and in key order."""
    rest: list[_AppliedRow] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the rows that are not copied."""
        return sum(item.size for item in self.rest)


class _AppliedRow(NamedTuple):
    """Row or tombstone to apply, with its record in JSON."""

    collection: str
    key: str
    version: int
    body: bytes | None

    @property
    def size(self) -> int:
        return 0 if self.body is None else len(self.body)


class Applier:
    """Applies changes to one store."""

    def __init__(
        self,
        schema: Schema,
        client: DatabaseClient,
        known: Mapping[str, CollectionStatements],
        *,
        retry_timeout: float,
    ) -> None:
        """Configure the applier.

        Args:
            schema: of the store.
            client: executes the statements.
            known: the statements of each collection.
            retry_timeout: seconds for which the store lock is requested, in all.
        """
        self._schema = schema
        self._client = client
        self._retry_timeout = retry_timeout
        self._known = known
        self._copiers = {spec.name: BulkCopier(spec) for spec in schema}
        self._copied = dict.fromkeys(self._copiers, 0)
        self._analyze_at = dict.fromkeys(self._copiers, _ANALYZE_THRESHOLD)

    def plan(
        self, records: Sequence[ChangedRecord], mark: Advance | None
    ) -> _ApplyPlan:
        """Deduplicate changes, and select those to copy.

        Args:
            records: changes, in any order.
            mark: the position to move with them, if any.

        Raises:
            UnknownCollection: a record is of no collection of the schema.
        """
        newest: dict[tuple[str, str], ChangedRecord] = {}
        for item in records:
            place = (self._schema[item.collection].name, item.key)
            known = newest.get(place)
            if known is None or item.version > known.version:
                newest[place] = item
        puts: dict[str, list[ChangedRecord]] = {}
        plan = _ApplyPlan(
            mark, max((item.version for item in newest.values()), default=0)
        )
        for item in newest.values():
            if item.record is None:
                plan.rest.append(self._item(item))
            else:
                puts.setdefault(item.collection, []).append(item)
        for collection, items in puts.items():
            if len(items) < _COPY_THRESHOLD:
                plan.rest.extend(map(self._item, items))
            else:
                plan.bulk[collection] = sorted(items, key=lambda item: item.key)
        return plan

    def apply(
        self, connection: LibpqConnection, plan: _ApplyPlan, epoch: int | None
    ) -> int:
        """Apply a plan in one transaction; returns the number of rows written.

        Args:
            connection: outside of a transaction.
            plan: from :meth:`plan`.
            epoch: at which the store must be secondary; None: not checked.

        Raises:
            StaleEpoch: the store is not secondary at the epoch.
            StalePosition: the stored position is not the expected one.
            StoreUnavailable: another session holds a lock for too long.
        """

        def attempt() -> int:
            # Most applies are a single statement, which is a transaction of its own.
            if not plan.bulk and plan.size <= MOST_BYTES:
                written = self._call(connection, plan, plan.rest, plan.mark, epoch)
                if written is not None:
                    return written
                # A stranger holds the lock of a key: the store lock alone will do.
            return self._apply_in_parts(connection, plan, epoch)

        written = retry_exclusive(self._client, self._retry_timeout, attempt)
        for collection in plan.bulk:
            self._analyze(connection, collection)
        return written

    def _apply_in_parts(
        self, connection: LibpqConnection, plan: _ApplyPlan, epoch: int | None
    ) -> int:
        mark = plan.mark
        with connection.transaction():
            values = (
                number(epoch),
                None if mark is None else mark.name.encode(),
                None if mark is None else _json(mark.expected),
            )
            entered = connection.execute(statements.APPLY_ENTER, values)
            self._raise_refusal(_text(entered), mark)
            written, rest = 0, list(plan.rest)
            for collection, items in plan.bulk.items():
                if self._copy(connection, collection, items):
                    written += len(items)
                else:
                    rest += map(self._item, items)
            # The last call moves the position: it compares it again, after all the rows.
            *parts, last = _split(rest)
            for part in parts:
                written += self._call_alone(connection, plan, part, None, epoch)
            return written + self._call_alone(connection, plan, last, mark, epoch)

    def _raise_refusal(self, answer: str, mark: Advance | None) -> None:
        raise_stale(answer, self._client.name)
        if answer == "position":
            assert mark is not None  # noqa: S101 - nothing else is compared
            raise StalePosition(store=self._client.name, name=mark.name)

    def _copy(
        self, connection: LibpqConnection, collection: str, items: list[ChangedRecord]
    ) -> bool:
        """Copy rows if the range of their keys is empty.

        A backfill proceeds in key order, so it usually is. The lock that the
        transaction holds keeps it so.
        """
        bounds = (items[0].key.encode(), items[-1].key.encode())
        free = connection.execute(self._known[collection].is_range_empty, bounds)
        if free.get_value(0, 0) != b"t":
            return False
        self._copiers[collection].copy(connection, items)
        self._copied[collection] += len(items)
        return True

    def _analyze(self, connection: LibpqConnection, collection: str) -> None:
        """Update the planner's statistics, after the transaction that copied rows.

        Until autovacuum runs, the planner assumes an empty table, and would sort all of
        it for each page of a scan. Where another session holds the table, it is left to
        autovacuum.
        """
        if self._copied[collection] < self._analyze_at[collection]:
            return
        # At each doubling: the cost stays proportional to the rows that were copied.
        self._analyze_at[collection] = 2 * self._copied[collection]
        with contextlib.suppress(ServerRefusal), connection.transaction():
            connection.execute(statements.LIMIT_LOCK_WAIT)
            connection.execute_text(f"analyze {self._known[collection].table}")

    def _call(
        self,
        connection: LibpqConnection,
        plan: _ApplyPlan,
        items: Sequence[_AppliedRow],
        mark: Advance | None,
        epoch: int | None,
        *,
        alone: bool = False,
    ) -> int | None:
        """Apply rows by one call; None: a stranger holds the lock of a key."""
        values: tuple[Value, ...] = (
            number(epoch),
            text_array(item.collection for item in items),
            text_array(item.key for item in items),
            bigint_array([item.version for item in items]),
            json_array([item.body for item in items]),
            number(plan.top),
            None if mark is None else mark.name.encode(),
            None if mark is None else _json(mark.expected),
            None if mark is None else _json(mark.value),
            flag(alone),
        )
        answer = _text(connection.execute(statements.APPLY, values))
        self._raise_refusal(answer, mark)
        return None if answer == "alone" else int(answer)

    def _call_alone(
        self,
        connection: LibpqConnection,
        plan: _ApplyPlan,
        items: Sequence[_AppliedRow],
        mark: Advance | None,
        epoch: int | None,
    ) -> int:
        """Apply rows in a transaction that holds the store lock exclusively."""
        written = self._call(connection, plan, items, mark, epoch, alone=True)
        assert written is not None  # noqa: S101 - it takes no lock of a key
        return written

    def _item(self, item: ChangedRecord) -> _AppliedRow:
        body = None
        if item.record is not None:
            codec = self._schema[item.collection].codec
            body = codec.encode(item.record)
            codec.check_size(item.record, item.key, body)  # the server names no record
        return _AppliedRow(item.collection, item.key, item.version, body)


def _split(items: Sequence[_AppliedRow]) -> list[list[_AppliedRow]]:
    """Split rows into calls of bounded size; at least one call."""
    parts: list[list[_AppliedRow]] = [[]]
    size = 0
    for item in items:
        if parts[-1] and size + item.size > MOST_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += item.size
    return parts


def _json(value: JSON) -> Value:
    return None if value is None else dump_json(value)


def _text(result: PGresult) -> str:
    return (result.get_value(0, 0) or b"").decode()
