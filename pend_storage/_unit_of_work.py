"""Unit of work: reads and writes of a transaction, and the checks at its end.

It does no I/O. The transaction reads, by blocking calls or by await, and passes the rows
on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from pend_storage._model.records import Batch, Delete, Put, Row
from pend_storage.errors import Conflict
from pend_storage.query import Query, select
from pend_storage.schema import CollectionSpec, Schema

__all__ = ["Place", "UnitOfWork"]

Place: TypeAlias = tuple[str, str]
"""Collection and key."""


class UnitOfWork:
    """Reads that will be checked, and writes that will take effect together."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._seen: dict[Place, int] = {}
        """Versions read, or demanded by ``if_version``."""
        self._writes: dict[Place, Put | Delete] = {}

    @property
    def written(self) -> tuple[Place, ...]:
        """Collections and keys that are written at the end."""
        return tuple(self._writes)

    # -- reads --------------------------------------------------------------------------

    def unwritten(self, spec: CollectionSpec, keys: Iterable[str]) -> list[str]:
        """Return the keys that must be read from a store: those without an own write."""
        return [key for key in keys if (spec.name, key) not in self._writes]

    def found(
        self, spec: CollectionSpec, keys: Sequence[str], stored: Mapping[str, Row]
    ) -> dict[str, Row]:
        """Return the rows under these keys, own writes among them, and record their versions.

        Raises:
            Conflict: a record has changed since an earlier read; the commit could only fail.
        """
        for key in self.unwritten(spec, keys):
            self._remember(spec, key, stored[key].version if key in stored else 0)
        own = {
            key: self._own_row(spec, operation)
            for key in keys
            if isinstance(operation := self._writes.get((spec.name, key)), Put)
        }
        return {**stored, **own}

    def widened(self, spec: CollectionSpec, query: Query) -> Query:
        """Widen the limit of a query by own writes, which may displace stored rows."""
        if query.limit is None:
            return query
        return replace(query, limit=query.limit + len(self._own(spec)))

    def merged(
        self, spec: CollectionSpec, query: Query, stored: Iterable[Row]
    ) -> list[Row]:
        """Answer a query as if own writes were stored already.

        Raises:
            Conflict: as :meth:`found`.
        """
        # A stored row that this transaction has overwritten may match no more, or at
        # another place: own writes are evaluated anew, together with the other rows.
        own = self._own(spec)
        rows = [row for row in stored if row.key not in own]
        for row in rows:
            self._remember(spec, row.key, row.version)
        if not own:
            return rows
        written = (self._own_row(spec, o) for o in own.values() if isinstance(o, Put))
        return select(query, [*rows, *written])

    def _own(self, spec: CollectionSpec) -> dict[str, Put | Delete]:
        """Return the own writes in one collection, by key."""
        return {k: op for (name, k), op in self._writes.items() if name == spec.name}

    def _own_row(self, spec: CollectionSpec, put: Put) -> Row:
        version = self._seen.get((put.collection, put.key), 0)
        return Row(put.key, version, spec.codec.decode(put.body))

    def _remember(self, spec: CollectionSpec, key: str, version: int) -> None:
        known = self._seen.setdefault((spec.name, key), version)
        if known != version:
            raise Conflict(
                collection=spec.name, key=key, expected=known, actual=version
            )

    # -- writes -------------------------------------------------------------------------

    def write(self, operation: Put | Delete, if_version: int | None) -> None:
        """Record a write.

        Raises:
            Conflict: it is known already that the record is not at ``if_version``.
        """
        place = (operation.collection, operation.key)
        if if_version is not None:
            self._demand(place, if_version)
        self._writes[place] = operation

    def _demand(self, place: Place, version: int) -> None:
        """Check a demanded version as far as it is known; the commit checks the rest."""
        earlier = self._writes.get(place)
        if earlier is None:
            known = self._seen.setdefault(place, version)
            fits = known == version
        elif isinstance(earlier, Put):  # there now, without a version of its own yet
            known = self._seen.get(place, 0)
            fits = known == version != 0
        else:
            known = 0
            fits = version == 0
        if not fits:
            collection, key = place
            raise Conflict(
                collection=collection, key=key, expected=version, actual=known
            )

    # -- the end ------------------------------------------------------------------------

    def batch(self) -> Batch | None:
        """Make the commit: reads as checks, and writes. None where there is neither."""
        if not self._writes and not self._seen:
            return None
        return self._schema.batch(self._writes.values(), self._seen)

    def finish(self, batch: Batch, versions: Sequence[int]) -> dict[Place, int]:
        """Return the versions of what was written, and begin anew."""
        places = [(o.collection, o.key) for o in batch.operations]
        self._seen.clear()
        self._writes.clear()
        return dict(zip(places, versions, strict=True))
