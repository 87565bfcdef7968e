"""Signed cursors of awaited calls."""

from __future__ import annotations

import asyncio

import pytest

from pend_storage import AsyncStore, CursorKey, InvalidQuery
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log


def test_awaited_pages_have_the_cursors_of_their_store() -> None:
    store = MemoryStore(SCHEMA)
    store.collection(Log).put_many([a_log("a"), a_log("b")])
    unsigned = store.collection(Log).find(limit=1).next
    store.cursor_key = CursorKey("k" * 32)

    async def read() -> None:
        async with AsyncStore(store) as db:
            logs = db.collection(Log)
            cursor = (await logs.find(limit=1)).next
            assert [log.id for log in (await logs.find(after=cursor)).items] == ["b"]
            async with db.transaction() as tx:
                page = await tx.collection(Log).find(limit=1)
                assert page.next is not None
                found = await tx.collection(Log).find(after=page.next)
                assert [log.id for log in found.items] == ["b"]
            with pytest.raises(InvalidQuery):
                await logs.find(after=unsigned)

    asyncio.run(read())
