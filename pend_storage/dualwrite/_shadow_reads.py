"""Shadow reads: a sample of the reads, repeated at both stores by a thread of its own.

The caller only draws a random number, and puts a sample into a queue. A full queue drops
the sample. The caller's answer is not used: the thread reads from both stores itself.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias

from pend_storage._model.records import Row
from pend_storage._shown import shown
from pend_storage.dualwrite._background import start_thread
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH, CircuitBreaker
from pend_storage.dualwrite._compared_totals import TotalsRecord
from pend_storage.dualwrite._divergence_check import (
    DivergenceConfirmer,
    Finding,
    require_following,
)
from pend_storage.dualwrite._divergence_registry import DivergenceRegistry
from pend_storage.dualwrite._replication_position import HELD_BACK, is_complete_replica
from pend_storage.dualwrite._route import Route
from pend_storage.dualwrite._router import Router
from pend_storage.errors import StaleEpoch
from pend_storage.events import Event, Hook
from pend_storage.query import Condition, Query
from pend_storage.schema import FINDINGS
from pend_storage.store import Store

__all__ = ["Compared", "ShadowReadSampler"]

_QUEUE: Final = 1_000
_MOST_KEYS: Final = 500
"""Keys of one read that are compared; a sample need not be more."""
_MOST_ROWS: Final = 200
"""Rows of a query that are compared; a query without a limit is cut there."""
_PAUSE: Final = 0.05
_IDLE: Final = 1.0
"""Seconds without a sample after which the counts are added to those of all processes."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Counters of the compared reads of this process."""

    sampled: int
    """Reads that were chosen."""
    dropped: int
    """Those that found the queue full."""
    compared: int
    """Those that were repeated at both stores."""
    skipped: int
    """Those that could not be: a store out of reach, a switch between, or a secondary
    that is still to be filled."""
    rechecked: int
    """Those that differed at the first read."""
    confirmed: int
    """Those of them that certainly differ."""


class _KeySample(NamedTuple):
    collection: str
    keys: Sequence[str]


class _QuerySample(NamedTuple):
    collection: str
    query: Query


class _CountSample(NamedTuple):
    collection: str
    where: Condition


_Sample: TypeAlias = _KeySample | _QuerySample | _CountSample


