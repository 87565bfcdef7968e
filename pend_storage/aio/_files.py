"""Asynchronous methods for whole legacy files as plain data.

Loaded values are remembered in the context of the coroutine. Calls of the store run in a
thread.
"""

from __future__ import annotations

import contextvars
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar, overload

from pend_storage._model.diff import ABSENT
from pend_storage._whole_files.steps import (
    MISSING,
    drafts_of,
    exclusive_uses_of,
    file_of,
    layout_of,
    make_drafts,
    open_files,
    value_of,
    value_or_default,
    working_copies_of,
    write,
)
from pend_storage._whole_files.working_copies import as_json
from pend_storage.aio._holding import AsyncHolds
from pend_storage.errors import MergeConflict
from pend_storage.store import Store

__all__ = ["AsyncFileVerbs"]

T = TypeVar("T")


class AsyncFileVerbs:
    """Methods of :class:`~pend_storage._whole_files.verbs.FileVerbs`, awaited."""

    _store: Store

    async def load(
        self,
        file: str,
        default: Any = MISSING,
        *,
        exclusive: bool = False,
        timeout: float = 30.0,  # noqa: ASYNC109 - of the exclusive use alone
    ) -> Any:
        """Load a file, as :meth:`Store.load <pend_storage.store.Store.load>`."""
        layout = layout_of(self._store, file)
        if exclusive:
            await self._async_holds.lease(file, timeout)
        try:
            base = await self._wait(partial(value_of, self._store, layout))
            value = value_or_default(file, base, default)
        except BaseException:
            if exclusive:
                await self._async_holds.release(file)
            raise
        working_copies_of(self._store).record(file, value, base)
        return value

    async def save(self, file: str, value: Any, *, strict: bool = False) -> None:
        """Save a file, as :meth:`Store.save <pend_storage.store.Store.save>`."""
        copies = working_copies_of(self._store)
        try:
            layout = layout_of(self._store, file)
            new = as_json(value)
            self._async_holds.require(file)
            drafts = drafts_of(layout, copies.base(file, value), new)
            await self._wait(partial(write, self._store, drafts, strict=strict))
        finally:
            await self._async_holds.release(file)
        copies.record(file, value, new)

    @asynccontextmanager
    async def edit(self, *files: str, strict: bool = False) -> AsyncIterator[Any]:
        """Edit files, as :meth:`Store.edit <pend_storage.store.Store.edit>`, awaited."""
        bases, values = await self._wait(partial(open_files, self._store, files))
        yield values[0] if len(values) == 1 else tuple(values)
        drafts = make_drafts(bases, values)
        for file in files:
            self._async_holds.require(file)
        await self._wait(partial(write, self._store, drafts, strict=strict))

    @overload
    async def update(
        self,
        file: str,
        fn: Callable[[Any], Awaitable[T]],
        *,
        timeout: float = ...,  # noqa: ASYNC109 - of the exclusive use
        strict: bool = ...,
    ) -> T: ...
    @overload
    async def update(
        self,
        file: str,
        fn: Callable[[Any], T],
        *,
        timeout: float = ...,  # noqa: ASYNC109 - of the exclusive use
        strict: bool = ...,
    ) -> T: ...
    async def update(
        self,
        file: str,
        fn: Callable[[Any], Any],
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 - of the exclusive use
        strict: bool = False,
    ) -> Any:
        """Update a file, as :meth:`Store.update <pend_storage.store.Store.update>`.

        The function runs in the event loop; its result is awaited, where it is awaitable.
        """
        deadline = time.monotonic() + timeout
        async with self.exclusive(file, timeout=timeout):
            while True:
                bases, values = await self._wait(
                    partial(open_files, self._store, (file,))
                )
                result = fn(values[0])
                if inspect.isawaitable(result):
                    result = await result
                drafts = make_drafts(bases, values)
                self._async_holds.require(file)
                try:
                    await self._wait(partial(write, self._store, drafts, strict=strict))
                except MergeConflict:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return result

    async def exists(self, file: str) -> bool:
        """Test for a file, as :meth:`Store.exists <pend_storage.store.Store.exists>`."""
        layout = layout_of(self._store, file)
        value = await self._wait(partial(value_of, self._store, layout))
        return value is not ABSENT

    def exclusive(
        self, file: str, *, timeout: float = 30.0
    ) -> AbstractAsyncContextManager[None]:
        """Lock a file, as :meth:`Store.exclusive <pend_storage.store.Store.exclusive>`.

        With ``async with``. The task owns the lock: tasks that it starts wait for it like
        any others.
        """
        return self._async_holds.exclusive(file_of(self._store, file), timeout)

    @property
    def _async_holds(self) -> AsyncHolds:
        found: AsyncHolds | None = self.__dict__.get("_exclusive_uses")
        if found is None:
            found = AsyncHolds(exclusive_uses_of(self._store))
            found = self.__dict__.setdefault("_exclusive_uses", found)
        return found

    async def _wait(self, do: Callable[[], T]) -> T:
        """Call a function in a thread, with this context, which has the author of commits."""
        return await self._in_thread(partial(contextvars.copy_context().run, do))

    async def _in_thread(self, do: Callable[[], T]) -> T:
        """Call a function in a thread of the store."""
        raise NotImplementedError
