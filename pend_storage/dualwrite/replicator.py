"""Brings a commit to the secondary at once, in the company of whatever else waits.

One thread takes all that is waiting and applies it in one call, so a thousand callers
cost the secondary one transaction. A caller waits for its own part, up to a deadline;
whatever does not arrive is brought by the relay, from the primary's change log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from pend_storage.dualwrite.background import start_thread
from pend_storage.dualwrite.batch_limit import MOST_BYTES, BatchLimit, Load
from pend_storage.dualwrite.circuit_breaker import OUT_OF_REACH, CircuitBreaker, why
from pend_storage.dualwrite.routing import Route
from pend_storage.errors import (
    PendStorageError,
    StaleEpoch,
)
from pend_storage.events import Event, Hook

__all__ = ["SynchronousReplicator"]

_MOST_WAITING: Final = 10_000
"""Parcels that may wait, where nobody waits for them; more are left to the relay."""
_MOST_WAITING_BYTES: Final = 4 * MOST_BYTES
"""And bytes of theirs."""


class PendingWrite:
    """What one caller has committed."""

    __slots__ = ("_done", "load", "route")

    def __init__(self, route: Route, load: Load) -> None:
        self.route = route
        self.load = load
        self._done = threading.Lock()  # the cheapest thing that a thread can wait for
        self._done.acquire()

    def finish(self) -> None:
        self._done.release()

    def wait(self, deadline: float) -> bool:
        left = max(0.0, deadline - time.monotonic())
        return self._done.acquire(timeout=left)


class SynchronousReplicator:
    """The thread that applies to the secondary what callers have just committed."""

    def __init__(
        self,
        breaker: CircuitBreaker,
        hook: Hook,
        *,
        on_stale: Callable[[Route], None],
        on_missed: Callable[[], None],
    ) -> None:
        """Make it; the thread starts with the first parcel.

        Args:
            breaker: opened and closed by what happens to the parcels.
            hook: gets events.
            on_stale: called where the secondary is not what the route says.
            on_missed: called where something did not arrive.
        """
        self.breaker = breaker
        self._hook = hook
        self._on_stale = on_stale
        self._on_missed = on_missed
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: the parent's thread brings the parent's parcels."""
        self._waiting: deque[PendingWrite] = deque()
        self._waiting_bytes = 0
        self._room = BatchLimit()
        self._wake = threading.Condition(threading.Lock())
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    def bring(
        self,
        route: Route,
        commits: Sequence[Load],
        timeout: float | None,
    ) -> None:
        """Apply commits to the follower of a route; never raises.

        No mark moves by it, so the relay brings them once more.

        Args:
            route: with a follower.
            commits: what each has changed; one that is refused holds no other one up.
            timeout: seconds to wait for all; 0: not at all; None: as long as it takes.
        """
        if not self.breaker.is_closed:
            return
        parcels = [PendingWrite(route, load) for load in commits]
        if timeout is None:
            rest = deque(parcels)
            while rest and self.breaker.is_closed:
                self._arrive(self._part(rest))
        elif self._hand_over(parcels) and timeout > 0:
            deadline = time.monotonic() + timeout
            if not all(parcel.wait(deadline) for parcel in parcels):
                self.breaker.failed(f"did not answer within {timeout:g} s")
                self._on_missed()

    def _hand_over(self, parcels: Sequence[PendingWrite]) -> bool:
        with self._wake:
            if self._is_stopped or self._is_full:
                self._on_missed()
                return False
            if self._thread is None:
                self._thread = start_thread(self._work, "pend-follower")
            if self._thread is None:
                return False
            was_idle = not self._waiting
            self._waiting.extend(parcels)
            self._waiting_bytes += sum(parcel.load.bytes for parcel in parcels)
            if was_idle:
                self._wake.notify()
        return True

    @property
    def _is_full(self) -> bool:
        return (
            len(self._waiting) >= _MOST_WAITING
            or self._waiting_bytes >= _MOST_WAITING_BYTES
        )

    def stop(self, timeout: float) -> None:
        """Finish what is waiting, for so many seconds at most, and end the thread."""
        with self._wake:
            self._is_stopped = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout)
        while self._waiting:
            self._waiting.popleft().finish()

    def _work(self) -> None:
        while parcels := self._next():
            self._arrive(parcels)
            for parcel in parcels:
                parcel.finish()

    def _next(self) -> list[PendingWrite]:
        """All that waits and goes the same way; nothing once it is stopped."""
        with self._wake:
            while not self._waiting and not self._is_stopped:
                self._wake.wait()
            taken = self._part(self._waiting)
            self._waiting_bytes -= sum(parcel.load.bytes for parcel in taken)
            return taken

    def _part(self, waiting: deque[PendingWrite]) -> list[PendingWrite]:
        """What goes the same way and fits into one call, taken from the front."""
        taken: list[PendingWrite] = []
        records = size = 0
        while waiting:
            first = waiting[0]
            if taken and not (
                first.route == taken[0].route
                and self._room.fits(first.load, records, size)
            ):
                break
            taken.append(waiting.popleft())
            records += len(first.load.records)
            size += first.load.bytes
        return taken

    def _arrive(self, parcels: list[PendingWrite]) -> None:
        route = parcels[0].route
        assert route.follower is not None  # noqa: S101 - its callers have looked
        records = [item for parcel in parcels for item in parcel.load.records]
        size = sum(parcel.load.bytes for parcel in parcels)
        started = time.monotonic()
        try:
            route.follower.apply(records, epoch=route.epoch)
        except StaleEpoch:
            # Roles have changed: what was committed is in the change log, and whoever
            # changes the roles sees to it that it is applied.
            self._on_stale(route)
        except OUT_OF_REACH as error:
            if len(parcels) > 1:  # perhaps it was only too much
                self._room.shrink(len(records), size)
            self.breaker.failed(f"cannot be reached ({why(error)})")
            self._on_missed()
        except PendStorageError as error:
            self._refused(parcels, error)
        except Exception as error:  # noqa: BLE001 - the caller's commit has succeeded
            self._refused(parcels, error)
        else:
            self._room.grow(len(records), size)
            self.breaker.succeeded(time.monotonic() - started)

    def _refused(self, parcels: list[PendingWrite], error: Exception) -> None:
        """The secondary works, but does not take this.

        As a rule it came before its turn: the value that it claims is still taken there,
        because another process is just bringing the commit that frees it. The change log
        has everything in order, and it is the relay that complains if that fails too.
        """
        if len(parcels) > 1:  # keep it from spoiling the rest
            for parcel in parcels:
                self._arrive([parcel])
            return
        self._hook(
            Event(
                "secondary-postpones",
                f"the secondary does not take a commit yet ({error}); it gets it from "
                "the change log",
                logging.DEBUG,
            )
        )
        self._on_missed()
