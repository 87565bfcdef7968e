"""A sample of the reads, asked again of both stores by a thread of its own.

The caller's part is to draw a number and to put a note into a queue. A full queue drops
the note. The caller's answer is not used: the thread asks both stores itself.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias

from pend_storage.dualwrite.background import start_thread
from pend_storage.dualwrite.circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite.compare import Finding, Judge, require_following
from pend_storage.dualwrite.findings import Book
from pend_storage.dualwrite.marks import HELD_BACK, is_covered
from pend_storage.dualwrite.routing import Route
from pend_storage.errors import StaleEpoch
from pend_storage.events import Event, Hook
from pend_storage.query import Condition, Query
from pend_storage.records import Row
from pend_storage.schema import FINDINGS
from pend_storage.shown import shown
from pend_storage.store import Store

__all__ = ["Compared", "Sampler"]

_QUEUE: Final = 1_000
_MOST_KEYS: Final = 500
"""Keys of one read that are compared; a sample need not be more."""
_MOST_ROWS: Final = 200
"""Rows of a query that are compared; a query without a limit is cut there."""
_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Compared:
    """What has become of the compared reads so far."""

    sampled: int
    """Reads that were chosen."""
    dropped: int
    """Those for which there was no room."""
    compared: int
    """Those that were asked of both stores."""
    skipped: int
    """Those that could not be: a store out of reach, a switch between, or a secondary
    that is still to be filled."""
    rechecked: int
    """Those that differed at the first look."""
    confirmed: int
    """Those of them that certainly differ."""


class _Keys(NamedTuple):
    collection: str
    keys: Sequence[str]


class _Found(NamedTuple):
    collection: str
    query: Query


class _Counted(NamedTuple):
    collection: str
    where: Condition


_Note: TypeAlias = _Keys | _Found | _Counted


class Sampler:
    """Takes notes of reads, and compares them later."""

    def __init__(
        self,
        route: Callable[[], Route],
        judge: Judge,
        book: Book,
        hook: Hook,
        *,
        share: float,
        is_up: Callable[[], bool],
    ) -> None:
        """Make it; the thread starts with the first note.

        Args:
            route: gives the route believed in.
            judge: decides what is certain.
            book: keeps what was found.
            hook: is told of comparisons that failed.
            share: of the reads, 0 to 1.
            is_up: whether the secondary is taken for healthy.
        """
        self.share = share
        self._route = route
        self._judge = judge
        self._book = book
        self._hook = hook
        self._is_up = is_up
        self._counts = dict.fromkeys(
            ("sampled", "dropped", "compared", "skipped", "rechecked", "confirmed"), 0
        )
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: the parent's thread compares the parent's reads."""
        self._notes: queue.SimpleQueue[_Note | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._random = random.Random()  # noqa: S311 - which reads is no secret

    # -- the caller's side --------------------------------------------------------------

    def note_keys(self, collection: str, keys: Sequence[str]) -> None:
        """Perhaps compare a read by key."""
        if self._is_chosen(collection):
            self._add(_Keys(collection, keys))

    def note_query(self, collection: str, query: Query) -> None:
        """Perhaps compare a query."""
        if self._is_chosen(collection):
            self._add(_Found(collection, query))

    def note_count(self, collection: str, where: Condition) -> None:
        """Perhaps compare a count."""
        if self._is_chosen(collection):
            self._add(_Counted(collection, where))

    def _is_chosen(self, collection: str) -> bool:
        """By lot; what was found is not compared, or it might be found again."""
        share = self.share
        return bool(share) and collection != FINDINGS and self._random.random() < share

    def _add(self, note: _Note) -> None:
        with self._lock:
            self._counts["sampled"] += 1
            if self._notes.qsize() >= _QUEUE or self._stop.is_set():
                self._counts["dropped"] += 1
                return
            if self._thread is None:
                self._thread = start_thread(self._work, "pend-compare")
        self._notes.put(note)

    # -- what came of it ----------------------------------------------------------------

    def compared(self) -> Compared:
        """The numbers."""
        return Compared(**self._counts)

    def wait(self, timeout: float) -> bool:
        """Wait until all notes taken so far are compared; False where that took longer."""
        deadline = time.monotonic() + timeout
        wanted = self._counts["sampled"] - self._counts["dropped"]
        while self._counts["compared"] + self._counts["skipped"] < wanted:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE / 10)
        return True

    def stop(self, timeout: float) -> None:
        """End the thread; what waits is dropped."""
        self._stop.set()
        self._notes.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    # -- the thread ---------------------------------------------------------------------

    def _work(self) -> None:
        while (note := self._notes.get()) is not None and not self._stop.is_set():
            try:
                done = self._compare(note)
            except (StaleEpoch, *OUT_OF_REACH, _NotFilledError):
                done = False
            except Exception as error:  # noqa: BLE001 - the thread outlives surprises
                done = False
                self._complain(error)
            self._counts["compared" if done else "skipped"] += 1

    def _complain(self, error: Exception) -> None:
        self._hook(
            Event(
                "compare-failed",
                f"a comparison failed: {shown(error)}",
                logging.WARNING,
            )
        )

    def _compare(self, note: _Note) -> bool:
        route = self._route()
        if route.follower is None or not self._is_up():
            return False
        match note:
            case _Keys(collection, keys):
                self._judge_keys(route, collection, keys[:_MOST_KEYS])
            case _Found(collection, query):
                wanted = query
                if query.limit is None or query.limit > _MOST_ROWS:
                    wanted = replace(query, limit=_MOST_ROWS)
                self._judge_answer(
                    route,
                    collection,
                    lambda store, epoch: store.query(collection, wanted, epoch=epoch),
                )
            case _Counted(collection, where):
                self._judge_answer(
                    route,
                    collection,
                    lambda store, epoch: store.count(collection, where, epoch=epoch),
                )
        return True

    def _judge_keys(self, route: Route, collection: str, keys: Sequence[str]) -> bool:
        """Compare records; gives whether some certainly differ."""
        assert route.follower is not None  # noqa: S101 - looked at before
        secondary = route.follower.read(collection, keys)
        primary = route.store.read(collection, keys, epoch=route.epoch)
        suspects = [k for k in keys if not _alike(primary.get(k), secondary.get(k))]
        if not suspects:
            self._book.gone((collection, key) for key in keys)
            return False
        _require_filled(route)
        self._counts["rechecked"] += 1
        found, unsettled = self._judge.judge(
            route, collection, suspects, stop=self._stop
        )
        equal = [key for key in keys if key not in found and key not in unsettled]
        self._book.gone((collection, key) for key in equal)
        self._counts["confirmed"] += bool(found)
        self._book.report(found.values())
        return bool(found)

    def _judge_answer(
        self,
        route: Route,
        collection: str,
        ask: Callable[[Store, int | None], Any],
    ) -> None:
        """Compare two answers; what differs is looked at key by key."""
        seen: tuple[Any, Any] | None = None
        since = started = time.monotonic()
        while not self._stop.is_set():
            assert route.follower is not None  # noqa: S101 - looked at before
            secondary = _plain(ask(route.follower, None))
            primary = _plain(ask(route.store, route.epoch))
            if primary == secondary:
                return
            _require_filled(route)
            now = time.monotonic()
            if (primary, secondary) != seen:
                self._counts["rechecked"] += seen is None
                seen, since = (primary, secondary), now
                if isinstance(primary, list) and self._judge_keys(
                    route, collection, sorted(_keys(primary) | _keys(secondary))
                ):
                    return
            elif now - since >= HELD_BACK:
                require_following(route)
                self._counts["confirmed"] += 1
                self._book.report([_answer(collection)])
                return
            if now - started >= 4 * HELD_BACK:
                return  # it goes on changing
            self._judge.wait(_PAUSE, self._stop)


class _NotFilledError(Exception):
    """The secondary lacks what a backfill is still to bring: that is no divergence."""


def _require_filled(route: Route) -> None:
    assert route.follower is not None  # noqa: S101 - looked at before
    if not is_covered(route.store, route.follower):
        raise _NotFilledError


def _alike(left: Row | None, right: Row | None) -> bool:
    """A quick look; what it does not settle is looked at closely."""
    if left is None or right is None:
        return left is right
    return left.version == right.version and bool(left.record == right.record)


def _plain(answer: Any) -> Any:
    """An answer in a form that can be compared: order, keys and records."""
    if isinstance(answer, list):
        return [(row.key, row.record) for row in answer]
    return answer


def _keys(answer: Any) -> set[str]:
    return {key for key, _ in answer}


def _answer(collection: str) -> Finding:
    now = datetime.now(UTC)
    return Finding(
        collection=collection,
        key="",
        kind="answer",
        versions=(0, 0),
        first_seen=now,
        last_seen=now,
    )
