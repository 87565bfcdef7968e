"""Applies the primary's change log to the secondary, from a mark, in the background.

The change log is the durable intent of every dual write: whatever a crash, a timeout or
an outage kept from the secondary is still in it. The mark is committed together with the
data, and every row is guarded by its version, so repeating is harmless, and so are two
relays at once. That there is one at a time is a matter of economy: a relay that finds the
mark moved by another one leaves the work to it.

:mod:`~pend_storage.dualwrite.draining` does the work, this decides when.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pend_storage.dualwrite.background import start_thread
from pend_storage.dualwrite.circuit_breaker import OUT_OF_REACH, CircuitBreaker, why
from pend_storage.dualwrite.draining import REFUSALS, Drain, Obstacle
from pend_storage.dualwrite.lag import Lag, lag_of
from pend_storage.dualwrite.marks import MARK_META, Mark, fresh_mark, reaches
from pend_storage.dualwrite.routing import Route, Router, require_primary
from pend_storage.dualwrite.standstill import Standstill, reason_of
from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    PendStorageError,
    StaleEpoch,
)
from pend_storage.events import Event, Hook
from pend_storage.records import Advance, Change
from pend_storage.store import Store

__all__ = ["Relay"]

_TEND_EVERY: Final = 1.0
"""Seconds between two looks at the roles, and between two attempts at a secondary that
is down."""
_PRUNE_EVERY: Final = 600.0
_CHORE_EVERY: Final = 5.0


class Relay:
    """A background thread that drains now and then, and whenever it is woken."""

    def __init__(
        self,
        router: Router,
        breaker: CircuitBreaker,
        hook: Hook,
        *,
        interval: float | None,
        retention: timedelta,
    ) -> None:
        """Make it.

        Args:
            router: knows the primary.
            breaker: closed when the secondary is reached.
            hook: gets events.
            interval: seconds between two looks at the change log; None: there is no
                thread, and somebody calls :meth:`catch_up`.
            retention: how long entries are kept that the other side has passed.
        """
        self._router = router
        self._breaker = breaker
        self._hook = hook
        self._interval = interval
        self._retention = retention
        self.chore: Callable[[Route], None] = lambda _: None
        """Called now and then, by the relay that is at work."""
        self.refusal: Callable[[Route], ConfigError | None] = lambda _: None
        """Why the primary's log is not to be followed: it has lost what was in it, which
        perhaps no mark tells, because the secondary got it at once."""
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: it has no thread yet."""
        self._wake = threading.Event()
        self._starting = threading.Lock()
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        self._seen: Mark | None = None
        self._passed: Mark | None = None
        """How far the follower was when it was asked last."""
        self._standstill = Standstill(self._hook, self._interval or _TEND_EVERY)
        self._drain_state = Drain(
            on_rewound=self._rewound,
            on_obstacle=self._met_obstacle,
            on_moved=self._standstill.passed,
        )
        self._tended = self._pruned = self._chored = time.monotonic()

    # -- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, once."""
        if self._interval is None:
            return
        with self._starting:
            if self._thread is None and not self._is_stopped:
                self._thread = start_thread(self._work, "pend-relay")

    def wake(self) -> None:
        """Look at the change log now, also where something stood in the way before."""
        self._standstill.hurry()
        self._wake.set()

    def missed(self) -> None:
        """Something did not arrive: look soon, but not at what is being waited for."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """End the thread; what it did not get to stays in the change log."""
        with self._starting:
            self._is_stopped = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def run(self, interval: float | None = None) -> None:
        """Be the thread, until :meth:`stop`: for a process of its own."""
        with self._starting:
            self._interval = interval or self._interval or _TEND_EVERY
            # So that no route that is found starts another one beside it.
            self._thread = self._thread or threading.current_thread()
        self._work()

    def _work(self) -> None:
        interval = self._interval or _TEND_EVERY
        pause = interval
        while True:
            woken = self._wake.wait(pause)
            self._wake.clear()
            if self._is_stopped:
                return
            busy = self._turn(mine=woken)
            if not self._breaker.is_closed:
                pause = max(interval, _TEND_EVERY)
            else:
                pause = interval if busy else min(2 * pause, max(interval, _TEND_EVERY))

    def _turn(self, *, mine: bool) -> bool:
        """One look; gives whether there was something to do."""
        try:
            self._tend()
            return self._look(self._router.route, mine=mine)
        except StaleEpoch:
            self._router.forget()
        except REFUSALS as error:
            if not self._is_obstacle(error):
                self._standstill.complain(error, self._seen)
        except OUT_OF_REACH as error:
            is_ending = self._is_stopped or self._router.is_closed
            if not is_ending and not self._is_obstacle(error):
                self._breaker.failed(self._fault(error))
        except Exception as error:  # noqa: BLE001 - the thread must outlive every surprise
            self._standstill.complain(error, self._seen)
        return False

    def _fault(self, error: PendStorageError) -> str:
        """Which of the two stores did not answer, in words."""
        route = self._router.believed
        if route is not None and route.follower is not None:
            with contextlib.suppress(*OUT_OF_REACH):
                route.follower.meta(MARK_META)
                return (
                    f"gets nothing, because the primary cannot be read ({why(error)})"
                )
        return f"cannot be reached ({why(error)})"

    # -- what stands in the way -----------------------------------------------------------

    def _is_obstacle(self, error: Exception) -> bool:
        """Whether it is about one commit, and has been taken note of."""
        obstacle = self._drain_state.obstacle
        return obstacle is not None and obstacle.error is error

    def _met_obstacle(self, obstacle: Obstacle) -> None:
        follower = self._router.route.follower
        if follower is not None:
            self._standstill.note(obstacle, follower)

    def _rewound(self, before: Mark, now: Mark | None) -> None:
        place = "no position any more"
        if now is not None:
            place = f"position {now.after} (of {now.at})"
        self._hook(
            Event(
                "secondary-rewound",
                f"the secondary was at position {before.after} (of {before.at}) of the "
                f"change log, and has {place} now: it lost commits by a failover or a "
                "restore. It is brought up to date again from the change log, as far as "
                "that reaches back; validate it before it becomes primary",
                logging.WARNING,
            )
        )

    # -- work ---------------------------------------------------------------------------

    def _tend(self) -> None:
        """See to half-done switches, and to a secondary that came, went or is back."""
        now = time.monotonic()
        if now - self._tended >= _TEND_EVERY or not self._router.route.is_certain:
            self._tended = now
            self._router.tend()

    def _look(self, route: Route, *, mine: bool) -> bool:
        if route.follower is None:
            if route.is_certain:
                self._prune_now_and_then()  # nobody else keeps the log short
            return False
        mark = Mark.load(route.follower)
        others, self._seen, self._passed = mark != self._seen, mark, mark
        if others and not mine and self._breaker.is_closed:
            return True  # somebody else is at it
        if not self._standstill.is_due(mark):
            return False
        commits = self._drain(route)
        self._seen = self._passed = Mark.load(route.follower)
        self._prune_now_and_then()
        if time.monotonic() - self._chored >= _CHORE_EVERY:
            self._chored = time.monotonic()
            self.chore(route)
        return commits > 0

    def catch_up(self) -> int:
        """Drain in this thread; gives how many commits were applied.

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
        """How far a follower is behind; if it is out of reach, as far as is known here.

        Where this process has never reached it, that is all of the change log.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """
        found, lost = self._measured(route), self.refusal(route)
        if lost is None:
            return found
        commits = max(1, found.commits)
        return replace(found, commits=commits, seconds=math.inf, blocked=str(lost))

    def _measured(self, route: Route) -> Lag:
        trouble = self._router.pair.trouble.get(route.follower_side)
        blocked = (
            "the secondary does not follow yet"
            if trouble is None
            else f"the secondary cannot be reached ({why(trouble)})"
        )
        if route.follower is not None:
            try:
                self._passed = mark = Mark.load(route.follower)
                reason = reason_of(route.follower, mark)
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
        assert route.follower is not None  # noqa: S101 - its callers have looked
        error = self.refusal(route)
        if error is not None:
            raise error
        try:
            commits = self._drain_state.run(route.store, route.follower, route.epoch)
        except ChangesExpired:
            self._begin_anew(route)
            return 0
        except REFUSALS:
            self._reached(route)  # it works, but for one commit
            raise
        self._standstill.passed()
        self._reached(route)
        return commits

    def _reached(self, route: Route) -> None:
        if not self._breaker.is_closed:
            assert route.follower is not None  # noqa: S101 - its callers have looked
            started = time.monotonic()
            route.follower.apply((), epoch=route.epoch)  # is it quick enough again?
            self._breaker.succeeded(time.monotonic() - started)

    def _begin_anew(self, route: Route) -> None:
        """The log does not reach back: follow from here, and ask for a backfill."""
        assert route.follower is not None  # noqa: S101 - its callers have looked
        found = route.follower.meta(MARK_META)
        known = Mark.parse(found)
        if known is not None and reaches(route.store, known):
            return  # another relay has moved it, and what it has passed was forgotten
        mark = fresh_mark(route.store)
        advance = Advance(MARK_META, found, mark.to_meta())
        route.follower.apply((), epoch=route.epoch, mark=advance)
        if not mark.whole:
            self._hook(
                Event(
                    "backfill-needed",
                    "the change log does not reach back to where the secondary left it: "
                    "it follows from now on, and needs a backfill before it may become "
                    "primary",
                    logging.WARNING,
                )
            )

    # -- the past -----------------------------------------------------------------------

    def _prune_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._pruned >= _PRUNE_EVERY:
            self._pruned = now
            self.prune()

    def prune(self) -> None:
        """Let both stores forget what is old, and passed by the other side if it follows.

        The entry at the mark stays: by it the log is known again. What is known here of
        the roles may be old, so either store's log is kept for the other one's mark.
        """
        route = self._router.route
        cutoff = datetime.now(UTC) - self._retention
        if route.follower is None:
            require_primary(route.store, route.epoch)  # perhaps it has a follower since
            _prune(route.store, cutoff, None)
            return
        mark = Mark.load(route.follower)
        known = Mark.load(route.store)
        if known is not None and known.of != route.follower.identity():
            known = None
        _prune(route.store, cutoff, 0 if mark is None else mark.after - 1)
        _prune(route.follower, cutoff, None if known is None else known.after - 1)


def _prune(store: Store, cutoff: datetime, passed: int | None) -> None:
    """Forget what is older, but the last of it: it shows where what is kept begins."""
    old: list[int] = [0, 0]
    for change in _from_the_beginning(store):
        if change.at >= cutoff or (passed is not None and change.sequence > passed):
            break
        old = [old[-1], change.sequence]
    if old[0]:
        store.prune(old[0])


def _from_the_beginning(store: Store) -> Iterator[Change]:
    try:
        yield from store.changes()
    except ChangesExpired as expired:
        yield from store.changes(expired.oldest)
