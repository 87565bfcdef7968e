"""Applies: another store's changes, in few statements whatever their number."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from psycopg.pq.abc import PGresult

from pend_storage.codec import dump_json
from pend_storage.errors import StalePosition
from pend_storage.records import JSON, Advance, ChangedRecord
from pend_storage.schema import Schema
from pend_storage.stores.postgres import statements
from pend_storage.stores.postgres.bulk import Copier
from pend_storage.stores.postgres.commit_batches import MOST_BYTES
from pend_storage.stores.postgres.errors import ServerRefusal, raise_stale
from pend_storage.stores.postgres.link import Link
from pend_storage.stores.postgres.repeating import unhurried
from pend_storage.stores.postgres.server import Server
from pend_storage.stores.postgres.statements import CollectionStatements
from pend_storage.stores.postgres.wire import (
    Value,
    bigint_array,
    json_array,
    number,
    text_array,
)

__all__ = ["Applier"]

_WORTH_COPYING: Final = 257
"""From so many rows on, the three further round trips of a COPY pay. Not below what
makes an apply hold the store's lock alone, because COPY relies on that."""
_WORTH_ANALYZING: Final = 2_000
"""Rows copied into a table after which the planner is told of them; then at each
doubling."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What there is to apply: each key once, with its highest version."""

    mark: Advance | None
    top: int
    """The highest version of all."""
    many: dict[str, list[ChangedRecord]] = field(default_factory=dict)
    """By collection, in key order: enough rows for a COPY."""
    rest: list[_Item] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of what is not worth a COPY."""
        return sum(item.size for item in self.rest)


class _Item(NamedTuple):
    """A row or tombstone to apply, with its record in JSON."""

    collection: str
    key: str
    version: int
    body: bytes | None

    @property
    def size(self) -> int:
        return 0 if self.body is None else len(self.body)


class Applier:
    """Runs the applies of one store."""

    def __init__(
        self,
        schema: Schema,
        server: Server,
        known: Mapping[str, CollectionStatements],
        *,
        patience: float,
    ) -> None:
        """Make one.

        Args:
            schema: of the store.
            server: where it is applied.
            known: the statements of each collection.
            patience: seconds for which the store's lock is waited for, all in all.
        """
        self._schema = schema
        self._server = server
        self._patience = patience
        self._known = known
        self._copiers = {spec.name: Copier(spec) for spec in schema}
        self._copied = dict.fromkeys(self._copiers, 0)
        self._analyze_at = dict.fromkeys(self._copiers, _WORTH_ANALYZING)

    def prepare(self, records: Sequence[ChangedRecord], mark: Advance | None) -> _Work:
        """Sort out what would overwrite itself, and what is worth a COPY.

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
        work = _Work(mark, max((item.version for item in newest.values()), default=0))
        for item in newest.values():
            if item.record is None:
                work.rest.append(self._item(item))
            else:
                puts.setdefault(item.collection, []).append(item)
        for collection, items in puts.items():
            if len(items) < _WORTH_COPYING:
                work.rest.extend(map(self._item, items))
            else:
                work.many[collection] = sorted(items, key=lambda item: item.key)
        return work

    def apply(self, link: Link, work: _Work, epoch: int | None) -> int:
        """Apply it, in one transaction; gives how many rows were written.

        Raises:
            StaleEpoch: the store is not secondary at the epoch.
            StalePosition: the position is not what the mark continues.
            StoreUnavailable: somebody holds what it needs for too long.
        """

        def attempt() -> int:
            if not work.many and work.size <= MOST_BYTES:
                return self._call(link, work, work.rest, work.mark, epoch)
            return self._in_parts(link, work, epoch)

        written = unhurried(self._server, self._patience, attempt)
        for collection in work.many:
            self._analyze(link, collection)
        return written

    def _in_parts(self, link: Link, work: _Work, epoch: int | None) -> int:
        mark = work.mark
        with link.transaction():
            values = (
                number(epoch),
                None if mark is None else mark.name.encode(),
                None if mark is None else _json(mark.expected),
            )
            entered = link.run(statements.APPLY_ENTER, values)
            self._raise(_text(entered), mark)
            written, rest = 0, list(work.rest)
            for collection, items in work.many.items():
                if self._copy(link, collection, items):
                    written += len(items)
                else:
                    rest += map(self._item, items)
            *parts, last = _parts(rest)
            for part in parts:
                written += self._call(link, work, part, None, epoch)
            return written + self._call(link, work, last, mark, epoch)

    def _raise(self, answer: str, mark: Advance | None) -> None:
        raise_stale(answer, self._server.name)
        if answer == "position":
            assert mark is not None  # noqa: S101 - nothing else is compared
            raise StalePosition(store=self._server.name, name=mark.name)

    def _copy(self, link: Link, collection: str, items: list[ChangedRecord]) -> bool:
        """Copy rows if there is nothing between their first and last keys yet.

        A backfill walks in key order, so there usually is nothing. The lock that the
        transaction holds keeps it so.
        """
        bounds = (items[0].key.encode(), items[-1].key.encode())
        free = link.run(self._known[collection].is_free, bounds)
        if free.get_value(0, 0) != b"t":
            return False
        self._copiers[collection].copy(link, items)
        self._copied[collection] += len(items)
        return True

    def _analyze(self, link: Link, collection: str) -> None:
        """Tell the planner of the rows, outside of the transaction that copied them.

        Until autovacuum comes by, the planner thinks of an empty table, and would sort
        all of it for each page of a scan. Where somebody holds the table, it comes by.
        """
        if self._copied[collection] < self._analyze_at[collection]:
            return
        self._analyze_at[collection] = 2 * self._copied[collection]
        with contextlib.suppress(ServerRefusal), link.transaction():
            link.run(statements.HASTEN)
            link.simple(f"analyze {self._known[collection].table}")

    def _call(
        self,
        link: Link,
        work: _Work,
        items: Sequence[_Item],
        mark: Advance | None,
        epoch: int | None,
    ) -> int:
        values: tuple[Value, ...] = (
            number(epoch),
            text_array(item.collection for item in items),
            text_array(item.key for item in items),
            bigint_array([item.version for item in items]),
            json_array([item.body for item in items]),
            number(work.top),
            None if mark is None else mark.name.encode(),
            None if mark is None else _json(mark.expected),
            None if mark is None else _json(mark.value),
        )
        answer = _text(link.run(statements.APPLY, values))
        self._raise(answer, mark)
        return int(answer)

    def _item(self, item: ChangedRecord) -> _Item:
        body = None
        if item.record is not None:
            codec = self._schema[item.collection].codec
            body = codec.encode(item.record)
            codec.check_size(item.record, item.key, body)  # the server names no record
        return _Item(item.collection, item.key, item.version, body)


def _parts(items: Sequence[_Item]) -> list[list[_Item]]:
    """Items in calls of a bearable size; one call at least."""
    parts: list[list[_Item]] = [[]]
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
