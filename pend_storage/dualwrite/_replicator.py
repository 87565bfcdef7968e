"""Synchronous replicator: applies commits to the secondary while their callers wait.

One worker applies all that waits in one call, so a thousand callers cost the secondary one
transaction. A caller waits for its own commits up to a deadline; the relay applies whatever
does not arrive, from the primary's change log.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from typing_extensions import override

from pend_storage._group_commit import Request, WorkerLedQueue
from pend_storage.dualwrite._background import start_thread
from pend_storage.dualwrite._batch_limit import MOST_BYTES, BatchLimit, Load
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH, CircuitBreaker, why
from pend_storage.dualwrite._route import Route
from pend_storage.errors import PendStorageError, StaleEpoch
from pend_storage.events import Event, Hook

__all__ = ["SynchronousReplicator"]

_MOST_WAITING: Final = 10_000
"""Writes in the queue at most; further ones are left to the relay."""
_MOST_WAITING_BYTES: Final = 4 * MOST_BYTES
"""Bytes of the writes in the queue at most."""


class PendingWrite(Request):
    """Write that the primary has committed, on its way to the secondary."""

    __slots__ = ("_arrived", "load", "route")

    def __init__(self, route: Route, load: Load) -> None:
        super().__init__()
        self.route = route
        self.load = load
        self._arrived = (
            threading.Lock()
        )  # the cheapest thing that a thread can wait for
        self._arrived.acquire()

    def wake(self) -> None:
        """Wake the caller: the write was tried."""
        self._arrived.release()

    def wait(self, deadline: float) -> bool:
        """Wait until the write was tried; return False where the deadline passes before.

        Args:
            deadline: on the monotonic clock, in seconds.
        """
        if self.done:
            return True
        left = max(0.0, deadline - time.monotonic())
        return self._arrived.acquire(timeout=left)


class SynchronousReplicator(WorkerLedQueue[PendingWrite]):
    """Replicator: queue of committed writes, and the thread that applies them in batches."""

    def __init__(
        self,
        breaker: CircuitBreaker,
        hook: Hook,
        *,
        on_stale: Callable[[Route], None],
        on_missed: Callable[[], None],
    ) -> None:
        """Make a replicator; the thread starts with the first write.

        Args:
            breaker: opened and closed by the outcome of the writes.
            hook: gets events.
            on_stale: called where the secondary refuses the epoch of the route.
            on_missed: called where a write did not reach the secondary.
        """
        self.breaker = breaker
        self._hook = hook
        self._on_stale = on_stale
        self._on_missed = on_missed
        super().__init__(self._apply)

    @override
    def reset(self) -> None:
        super().reset()
        self._waiting_bytes = 0
        """Roughly: callers count without a lock. It is right again when nothing waits."""
        self._limit = BatchLimit()
        self._is_stopped = False
        self._threads: list[threading.Thread] = []
        """The worker, once it has begun; one at most."""
        self._turns: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        """One item for each turn of the worker as leader; None ends it."""
        self._start_worker = self._turns.put

    def after_fork(self) -> None:
        """Begin anew in a forked child: the parent's thread applies the parent's writes."""
        self.reset()

    def replicate(
        self, route: Route, commits: Sequence[Load], timeout: float | None
    ) -> None:
        """Apply commits to the follower of a route; never raises.

        The mark does not move by it, so the relay applies them once more.

        Args:
            route: with a follower.
            commits: changed records of each; a refused commit delays no other one.
            timeout: seconds to wait for all; 0: not at all; None: as long as it takes.
        """
        if not self.breaker.is_closed:
            return
        writes = [PendingWrite(route, load) for load in commits]
        if timeout is None:
            done = 0
            while done < len(writes) and self.breaker.is_closed:
                batch = self._fitting(islice(writes, done, None))
                self._apply(batch)
                done += len(batch)
        elif not self._has_room():
            self._on_missed()
        elif self._threads or start_thread(self._serve, "pend-replicator") is not None:
            for write in writes:
                self._waiting_bytes += write.load.bytes
            self.submit(*writes)
            if timeout > 0:
                self._await(writes, timeout)

    def _await(self, writes: Sequence[PendingWrite], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for write in writes:
            if not write.wait(deadline):
                self.breaker.failed(f"did not answer within {timeout:g} s")
                self._on_missed()
                return

    def stop(self, timeout: float) -> None:
        """Apply the writes that wait, and end the thread.

        Args:
            timeout: seconds to wait for that; the relay applies the rest.
        """
        self._is_stopped = True  # later writes are left to the relay
        self._turns.put(None)
        for thread in self._threads:
            thread.join(timeout)
        with self._lock:
            rest, self._waiting = self._waiting, deque()
        for write in rest:
            write.wake()

    # -- the queue ----------------------------------------------------------------------

    def _has_room(self) -> bool:
        return not (
            self._is_stopped
            or len(self._waiting) >= _MOST_WAITING
            or self._waiting_bytes >= _MOST_WAITING_BYTES
        )

    @override
    def _next_batch(self) -> list[PendingWrite]:
        waiting = self._waiting
        if not waiting:
            return []
        batch = self._fitting(tuple(waiting))
        if len(batch) == len(waiting):
            self._waiting_bytes = 0
        else:
            self._waiting_bytes -= sum([write.load.bytes for write in batch])
        for _ in batch:
            waiting.popleft()
        return batch

    def _fitting(self, waiting: Iterable[PendingWrite]) -> list[PendingWrite]:
        """Return the first writes of one route that fit into one call."""
        batch: list[PendingWrite] = []
        records = size = 0
        for write in waiting:
            load = write.load
            if batch and not (
                write.route == batch[0].route and self._limit.fits(load, records, size)
            ):
                break
            batch.append(write)
            records += len(load.records)
            size += load.bytes
        return batch

    @override
    def _deliver(self, batch: list[PendingWrite]) -> None:
        for write in batch:
            write.wake()

    # -- the thread ---------------------------------------------------------------------

    def _serve(self) -> None:
        with self._lock:
            if self._threads:  # two callers were the first
                return
            self._threads.append(threading.current_thread())
        turns = self._turns
        while (lead := turns.get()) is not None:
            lead()

    def _apply(self, writes: list[PendingWrite]) -> None:
        """Apply writes of one route in one call; never raises an error of the secondary."""
        route = writes[0].route
        assert route.follower is not None  # noqa: S101 - its callers have looked
        records = [item for write in writes for item in write.load.records]
        size = sum([write.load.bytes for write in writes])
        started = time.monotonic()
        try:
            route.follower.apply(records, epoch=route.epoch)
        except StaleEpoch:
            # The roles have changed. The commits are in the change log, which the switch
            # drains before it opens another primary.
            self._on_stale(route)
        except OUT_OF_REACH as error:
            if (
                len(writes) > 1
            ):  # the batch may have been too large to be answered in time
                self._limit.shrink(len(records), size)
            self.breaker.failed(f"cannot be reached ({why(error)})")
            self._on_missed()
        except PendStorageError as error:
            self._postpone(writes, error)
        except Exception as error:  # noqa: BLE001 - the caller's commit has succeeded
            self._postpone(writes, error)
        else:
            self._limit.grow(len(records), size)
            self.breaker.succeeded(time.monotonic() - started)
        for write in writes:
            write.done = True

    def _postpone(self, writes: list[PendingWrite], error: Exception) -> None:
        """Leave writes that the secondary refuses to the relay.

        As a rule such a write came before its turn: the value that it claims is still
        in use there, because another process is just replicating the commit that frees
        it. The change log has everything in order, and the relay emits an event if that
        fails too.
        """
        if len(writes) > 1:  # one by one, so that a refused write delays no other one
            for write in writes:
                self._apply([write])
            return
        self._hook(
            Event(
                "secondary-postpones",
                f"the secondary refuses a commit for now ({error}); the relay applies it "
                "from the change log",
                logging.DEBUG,
            )
        )
        self._on_missed()
