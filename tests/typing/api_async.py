"""Types of the same verbs with ``await``."""

from __future__ import annotations

from typing import Any, assert_type

import pend_storage as ps
from pend_storage.aio._transaction import AsyncTransactionCollection
from pend_storage.pend import User


async def collections(store: ps.AsyncStore, user: User) -> None:
    users = store.collection(User)
    assert_type(users, ps.AsyncCollection[User])
    assert_type(store.collection("users"), ps.AsyncCollection[Any])
    assert_type(await users.get("key"), User | None)
    assert_type(await users.get_many(["key"]), dict[str, User])
    assert_type(await users.get_by("phone_hash", "value"), User | None)
    assert_type(await users.versioned("key"), ps.Versioned[User] | None)
    assert_type(await users.put(user), int)
    assert_type(await users.put_many([user]), list[int])
    assert_type(await users.delete("key"), bool)
    assert_type(await users.find(ps.field("tier") == 3), ps.Page[User])
    assert_type(await users.count(), int)
    async for each in users.scan():
        assert_type(each, User)
    async for change in store.changes():
        assert_type(change, ps.Change)


async def transactions(store: ps.AsyncStore, user: User) -> None:
    async with store.transaction() as tx:
        assert_type(tx, ps.AsyncTransaction)
        assert_type(tx.collection(User), AsyncTransactionCollection[User])
        assert_type(await tx.collection(User).get("key"), User | None)

    async def rename(tx: ps.AsyncTransaction) -> str:
        await tx.collection(User).put(user)
        return "done"

    assert_type(await store.run(rename), str)


async def pairs(store: ps.AsyncStore) -> None:
    assert_type(await store.phase(), ps.Phase)
    assert_type(await store.readiness("parallel"), ps.Readiness)
    assert_type(await store.switch(ps.Phase.PARALLEL), ps.SwitchReport)
    assert_type(await store.repair(), ps.RepairReport)
    assert_type(await store.lag(), ps.Lag)
    assert_type(await store.divergences(), tuple[ps.Finding, ...])


async def opened(store: ps.Store) -> None:
    async with ps.AsyncStore(store) as opened:
        assert_type(opened, ps.AsyncStore)
