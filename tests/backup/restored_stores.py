"""Restored stores for tests of their seal and promotion, made from stores in memory."""

from __future__ import annotations

from pend_storage._model.snapshots import LogPoint
from pend_storage.backup._seal import begin_filling, highest_number, seal
from pend_storage.records import ChangedRecord
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA

__all__ = ["restored"]


def restored(source: Store, into: Store | None = None) -> Store:
    """Restore the present state of a store into another one, and seal that."""
    target = MemoryStore(SCHEMA) if into is None else into
    point = LogPoint(
        identity=source.identity(),
        epoch=source.role().epoch,
        sequence=highest_number(0, source),
    )
    begin_filling(target, source=point, backup="b-1", target="latest")
    rows = [
        ChangedRecord(spec.name, row.key, row.version, row.record)
        for spec in source.schema
        for row in source.scan(spec.name, deleted=True)
    ]
    target.apply(rows)
    seal(
        target,
        source=point,
        above=point.sequence,
        meta={},
        backup="b-1",
        target="latest",
    )
    return target
