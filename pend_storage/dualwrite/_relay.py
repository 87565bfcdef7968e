"""Relay that applies the primary's change log to the secondary in the background.

The change log is the durable intent of every dual write: whatever a crash, a timeout or
an outage kept from the secondary is still in it. The mark is committed together with the
data, and every row is guarded by its version, so repeating is harmless, and so are two
relays at once. That there is one at a time is a matter of economy: a relay that finds the
mark moved by another one leaves the work to it.

The log drain (:mod:`~pend_storage.dualwrite._log_drain`) does the work; the relay decides
when.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Final

from pend_storage._audit_chain import seal
from pend_storage._model.records import Advance
from pend_storage.dualwrite._background import start_thread
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH, CircuitBreaker, why
from pend_storage.dualwrite._lag import Lag, lag_of
from pend_storage.dualwrite._legacy_edits import LegacyEditSync
from pend_storage.dualwrite._log_continuity import LogContinuity
from pend_storage.dualwrite._log_drain import REFUSALS, LogDrain, Obstacle
from pend_storage.dualwrite._log_pruning import prune_old
from pend_storage.dualwrite._relay_schedule import RelaySchedule, blocked_reason
from pend_storage.dualwrite._replication_position import (
    POSITION_META,
    ReplicationPosition,
    log_reaches,
    position_from_now,
)
from pend_storage.dualwrite._route import Route, require_primary
from pend_storage.dualwrite._router import Router
from pend_storage.errors import (
    ChangesExpired,
    PendStorageError,
    StaleEpoch,
)
from pend_storage.events import Event, Hook
from pend_storage.instrumentation._timing import Count
from pend_storage.store import Store

__all__ = ["Relay"]

_MAINTAIN_EVERY: Final = 1.0
"""Seconds between two reads of the roles, and between two attempts at a secondary that
is down."""
_PRUNE_EVERY: Final = 600.0
_SEAL_EVERY: Final = 60.0
"""Seconds between two looks for audit entries to seal."""
_SYNC_EDITS_EVERY: Final = 5.0


class Relay:
    """Relay: background thread that drains the log at an interval, and when it is woken."""

    def __init__(
        self,
        router: Router,
        breaker: CircuitBreaker,
        *,
        schedule: RelaySchedule,
        continuity: LogContinuity,
        edits: LegacyEditSync,
        hook: Hook,
        interval: float | None,
        retention: timedelta,
        archive_hold: timedelta,
        count: Count | None,
    ) -> None:
        """Make a relay; its thread starts with the first route.

        Args:
            router: knows the primary; the relay subscribes to its routes.
            breaker: closed when the secondary is reached.
            schedule: wakes the relay, and spaces its attempts.
            continuity: refuses to follow a primary that was rewound. The mark alone does
                not show it, where the secondary got commits directly that the log lost.
            edits: synchronised now and then, by the relay that is at work.
            hook: gets events.
            interval: seconds between two reads of the change log; None: there is no
                thread, and :meth:`catch_up` is called instead.
            retention: how long entries are kept that the other side has applied.
            archive_hold: how much longer they are kept for an archive that lags.
            count: counts the commits that were applied.
        """
        self._router = router
        self._breaker = breaker
        self._schedule = schedule
        self._continuity = continuity
        self._edits = edits
        self._hook = hook
        self._interval = interval
        self._retention = retention
        self._archive_hold = archive_hold
        self._count = count
        self.after_fork()
        router.subscribe(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child, which has no thread yet."""
        self._schedule.after_fork()
        self._starting = threading.Lock()
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        self._seen: ReplicationPosition | None = None
        self._passed: ReplicationPosition | None = None
        """Position of the follower when it was asked last."""
        self._log_drain = LogDrain(
            on_rewound=self._emit_rewound,
            on_obstacle=self._record_obstacle,
            on_moved=self._schedule.record_progress,
        )
        self._maintained = self._pruned = self._edits_synced = time.monotonic()
        self._sealed = time.monotonic()

    # -- life ---------------------------------------------------------------------------

    def route_changed(self, _: Route) -> None:
        """Start the thread if it does not run, and read the log of the new primary.

        Also where there is no follower: the log is pruned, and a witness is left.
        """
        self._start()
        self._schedule.wake()  # an obstacle on the old route need not be one on this

    def _start(self) -> None:
        if self._interval is None:
            return
        with self._starting:
            if self._thread is None and not self._is_stopped:
                self._thread = start_thread(self._work, "pend-relay")

    def wake(self) -> None:
        """Drain at once, without the pause that an obstacle has caused."""
        self._schedule.wake()

    def stop(self, timeout: float) -> None:
        """End the thread, within so many seconds; the change log keeps what it left."""
        with self._starting:
            self._is_stopped = True
        self._schedule.notify()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def run(self, interval: float | None = None) -> None:
        """Relay in the calling thread until :meth:`stop`: for a process of its own."""
        with self._starting:
            self._interval = interval or self._interval or _MAINTAIN_EVERY
            # A route that is found would start a second thread otherwise.
            self._thread = self._thread or threading.current_thread()
        self._work()

    def _work(self) -> None:
        interval = self._interval or _MAINTAIN_EVERY
        pause = interval
        while True:
            woken = self._schedule.wait(pause)
            if self._is_stopped:
                return
            busy = self._run_once(mine=woken)
            if not self._breaker.is_closed:
                pause = max(interval, _MAINTAIN_EVERY)
            else:
                pause = (
                    interval if busy else min(2 * pause, max(interval, _MAINTAIN_EVERY))
                )

    def _run_once(self, *, mine: bool) -> bool:
        """Drain the log once, if due or woken; return whether there was something to do."""
        try:
            self._maintain()
            return self._drain_if_due(self._router.route, mine=mine)
        except StaleEpoch:
            self._router.invalidate()
        except REFUSALS as error:
            if not self._is_obstacle(error):
                self._schedule.record_failure(error, self._seen)
        except OUT_OF_REACH as error:
            is_ending = self._is_stopped or self._router.is_closed
            if not is_ending and not self._is_obstacle(error):
                self._breaker.failed(self._fault(error))
        except Exception as error:  # noqa: BLE001 - the thread must outlive every surprise
            self._schedule.record_failure(error, self._seen)
        return False

    def _fault(self, error: PendStorageError) -> str:
        """Return a sentence on which of the two stores did not answer."""
        route = self._router.known_route
        if route is not None and route.follower is not None:
            with contextlib.suppress(*OUT_OF_REACH):
                route.follower.meta(POSITION_META)
                return (
                    f"gets nothing, because the primary cannot be read ({why(error)})"
                )
        return f"cannot be reached ({why(error)})"

    # -- obstacles ------------------------------------------------------------------------

    def _is_obstacle(self, error: Exception) -> bool:
        """Return whether an error is that of one commit, and was recorded already."""
        obstacle = self._log_drain.obstacle
        return obstacle is not None and obstacle.error is error

    def _record_obstacle(self, obstacle: Obstacle) -> None:
        follower = self._router.route.follower
        if follower is not None:
            self._schedule.record_obstacle(obstacle, follower)

    def _emit_rewound(
        self, before: ReplicationPosition, now: ReplicationPosition | None
    ) -> None:
        place = "no position any more"
        if now is not None:
            place = f"position {now.sequence} (of {now.committed_at})"
        self._hook(
            Event(
                "secondary-rewound",
                f"the secondary was at position {before.sequence} (of "
                f"{before.committed_at}) of the change log, and has {place} now: it lost "
                "commits by a failover or a "
                "restore. The relay applies them again from the change log, as far as "
                "that reaches back; validate the secondary before it becomes primary",
                logging.WARNING,
                {
                    "before": before.sequence,
                    "now": None if now is None else now.sequence,
                },
            )
        )

    # -- work ---------------------------------------------------------------------------

    def _maintain(self) -> None:
        """Recover half-done switches, and notice a secondary that came, went or is back."""
        now = time.monotonic()
        if (
            now - self._maintained >= _MAINTAIN_EVERY
            or not self._router.route.is_certain
        ):
            self._maintained = now
            self._router.maintain()

    def _drain_if_due(self, route: Route, *, mine: bool) -> bool:
        if route.follower is None:
            if route.is_certain:
                self._prune_now_and_then()  # nothing else keeps the log short
            return False
        mark = ReplicationPosition.load(route.follower)
        others, self._seen, self._passed = mark != self._seen, mark, mark
        if others and not mine and self._breaker.is_closed:
            return True  # another process's relay moves the mark: leave the work to it
        if not self._schedule.is_due(mark):
            return False
        commits = self._drain(route)
        self._seen = self._passed = ReplicationPosition.load(route.follower)
        self._prune_now_and_then()
        if time.monotonic() - self._edits_synced >= _SYNC_EDITS_EVERY:
            self._edits_synced = time.monotonic()
            self._edits.sync(route)
        return commits > 0

    def catch_up(self) -> int:
        """Drain in the calling thread; return how many commits were applied.

        Raises:
            StoreUnavailable: one of the stores cannot be reached.
            ConfigError: the primary was rewound.
        """

        def caught_up(route: Route) -> int:
            commits = 0 if route.follower is None else self._drain(route)
            if not commits:  # perhaps there is more where the primary is by now
                require_primary(route.store, route.epoch)
            return commits

        return self._router.call(caught_up)

    def lag(self, route: Route) -> Lag:
        """Measure how far a follower is behind.

        Where it is out of reach, the last position that this process has seen counts, and
        without one the whole change log.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """
        found, lost = self._measured(route), self._continuity.refusal(route)
        if lost is None:
            return found
        commits = max(1, found.commits)
        return replace(found, commits=commits, seconds=math.inf, blocked=str(lost))

    def _measured(self, route: Route) -> Lag:
        trouble = self._router.pair.unreachable.get(route.follower_side)
        blocked = (
            "the secondary does not follow yet"
            if trouble is None
            else f"the secondary cannot be reached ({why(trouble)})"
        )
        if route.follower is not None:
            try:
                self._passed = mark = ReplicationPosition.load(route.follower)
                reason = blocked_reason(route.follower, mark)
                is_up = self._breaker.is_closed
            except OUT_OF_REACH as error:
                blocked = f"the secondary cannot be reached ({why(error)})"
            else:
                found = lag_of(route.store, mark)
                reason = found.problem or (reason if found.commits else None)
                return Lag(*found[:2], secondary_up=is_up, blocked=reason)
        found = lag_of(route.store, self._passed).at_least()
        blocked = found.problem or blocked
        return Lag(*found[:2], secondary_up=False, blocked=blocked)

    def _drain(self, route: Route) -> int:
        error = self._continuity.refusal(route)
        if error is not None:
            raise error
        try:
            commits = self._log_drain.run(route.store, route.secondary, route.epoch)
        except ChangesExpired:
            self._begin_anew(route)
            return 0
        except REFUSALS:
            self._reached(route)  # it answers, so the breaker may close
            raise
        if commits and self._count is not None:
            self._count("relay_applied", commits)
        self._schedule.record_progress()
        self._reached(route)
        return commits

    def _reached(self, route: Route) -> None:
        if not self._breaker.is_closed:
            started = time.monotonic()
            route.secondary.apply((), epoch=route.epoch)  # is it quick enough again?
            self._breaker.succeeded(time.monotonic() - started)

    def _begin_anew(self, route: Route) -> None:
        """Follow from the end of the log, and emit that a backfill is needed."""
        found = route.secondary.meta(POSITION_META)
        known = ReplicationPosition.parse(found)
        if known is not None and log_reaches(route.store, known):
            return  # another relay has moved it, and what it has passed was forgotten
        mark = position_from_now(route.store)
        advance = Advance(POSITION_META, found, mark.to_meta())
        route.secondary.apply((), epoch=route.epoch, mark=advance)
        if not mark.needs_no_backfill:
            self._hook(
                Event(
                    "backfill-needed",
                    "the change log does not reach back to where the secondary left it: "
                    "it follows from now on, and needs a backfill before it may become "
                    "primary",
                    logging.WARNING,
                )
            )

    # -- retention ----------------------------------------------------------------------

    def _prune_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._sealed >= _SEAL_EVERY:
            self._sealed = now
            seal(
                self._router.route.store
            )  # before the log is pruned, which it is read from
        if now - self._pruned >= _PRUNE_EVERY:
            self._pruned = now
            self.prune()

    def prune(self) -> None:
        """Prune both logs: entries older than the retention that the other side has applied."""
        # The entry at the mark stays: by it the log is recognised. What is known here of
        # the roles may be old, so either store's log is kept for the other one's mark.
        route = self._router.route
        if route.follower is None:
            require_primary(route.store, route.epoch)  # perhaps it has a follower since
            self._prune(route.store, None)
            return
        mark = ReplicationPosition.load(route.follower)
        known = ReplicationPosition.load(route.store)
        if known is not None and known.source != route.follower.identity():
            known = None
        self._prune(route.store, 0 if mark is None else mark.sequence - 1)
        self._prune(route.follower, None if known is None else known.sequence - 1)

    def _prune(self, store: Store, passed: int | None) -> None:
        prune_old(
            store,
            passed,
            retention=self._retention,
            archive_hold=self._archive_hold,
            hook=self._hook,
        )
