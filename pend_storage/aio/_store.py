"""Asynchronous store over any store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager
from functools import partial
from typing import (
    Any,
    Concatenate,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

from typing_extensions import override

from pend_storage._collection_queries import lookup_query
from pend_storage._cursor import CursorKey
from pend_storage._health import DEADLINE, Health
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.unread_files import UnreadFile
from pend_storage._model import attribution
from pend_storage._model.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Pending,
    Row,
)
from pend_storage.aio._collection import AsyncCollection
from pend_storage.aio._dualwrite import AsyncDualWriteMixin
from pend_storage.aio._engine import LoopEngine
from pend_storage.aio._files import AsyncFileVerbs
from pend_storage.aio._history import AsyncHistoryVerbs
from pend_storage.aio._requests import (
    CallRequest,
    CommitRequest,
    LookupRequest,
    ReadRequest,
)
from pend_storage.aio._timed_collection import (
    TimedAsyncCollection,
    TimedAsyncTransaction,
)
from pend_storage.aio._transaction import (
    AsyncTransaction,
    refused_view,
    run_transaction,
)
from pend_storage.contract import timing_of
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.instrumentation import Instruments
from pend_storage.instrumentation._timing import Timing, timing
from pend_storage.phases import RoleState
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = ["AsyncStore"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncStore(AsyncDualWriteMixin, AsyncFileVerbs, AsyncHistoryVerbs):
    """Asynchronous store: the methods of a store, awaited, over any store in any phase.

    Requests that wait are merged: reads of one collection into one statement, commits
    into one transaction with one sync. Each keeps its own answer and its own error. The
    blocking store works in a few threads.

    Use it in one event loop. It binds to the loop in which it is first called.
    """

    def __init__(
        self,
        store: Store,
        *,
        timeout: float | None = None,
        max_waiting: int = 10_000,
        threads: int = 8,
        instruments: Instruments | None = None,
    ) -> None:
        """Wrap a store, which is closed with this one.

        Args:
            store: works in threads from now on.
            timeout: seconds that a call may take, waiting included; None: as long as the
                store's own timeouts allow. For a single call use ``asyncio.timeout``.
            max_waiting: calls in the queues at most; further callers wait.
            threads: number of threads for queries, counts, scans and :meth:`call`, which
                are not merged.
            instruments: get the duration of each call, the wait in a queue included; None:
                those of the store.

        Raises:
            ConfigError: a setting makes no sense.
        """
        if max_waiting < 1 or threads < 1 or (timeout is not None and timeout <= 0):
            raise ConfigError(
                "max_waiting and threads must be 1 or more, timeout above 0 or None."
            )
        self.schema: Schema = store.schema
        self.layouts: tuple[Layout, ...] = store.layouts
        self._store = store
        found = timing_of(store)
        self._timing: Timing | None = found
        if instruments is not None:
            owner = type(store) if found is None else found.store
            self._timing = timing(instruments, owner, store.tell)
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._threads = threads
        self._engine: LoopEngine | None = None
        self._closing: asyncio.Future[None] | None = None
        self._is_closed = False

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store!r})"

    # -- public -------------------------------------------------------------------------

    @property
    def cursor_key(self) -> CursorKey | None:
        """Key of the store that signs the cursors of pages."""
        return self._store.cursor_key

    @overload
    def collection(self, name: type[R]) -> AsyncCollection[R]: ...
    @overload
    def collection(self, name: str) -> AsyncCollection[Any]: ...
    def collection(self, name: str | type) -> AsyncCollection[Any]:
        """Return a collection, by record type or name.

        Raises:
            UnknownCollection: the schema has none of that name.
        """
        spec, adapter = self.schema[name], self.schema.adapter(name)
        if self._timing is None:
            return AsyncCollection(self, spec, adapter)
        return TimedAsyncCollection(self, spec, adapter, self._timing)

    def transaction(self) -> AsyncTransaction:
        """Begin a transaction: reads are checked, and writes take effect together."""
        if self._timing is None:
            return AsyncTransaction(self)
        return TimedAsyncTransaction(self, self._timing)

    async def run(
        self, fn: Callable[[AsyncTransaction], Awaitable[T]], *, attempts: int = 10
    ) -> T:
        """Await a function in a transaction, and repeat it with back-off while it conflicts.

        Args:
            fn: may run several times, so it must have no other effects.
            attempts: number of attempts at most.

        Raises:
            Conflict: the last attempt conflicted too.
        """
        return await run_transaction(self.transaction, fn, attempts)

    def acting(
        self,
        *,
        by: str | None = None,
        reason: str | None = None,
        request: str | None = None,
    ) -> AbstractContextManager[None]:
        """Attribute commits, as :meth:`Store.acting <pend_storage.store.Store.acting>`."""
        return attribution.acting(by=by, reason=reason, request=request)

    async def health(self, *, deadline: float = DEADLINE) -> Health:
        """Await :meth:`Store.health <pend_storage.store.Store.health>`.

        It has a thread that is none of this store's: those may all wait for a server that
        hangs.
        """
        return await asyncio.to_thread(self._store.health, deadline=deadline)

    def legacy(self, file: str) -> Any:
        """Refuse: the methods of a live dict or list block, and cannot be awaited.

        Raises:
            ConfigError: always; it says how to use the file.
        """
        raise refused_view(file)

    async def call(
        self,
        fn: Callable[Concatenate[Store, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call a blocking function with the store itself, in a thread.

        For what has no method here: ``await db.call(lambda store:
        store.legacy("wallet-db.json")[phone_hash])``.
        """
        return await self._in_thread(partial(fn, self._store, *args, **kwargs))

    # -- the contract of a store --------------------------------------------------------

    async def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        """Await :meth:`Store.read <pend_storage.store.Store.read>`."""
        engine = self._engine_here()
        name = self.schema[collection].name
        rows: dict[str, Row] = await engine.reads.call(
            ReadRequest(name, tuple(keys), deleted, epoch)
        )
        return rows

    async def lookup(self, collection: str, name: str, value: Any) -> Row | None:
        """Return the row with this value in a field declared unique, or None.

        Raises:
            InvalidQuery: the field alone is not declared unique.
        """
        engine = self._engine_here()
        spec = self.schema[collection]
        request = LookupRequest(spec, name, value, lookup_query(spec, name, value))
        row: Row | None = await engine.reads.call(request)
        return row

    async def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        """Await :meth:`Store.query <pend_storage.store.Store.query>`."""
        return await self._in_thread(
            partial(self._store.query, collection, query, epoch=epoch)
        )

    async def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        """Await :meth:`Store.count <pend_storage.store.Store.count>`."""
        return await self._in_thread(
            partial(self._store.count, collection, where, epoch=epoch)
        )

    async def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> AsyncIterator[Row]:
        """Await :meth:`Store.scan <pend_storage.store.Store.scan>`."""
        rows = self._store.scan(collection, after=after, deleted=deleted, epoch=epoch)
        async for row in self._fetched(rows):
            yield row

    async def commit(
        self, batch: Batch, *, epoch: int | None = None
    ) -> tuple[int, ...]:
        """Await :meth:`Store.commit <pend_storage.store.Store.commit>`."""
        engine = self._engine_here()
        versions: tuple[int, ...] = await engine.commits.call(
            CommitRequest(batch, epoch)
        )
        return versions

    async def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        """Await :meth:`Store.apply <pend_storage.store.Store.apply>`."""
        return await self._in_thread(
            partial(self._store.apply, records, epoch=epoch, mark=mark)
        )

    async def changes(self, after: int = 0) -> AsyncIterator[Change]:
        """Await :meth:`Store.changes <pend_storage.store.Store.changes>`."""
        async for change in self._fetched(self._store.changes(after)):
            yield change

    async def find_commit(self, token: str) -> Change | None:
        """Await :meth:`Store.find_commit <pend_storage.store.Store.find_commit>`."""
        return await self._in_thread(partial(self._store.find_commit, token))

    async def pending(self, after: int) -> Pending:
        """Await :meth:`Store.pending <pend_storage.store.Store.pending>`."""
        return await self._in_thread(partial(self._store.pending, after))

    async def incarnation(self) -> str:
        """Await :meth:`Store.incarnation <pend_storage.store.Store.incarnation>`."""
        return await self._in_thread(self._store.incarnation)

    async def head(self) -> int:
        """Await :meth:`Store.head <pend_storage.store.Store.head>`."""
        return await self._in_thread(self._store.head)

    async def prune(self, upto: int) -> None:
        """Await :meth:`Store.prune <pend_storage.store.Store.prune>`."""
        await self._in_thread(partial(self._store.prune, upto))

    async def purge(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> bool:
        """Await :meth:`Store.purge <pend_storage.store.Store.purge>`."""
        return await self._in_thread(
            partial(self._store.purge, collection, tuple(keys), tombstones=tombstones)
        )

    async def identity(self) -> str:
        """Await :meth:`Store.identity <pend_storage.store.Store.identity>`."""
        return await self._in_thread(self._store.identity)

    async def unread_files(self) -> tuple[UnreadFile, ...]:
        """Await :meth:`Store.unread_files <pend_storage.store.Store.unread_files>`."""
        return await self._in_thread(self._store.unread_files)

    async def role(self) -> RoleState:
        """Await :meth:`Store.role <pend_storage.store.Store.role>`."""
        return await self._in_thread(self._store.role)

    async def meta(self, name: str) -> JSON:
        """Await :meth:`Store.meta <pend_storage.store.Store.meta>`."""
        return await self._in_thread(partial(self._store.meta, name))

    async def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        """Await :meth:`Store.compare_and_set_meta`; arguments as there."""
        return await self._in_thread(
            partial(
                self._store.compare_and_set_meta, name, expected, value, given=given
            )
        )

    # -- life ---------------------------------------------------------------------------

    async def close(self) -> None:
        """Refuse new calls, execute those in the queues, and close the store."""
        if self._closing is None:
            self._is_closed = True
            self._closing = asyncio.ensure_future(self._finish())
        await asyncio.shield(self._closing)

    async def _finish(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None and engine.process == os.getpid():
            await engine.close()
        await asyncio.to_thread(self._store.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- threads ------------------------------------------------------------------------

    def _engine_here(self) -> LoopEngine:
        """Return the engine of the loop that is running."""
        engine = self._engine
        loop = asyncio.get_running_loop()
        if engine is not None and engine.loop is loop:
            return engine
        return self._bind(loop)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> LoopEngine:
        if self._is_closed:
            raise StoreUnavailable(
                "the store is closed", store="the asynchronous store"
            )
        old = self._engine
        # A forked child has copies of the parent's loop and none of its threads.
        if old and old.process == os.getpid() and not old.loop.is_closed():
            raise ConfigError(
                "this AsyncStore is in use in another event loop: make one for each."
            )
        self._engine = LoopEngine.of(
            loop,
            self._store,
            threads=self._threads,
            max_waiting=self._max_waiting,
            timeout=self._timeout,
        )
        return self._engine

    @override
    @override
    async def _in_thread(self, do: Callable[[], T]) -> T:
        answer: T = await self._engine_here().calls.call(CallRequest(do))
        return answer
