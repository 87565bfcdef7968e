"""Edit lookups: read records outside an edited file, with their versions in a read set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pend_storage._layouts.layout import Layout
from pend_storage.schema import CollectionSpec
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._legacy_sync.read_set import ReadSet

__all__ = ["EditLookups"]


class EditLookups:
    """Read records by key; see :class:`~pend_storage._layouts.removal.RecordLookups`."""

    def __init__(self, engine: Engine, reads: ReadSet) -> None:
        """Create them.

        Args:
            engine: the open store.
            reads: records every version that was read.
        """
        self._engine = engine
        self._reads = reads

    def find(self, collection: str, key: str) -> Any:
        """See :class:`~pend_storage._layouts.removal.RecordLookups`."""
        with self._engine.live() as live:
            row = live.state.table(collection).row(key)
        self._reads.record((collection, key), 0 if row is None else row.version)
        return None if row is None else row.record

    def referrers(self, spec: CollectionSpec, name: str, key: str) -> Iterator[Any]:
        """See :class:`~pend_storage._layouts.removal.RecordLookups`."""
        with self._engine.live() as live:
            table = live.state.table(spec.name)
            keys = list(table.index((name,)).keys((key,)))
            rows = [table.row(key) for key in keys]
        for row in rows:
            if row is not None:
                self._reads.record((spec.name, row.key), row.version)
                yield row.record

    def records(self, layout: Layout) -> Iterator[Any]:
        """See :class:`~pend_storage._layouts.removal.RecordLookups`."""
        with self._engine.live() as live:
            table = live.state.table(layout.collection)
            rows = [table.row(key) for key in list(table.rows)]
        for row in rows:
            if row is not None and layout.owns(row.record):
                self._reads.record((layout.collection, row.key), row.version)
                yield row.record

    def was_deleted(self, collection: str, key: str) -> bool:
        """See :class:`~pend_storage._layouts.removal.RecordLookups`."""
        with self._engine.live() as live:
            return key in live.state.table(collection).tombstones
