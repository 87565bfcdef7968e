"""Verbs of a server, over any of our stores."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.measure import Operation
from benchmarks.record import Account, accounts, revisions, shuffled
from pend_storage.query import field
from pend_storage.store import Store

__all__ = ["count", "fill", "get", "get_by", "get_many", "page", "put", "put_many"]

_CHUNK = 1_000


def fill(store: Store, records: int) -> None:
    """Put so many accounts into an empty store."""
    everyone = accounts(records)
    for first in range(0, records, _CHUNK):
        store.collection(Account).put_many(everyone[first : first + _CHUNK])


def get(store: Store, records: int) -> Operation:
    """``collection.get``; gives a record."""
    collection, keys = store.collection(Account), _keys(shuffled(records))
    return lambda number: collection.get(keys[number % len(keys)])


def put(store: Store, records: int) -> Operation:
    """``collection.put``: checked, encoded, committed, durable."""
    collection, news = store.collection(Account), revisions(records)
    return lambda number: collection.put(news[number % len(news)])


def get_many(store: Store, records: int) -> Operation:
    """``collection.get_many`` of a hundred keys."""
    collection, keys = store.collection(Account), _keys(shuffled(records))

    def call(number: int) -> object:
        first = number * 100 % (len(keys) - 99)
        return collection.get_many(keys[first : first + 100])

    return call


def put_many(store: Store, records: int) -> Operation:
    """``collection.put_many`` of a hundred records, one commit."""
    collection, news = store.collection(Account), revisions(records)

    def call(number: int) -> object:
        first = number * 100 % (len(news) - 99)
        return collection.put_many(news[first : first + 100])

    return call


def get_by(store: Store, records: int) -> Operation:
    """``collection.get_by`` a unique field."""
    collection = store.collection(Account)
    hashes = [account.phone_hash for account in shuffled(records)]
    return lambda number: collection.get_by("phone_hash", hashes[number % len(hashes)])


def page(store: Store, _records: int) -> Operation:
    """``collection.find``: a filter over two fields, sorted by a third, twenty of them."""
    collection = store.collection(Account)

    def call(number: int) -> object:
        return collection.find(
            (field("status") == "pending") & (field("tier") == number % 4),
            order_by=["-opened_at"],
            limit=20,
        )

    return call


def count(store: Store, _records: int) -> Operation:
    """``collection.count`` by an indexed field."""
    collection = store.collection(Account)
    return lambda number: collection.count(field("tier") == number % 4)


def _keys(chosen: Iterable[Account]) -> list[str]:
    return [account.id for account in chosen]
