"""Applies the primary's change log to the secondary, from a mark, in batches.

The change log is the durable intent of every dual write: whatever a crash, a timeout or
an outage kept from the secondary is still in it. The mark is committed together with the
data, and every row is guarded by its version, so repeating is harmless, and so are two
relays at once. That there is one at a time is a matter of economy: a relay that finds the
mark moved by another one leaves the work to it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from pend_storage.crashpoints import declare
from pend_storage.dualwrite.follower import OUT_OF_REACH, Breaker, start_thread, why
from pend_storage.dualwrite.lag import Lag, lag_of
from pend_storage.dualwrite.marks import MARK_META, Mark, fresh_mark, news, reaches
from pend_storage.dualwrite.routing import Route, Router, require_primary
from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    InvalidRecord,
    PendStorageError,
    ReferenceViolation,
    StaleEpoch,
    StalePosition,
    UniqueViolation,
)
from pend_storage.events import Event, Hook
from pend_storage.records import Advance, Change, ChangedRecord
from pend_storage.store import Store

__all__ = ["Relay", "drain"]

_BATCH: Final = 1_000
"""Records applied in one call, unless a single commit has more."""
_TEND_EVERY: Final = 1.0
"""Seconds between two looks at the roles, and between two attempts at a secondary that
is down."""
_PRUNE_EVERY: Final = 600.0
_CHORE_EVERY: Final = 5.0
_JUDGES: Final = (UniqueViolation, ReferenceViolation, InvalidRecord)
"""What a secondary says where rows came before their turn."""

_READ: Final = declare("relay.read", "a part of the change log is read, not applied")
_APPLIED: Final = declare("relay.applied", "it is applied, and so is the mark")


def drain(
    primary: Store,
    follower: Store,
    epoch: int,
    *,
    verify: bool = True,
    between: Callable[[], None] = lambda: None,
) -> int:
    """Apply the rest of the primary's change log; gives how many commits that were.

    Args:
        primary: whose log it is.
        follower: where to apply.
        epoch: at which the follower must be secondary.
        verify: look whether the log is still the one in which the mark was made.
        between: called before each part; what it raises ends the work there.

    Raises:
        StaleEpoch: the follower is not secondary at that epoch any more.
        ChangesExpired: the log does not reach back to the mark.
        ConfigError: the primary was rewound.
    """
    while True:
        try:
            return _drain_from_mark(
                primary, follower, epoch, verify=verify, between=between
            )
        except StalePosition:
            between()  # another relay, or another server: go on from what is there


def _drain_from_mark(
    primary: Store,
    follower: Store,
    epoch: int,
    *,
    verify: bool,
    between: Callable[[], None],
) -> int:
    mark = Mark.load(follower)
    if mark is None:
        raise ChangesExpired(store="the change log", after=0, oldest=primary.head())
    log = news(primary, mark) if verify else primary.changes(mark.after)
    commits = 0
    held: list[Change] = []
    refusal: PendStorageError | None = None
    for batch in _batches(log):
        _READ()
        between()
        held += batch
        try:
            mark = _apply(follower, held, epoch, mark)
        except _JUDGES as error:
            refusal = error  # perhaps a later commit, which is there already, allows it
        else:
            commits += len(held)
            held, refusal = [], None
    if refusal is not None:
        raise refusal
    return commits


def _apply(follower: Store, changes: list[Change], epoch: int, mark: Mark) -> Mark:
    records: list[ChangedRecord] = [r for change in changes for r in change.records]
    moved = mark.moved(changes[-1])
    advance = Advance(MARK_META, mark.to_meta(), moved.to_meta())
    follower.apply(records, epoch=epoch, mark=advance)
    _APPLIED()
    return moved


def _batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    batch: list[Change] = []
    size = 0
    for change in changes:
        batch.append(change)
        size += len(change.records)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Relay:
    """A background thread that drains now and then, and whenever it is woken."""

    def __init__(
        self,
        router: Router,
        breaker: Breaker,
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
        self._is_verified = False
        self._complaint = ""
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
        """Look at the change log now."""
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
        except OUT_OF_REACH as error:
            self._is_verified = False
            if not (self._is_stopped or self._router.is_closed):
                self._breaker.failed(f"cannot be reached ({why(error)})")
        except Exception as error:  # noqa: BLE001 - the thread must outlive every surprise
            self._complain(error)
        return False

    def _complain(self, error: Exception) -> None:
        if str(error) == self._complaint:
            return
        self._complaint = str(error)
        self._hook(
            Event(
                "relay-blocked",
                f"the secondary cannot be brought up to date: {error}",
                logging.ERROR,
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
        if route.follower is not None:
            with contextlib.suppress(*OUT_OF_REACH):
                self._passed = Mark.load(route.follower)
                is_up = self._breaker.is_closed
                return Lag(*lag_of(route.store, self._passed), secondary_up=is_up)
        return Lag(*lag_of(route.store, self._passed), secondary_up=False)

    def _drain(self, route: Route) -> int:
        assert route.follower is not None  # noqa: S101 - its callers have looked
        try:
            commits = drain(
                route.store,
                route.follower,
                route.epoch,
                verify=not self._is_verified,
            )
        except ChangesExpired:
            self._begin_anew(route)
            return 0
        except ConfigError:
            self._is_verified = False
            raise
        self._is_verified = True
        self._complaint = ""
        if not self._breaker.is_closed:
            started = time.monotonic()
            route.follower.apply((), epoch=route.epoch)  # is it quick enough again?
            self._breaker.succeeded(time.monotonic() - started)
        return commits

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
