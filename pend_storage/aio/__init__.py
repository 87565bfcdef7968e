"""Asynchronous front of every store: requests that wait are merged into batches."""

from pend_storage.aio._collection import AsyncCollection
from pend_storage.aio._store import AsyncStore
from pend_storage.aio._transaction import AsyncTransaction, AsyncTransactionCollection

__all__ = [
    "AsyncCollection",
    "AsyncStore",
    "AsyncTransaction",
    "AsyncTransactionCollection",
]
