"""Types of collections and transactions, as a user's type checker infers them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_type

import pend_storage as ps
from pend_storage._collection import Collection
from pend_storage._transaction import TransactionCollection
from pend_storage.pend import User
from pend_storage.query import Condition


def collections(store: ps.Store, user: User) -> None:
    users = store.collection(User)
    assert_type(users, Collection[User])
    assert_type(store.collection("users"), Collection[Any])
    assert_type(users.get("key"), User | None)
    assert_type(users.get_many(["key"]), dict[str, User])
    assert_type(users.get_by("phone_hash", "value"), User | None)
    assert_type(users.versioned("key"), ps.Versioned[User] | None)
    assert_type(users.put(user), int)
    assert_type(users.put(user, if_version=0), int)
    assert_type(users.put_many([user]), list[int])
    assert_type(users.delete("key"), bool)
    assert_type(users.count(), int)
    assert_type(users.scan(after="key"), Iterator[User])


def queries(store: ps.Store) -> None:
    tier = ps.field("tier")
    assert_type(tier >= 3, Condition)
    # The comparison of a field is a condition, whatever object.__eq__ says.
    assert_type(tier == 3, Condition)
    assert_type((tier != 3) & ~tier.in_([1, 2]) | tier.is_null(), Condition)
    page = store.collection(User).find(tier >= 3, order_by="-created_at", limit=10)
    assert_type(page, ps.Page[User])
    assert_type(page.items, tuple[User, ...])
    assert_type(page.next, str | None)


def transactions(store: ps.Store, user: User) -> None:
    with store.transaction() as tx:
        assert_type(tx, ps.Transaction)
        users = tx.collection(User)
        assert_type(users, TransactionCollection[User])
        assert_type(tx.collection("users"), TransactionCollection[Any])
        assert_type(users.get("key"), User | None)
        assert_type(users.find(), ps.Page[User])
        assert_type(users.delete("key"), bool)

    def rename(tx: ps.Transaction) -> str:
        tx.collection(User).put(user)
        return "done"

    assert_type(store.run(rename, attempts=3), str)


def opened() -> None:
    with ps.open_store("pend.toml", environment="production") as store:
        assert_type(store.collection(User), Collection[User])


def errors(error: ps.PendStorageError) -> None:
    if isinstance(error, ps.InvalidRecord):
        assert_type(error.field, str | None)
    if isinstance(error, ps.StoreUnavailable):
        assert_type(error.outcome_known, bool)
