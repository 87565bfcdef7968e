"""Awaited commits with whole audit entries."""

from __future__ import annotations

import asyncio

from pend_storage._audit_images import (
    is_due,
    pause_after,
    places_due,
    versions_in,
    with_images,
)
from pend_storage._model.records import Batch
from pend_storage.aio._backend import Backend
from pend_storage.errors import Conflict

__all__ = ["commit_audited"]


async def commit_audited(store: Backend, batch: Batch) -> tuple[int, ...]:
    """Commit a batch with whole audit entries; else as the store does."""
    schema = store.schema
    if not schema.audited or not is_due(schema, batch):
        return await store.commit(batch)
    attempt = 0
    while True:
        rows = {
            name: await store.read(name, keys)
            for name, keys in places_due(schema, batch).items()
        }
        made, added = with_images(schema, batch, rows)
        try:
            return versions_in(batch.operations, made, await store.commit(made))
        except Conflict as error:
            pause = pause_after(attempt, error, added)
            if pause is None:
                raise
            await asyncio.sleep(pause)
            attempt += 1
