"""Asynchronous front of every store: requests that wait are merged into batches."""

from pend_storage.aio.collection import AsyncCollection
from pend_storage.aio.store import AsyncStore
from pend_storage.aio.transaction import AsyncTransaction, AsyncTransactionCollection

__all__ = [
    "AsyncCollection",
    "AsyncStore",
    "AsyncTransaction",
    "AsyncTransactionCollection",
]