class ShadowReadSampler:
    """Sampler of shadow reads, and the thread that compares them. Safe to share."""

    def __init__(
        self,
        router: Router,
        breaker: CircuitBreaker,
        confirmer: DivergenceConfirmer,
        registry: DivergenceRegistry,
        hook: Hook,
        *,
        share: float,
        totals: TotalsRecord,
    ) -> None:
        """Make a sampler; the thread starts with the first sample.

        Args:
            router: knows both stores.
            breaker: closed while the secondary is considered healthy.
            confirmer: decides what is certain.
            registry: records what was found.
            hook: gets an event for comparisons that failed.
            share: of the reads, 0 to 1.
            totals: gets the counters of this process, for others to read.
        """
        self.share = share
        self._totals = totals
        self._router = router
        self._breaker = breaker
        self._confirmer = confirmer
        self._registry = registry
        self._hook = hook
        self._counts = dict.fromkeys(
            ("sampled", "dropped", "compared", "skipped", "rechecked", "confirmed"), 0
        )
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child: the parent's thread compares the parent's reads."""
        self._totals.begin_at(self._counts)
        self._samples: queue.SimpleQueue[_Sample | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._random = random.Random()  # noqa: S311 - which reads is no secret

    # -- the caller's side --------------------------------------------------------------

    def sample_keys(self, collection: str, keys: Sequence[str]) -> None:
        """Sample a read by key, if it is chosen."""
        if self._is_chosen(collection):
            self._add(_KeySample(collection, keys))

    def sample_query(self, collection: str, query: Query) -> None:
        """Sample a query, if it is chosen."""
        if self._is_chosen(collection):
            self._add(_QuerySample(collection, query))

    def sample_count(self, collection: str, where: Condition) -> None:
        """Sample a count, if it is chosen."""
        if self._is_chosen(collection):
            self._add(_CountSample(collection, where))

    def _is_chosen(self, collection: str) -> bool:
        """Draw whether to compare a read. Findings are not compared: they would be found."""
        share = self.share
        return bool(share) and collection != FINDINGS and self._random.random() < share

    def _add(self, sample: _Sample) -> None:
        with self._lock:
            # Without room the sample is dropped: a caller never waits for a comparison.
            self._counts["sampled"] += 1
            if self._samples.qsize() >= _QUEUE or self._stop.is_set():
                self._counts["dropped"] += 1
                return
            if self._thread is None:
                self._thread = start_thread(self._work, "pend-compare")
        self._samples.put(sample)

    # -- results ------------------------------------------------------------------------

    def compared(self) -> Compared:
        """Return the counters so far."""
        return Compared(**self._counts)

    def wait(self, timeout: float) -> bool:
        """Wait until all samples so far are compared; return False after a timeout.

        Args:
            timeout: in seconds.
        """
        deadline = time.monotonic() + timeout
        wanted = self._counts["sampled"] - self._counts["dropped"]
        while self._counts["compared"] + self._counts["skipped"] < wanted:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE / 10)
        return True

    def stop(self, timeout: float) -> None:
        """End the thread, and drop what waits."""
        self._stop.set()
        self._samples.put(None)
        if self._thread is not None:
            self._thread.join(timeout)

    # -- the thread ---------------------------------------------------------------------

    def _work(self) -> None:
        while (sample := self._next()) is not None and not self._stop.is_set():
            try:
                done = self._compare(sample)
            except (StaleEpoch, *OUT_OF_REACH, _IncompleteReplicaError):
                done = False
            except Exception as error:  # noqa: BLE001 - the thread outlives surprises
                done = False
                self._emit_failure(error)
            self._counts["compared" if done else "skipped"] += 1
            self._totals.add(self._counts)
        self._totals.add(self._counts, now=True)

    def _next(self) -> _Sample | None:
        """Return the next sample; while there is none, other processes get the counts."""
        while True:
            lacking = self._totals.lacks(self._counts)
            with contextlib.suppress(queue.Empty):
                return self._samples.get(timeout=_IDLE if lacking else None)
            self._totals.add(self._counts, now=True)

    def _emit_failure(self, error: Exception) -> None:
        self._hook(
            Event(
                "compare-failed",
                f"a comparison failed: {shown(error)}",
                logging.WARNING,
            )
        )

    def _compare(self, sample: _Sample) -> bool:
        route = self._router.route
        if route.follower is None or not self._breaker.is_closed:
            return False
        match sample:
            case _KeySample(collection, keys):
                self._compare_keys(route, collection, keys[:_MOST_KEYS])
            case _QuerySample(collection, query):
                wanted = query
                if query.limit is None or query.limit > _MOST_ROWS:
                    wanted = replace(query, limit=_MOST_ROWS)
                self._compare_answers(
                    route,
                    collection,
                    lambda store, epoch: store.query(collection, wanted, epoch=epoch),
                )
            case _CountSample(collection, where):
                self._compare_answers(
                    route,
                    collection,
                    lambda store, epoch: store.count(collection, where, epoch=epoch),
                )
        return True

    def _compare_keys(self, route: Route, collection: str, keys: Sequence[str]) -> bool:
        """Compare records, and return whether some certainly differ."""
        # The secondary first: whatever it has by then, the primary had committed before.
        secondary = route.secondary.read(collection, keys)
        primary = route.store.read(collection, keys, epoch=route.epoch)
        candidates = [k for k in keys if not _alike(primary.get(k), secondary.get(k))]
        if not candidates:
            self._registry.record_equal((collection, key) for key in keys)
            return False
        _require_complete_replica(route)
        self._counts["rechecked"] += 1
        found, unsettled = self._confirmer.confirm(
            route, collection, candidates, stop=self._stop
        )
        equal = [key for key in keys if key not in found and key not in unsettled]
        self._registry.record_equal((collection, key) for key in equal)
        self._counts["confirmed"] += bool(found)
        self._registry.record(found.values())
        return bool(found)

    def _compare_answers(
        self,
        route: Route,
        collection: str,
        ask: Callable[[Store, int | None], Any],
    ) -> None:
        """Compare two answers; where they differ, compare key by key."""
        # An answer names no versions, so only time can tell a divergence from a commit on
        # its way: both answers must stay the same for longer than one can be on its way.
        seen: tuple[Any, Any] | None = None
        since = started = time.monotonic()
        while not self._stop.is_set():
            secondary = _plain(ask(route.secondary, None))
            primary = _plain(ask(route.store, route.epoch))
            if primary == secondary:
                return
            _require_complete_replica(route)
            now = time.monotonic()
            if (primary, secondary) != seen:
                self._counts["rechecked"] += seen is None
                seen, since = (primary, secondary), now
                if isinstance(primary, list) and self._compare_keys(
                    route, collection, sorted(_keys(primary) | _keys(secondary))
                ):
                    return
            elif now - since >= HELD_BACK:
                require_following(route)
                self._counts["confirmed"] += 1
                self._registry.record([_answer(collection)])
                return
            if now - started >= 4 * HELD_BACK:
                return  # it goes on changing: nothing can be said about it
            self._confirmer.wait(_PAUSE, self._stop)


class _IncompleteReplicaError(Exception):
    """The secondary lacks rows that a backfill is still to copy: that is no divergence."""


def _require_complete_replica(route: Route) -> None:
    if not is_complete_replica(route.store, route.secondary):
        raise _IncompleteReplicaError


def _alike(left: Row | None, right: Row | None) -> bool:
    """Return whether two rows are equal by ``==``; others are compared by the rules."""
    if left is None or right is None:
        return left is right
    return left.version == right.version and bool(left.record == right.record)


def _plain(answer: Any) -> Any:
    """Return an answer in a form that can be compared: order, keys and records."""
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
