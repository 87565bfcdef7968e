"""Applies: another store's changes, in few statements whatever their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pend_storage.codec import dump_json
from pend_storage.records import Advance, ChangedRecord
from pend_storage.schema import Schema
from pend_storage.stores.postgres import statements
from pend_storage.stores.postgres.bulk import Copier
from pend_storage.stores.postgres.errors import raise_stale
from pend_storage.stores.postgres.link import Link
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
    many: dict[str, list[ChangedRecord]] = field(default_factory=dict)
    """By collection, in key order: enough rows for a COPY."""
    rest: list[ChangedRecord] = field(default_factory=list)


class Applier:
    """Runs the applies of one store."""

    def __init__(
        self, schema: Schema, known: Mapping[str, CollectionStatements]
    ) -> None:
        self._schema = schema
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
        work = _Work(mark)
        for item in newest.values():
            if item.record is None:
                work.rest.append(item)
            else:
                puts.setdefault(item.collection, []).append(item)
        for collection, items in puts.items():
            if len(items) < _WORTH_COPYING:
                work.rest.extend(items)
            else:
                work.many[collection] = sorted(items, key=lambda item: item.key)
        return work

    def apply(self, link: Link, work: _Work, epoch: int | None, store: str) -> int:
        """Apply it, in one transaction; gives how many rows were written.

        Raises:
            StaleEpoch: the store is not secondary at the epoch.
        """
        if not work.many:
            return self._call(link, work.rest, work.mark, epoch, store)
        with link.transaction():
            entered = link.run(statements.APPLY_ENTER, (number(epoch),))
            raise_stale((entered.get_value(0, 0) or b"").decode(), store)
            written, rest = 0, list(work.rest)
            for collection, items in work.many.items():
                if self._copy(link, collection, items):
                    written += len(items)
                else:
                    rest += items
            return written + self._call(link, rest, work.mark, epoch, store)

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
        if self._copied[collection] >= self._analyze_at[collection]:
            self._analyze_at[collection] = 2 * self._copied[collection]
            # Until autovacuum comes by, the planner thinks of an empty table, and would
            # sort all of it for each page of a scan.
            link.simple(f"analyze {self._known[collection].table}")
        return True

    def _call(
        self,
        link: Link,
        items: Sequence[ChangedRecord],
        mark: Advance | None,
        epoch: int | None,
        store: str,
    ) -> int:
        result = link.run(statements.APPLY, self._values(items, mark, epoch))
        answer = (result.get_value(0, 0) or b"").decode()
        raise_stale(answer, store)
        return int(answer)

    def _values(
        self,
        items: Sequence[ChangedRecord],
        mark: Advance | None,
        epoch: int | None,
    ) -> tuple[Value, ...]:
        name, value = mark or (None, None)
        return (
            number(epoch),
            text_array(item.collection for item in items),
            text_array(item.key for item in items),
            bigint_array([item.version for item in items]),
            json_array([self._body(item) for item in items]),
            None if name is None else name.encode(),
            None if value is None else dump_json(value),
        )

    def _body(self, item: ChangedRecord) -> bytes | None:
        if item.record is None:
            return None
        return self._schema[item.collection].codec.encode(item.record)
