"""Feed: the change log as it grows, read once for every page that shows it.

Keys and versions are sent, never values; of a key that is personal, the beginning. System
collections are left out.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from pend_storage._fork import on_fork
from pend_storage._model.records import Change
from pend_storage._shown import one_line, shortened
from pend_storage.console._looking import Reading
from pend_storage.errors import ChangesExpired, PendStorageError
from pend_storage.schema import SYSTEM_NAMES, Schema

__all__ = ["FeedHub", "FeedMessage"]

_INTERVAL: Final = 0.5
_PAGE: Final = 500
"""Commits that are read at once."""
_MOST_WAITING: Final = 2_000
"""Messages that wait for one reader; one that is further behind is cut."""
_MOST_RECORDS: Final = 100
"""Records of one commit that are named; all of them are counted."""
_LONGEST_KEY: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedMessage:
    """Message to a page: ``change``, ``expired``, ``away``, or ``cut`` with the reason."""

    event: str
    document: dict[str, Any]
    sequence: int | None = None
    """Of a change: the page goes on after it."""


@dataclass(slots=True, eq=False)
class _Reader:
    """One page that follows the feed."""

    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: deque[FeedMessage] = field(default_factory=deque)
    is_cut: bool = False

    def put(self, message: FeedMessage) -> None:
        """Queue a message; a reader that is too slow gets no more."""
        if len(self.waiting) >= _MOST_WAITING:
            self.is_cut = True
        else:
            self.waiting.append(message)
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.changed.set)


class FeedHub:
    """Hub of the feed: one thread reads while any page follows. Safe for threads."""

    def __init__(self, reading: Reading) -> None:
        """Args: reading: opens the primary for reading."""
        self._reading = reading
        self._begin()
        on_fork(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Condition()
        self._readers: list[_Reader] = []
        self._thread: threading.Thread | None = None
        self._position: int | None = None
        self._is_closed = False
        self._problem: str | None = None
        self.reads = 0

    # -- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait_for_readers():
            try:
                for message in self._read():
                    self._send(message)
                self._problem = None
            except PendStorageError as error:
                self._report(str(error))
            with self._lock:
                self._lock.wait_for(lambda: self._is_closed, _INTERVAL)

    def _wait_for_readers(self) -> bool:
        with self._lock:
            if not self._readers:
                self._position = None  # a later reader begins at the end of then
            self._lock.wait_for(lambda: self._is_closed or bool(self._readers))
            return not self._is_closed

    def _read(self) -> list[FeedMessage]:
        self.reads += 1
        with self._reading.primary() as store:
            if self._position is None:
                self._position = store.head()
                return []
            try:
                found = [*islice(store.changes(self._position), _PAGE)]
            except ChangesExpired as error:
                self._position = store.head()
                return [_said("expired", str(error))]
            messages = [_message(store.schema, change) for change in found]
        if found:
            self._position = found[-1].sequence
        return messages

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._send(_said("away", problem))

    def _send(self, message: FeedMessage) -> None:
        with self._lock:
            readers = [*self._readers]
        for reader in readers:
            reader.put(message)

    # -- the readers ----------------------------------------------------------------------

    async def follow(
        self, *, after: int | None, collections: Collection[str]
    ) -> AsyncIterator[FeedMessage]:
        """Yield what is committed from now on, or after a sequence number.

        Args:
            after: the last number that the page has seen; None: from now on.
            collections: names; none: all but system collections.
        """
        reader = _Reader(asyncio.get_running_loop())
        with self._lock:
            self._readers.append(reader)
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(
                    target=self._run, name="pend-feed", daemon=True
                )
                self._thread.start()
            self._lock.notify_all()
        try:
            async for message in self._messages(reader, after):
                chosen = _only(message, collections)
                if chosen is not None:
                    yield chosen
        finally:
            with self._lock:
                self._readers.remove(reader)

    async def _messages(
        self, reader: _Reader, after: int | None
    ) -> AsyncIterator[FeedMessage]:
        last = 0 if after is None else after
        if after is not None:
            while page := await run_in_threadpool(self._page, last):
                for message in page:
                    last = max(last, message.sequence or 0)
                    yield message
                if page[-1].sequence is None:
                    return  # expired, or the primary is away: the page begins again
        while not self._is_closed:
            reader.changed.clear()
            while reader.waiting:
                message = reader.waiting.popleft()
                if message.sequence is not None and message.sequence <= last:
                    continue  # it was in the pages that were read first
                last = max(last, message.sequence or 0)
                yield message
            if reader.is_cut:
                yield _said(
                    "cut",
                    f"this page is more than {_MOST_WAITING:,} commits behind: begin again",
                )
                return
            await reader.changed.wait()

    def _page(self, after: int) -> list[FeedMessage]:
        """Read a page of earlier commits, for one reader."""
        try:
            with self._reading.primary() as store:
                found = [*islice(store.changes(after), _PAGE)]
                return [_message(store.schema, change) for change in found]
        except ChangesExpired as error:
            return [_said("expired", str(error))]
        except PendStorageError as error:
            return [_said("away", str(error))]

    def close(self) -> None:
        """End the thread, and all who follow."""
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
            readers, thread = [*self._readers], self._thread
        for reader in readers:
            if not reader.loop.is_closed():
                reader.loop.call_soon_threadsafe(reader.changed.set)
        if thread is not None:
            thread.join(_INTERVAL + 1)


def _said(event: str, sentence: str) -> FeedMessage:
    return FeedMessage(event=event, document={"sentence": sentence})


def _message(schema: Schema, change: Change) -> FeedMessage:
    shown = [r for r in change.records if r.collection not in SYSTEM_NAMES]
    document = {
        "sequence": str(change.sequence),
        "epoch": str(change.epoch),
        "at": change.at,
        "by": None if change.by is None else one_line(change.by),
        "reason": None if change.reason is None else one_line(change.reason),
        "records": [
            {
                "collection": record.collection,
                "key": shown_key(schema, record.collection, record.key),
                "version": str(record.version),
                "deleted": record.record is None,
            }
            for record in shown[:_MOST_RECORDS]
        ],
        "more": max(0, len(shown) - _MOST_RECORDS),
    }
    return FeedMessage(event="change", document=document, sequence=change.sequence)


def shown_key(schema: Schema, collection: str, key: str) -> str:
    """Return a key as a page may show it: of a personal one, the beginning."""
    try:
        spec = schema[collection]
    except PendStorageError:  # of a collection that a newer schema has
        return shortened(key)
    if spec.fields[spec.key].personal:
        return shortened(key)
    return one_line(key, _LONGEST_KEY)


def _only(message: FeedMessage, collections: Collection[str]) -> FeedMessage | None:
    """Return a message with the chosen collections; None where it has none of them."""
    if message.event != "change":
        return message
    records = [
        record
        for record in message.document["records"]
        if not collections or record["collection"] in collections
    ]
    if not records:
        return None
    document = {**message.document, "records": records}
    return FeedMessage(event="change", document=document, sequence=message.sequence)
