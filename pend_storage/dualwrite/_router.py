"""Router of calls to the primary, through switches and their recovery.

Each process caches a route: the primary at an epoch. Every call carries that epoch,
so a store that is not primary any more refuses it with ``StaleEpoch``; the router then reads
the roles again, waits for a switch to end, or finishes one whose heartbeat has stopped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from pend_storage.crashpoints import declare
from pend_storage.dualwrite._heartbeat import DEAD_AFTER, HeartbeatMonitor
from pend_storage.dualwrite._pair import NAMES, Pair
from pend_storage.dualwrite._roles import (
    RolePair,
    Side,
    Step,
    is_under_way,
    other,
    recovery_step,
)
from pend_storage.dualwrite._route import (
    PrimaryCheck,
    Route,
    RouteListener,
    require_primary,
)
from pend_storage.dualwrite._secondary_abandonment import detach_abandoned
from pend_storage.errors import PendStorageError, StaleEpoch, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.phases import Role
from pend_storage.store import Store

__all__ = ["Router"]

T = TypeVar("T")

_FIRST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.02

_READ_FENCED: Final = declare(
    "read.fenced", "a fenced store has answered, the other one is not looked at yet"
)
_RECOVERING: Final = declare(
    "recover.step", "a half-done switch was found, its next step is not taken yet"
)


class Router:
    """Router: calls the primary, wherever it is. Safe to share between threads."""

    def __init__(
        self,
        pair: Pair,
        *,
        patience: float,
        hook: Hook,
        check: PrimaryCheck,
        dead_after: float = DEAD_AFTER,
    ) -> None:
        """Make a router.

        Args:
            pair: both stores.
            patience: seconds that a call waits for a switch to end.
            hook: gets an event for each recovered step of a switch.
            check: compares the primary's log after every read of the roles.
            dead_after: seconds without a heartbeat after which a switch is abandoned.
        """
        self.pair = pair
        self._patience = patience
        self._hook = hook
        self._dead_after = dead_after
        self._route: Route | None = None
        self._is_closed = False
        self._check = check
        self._listeners: list[RouteListener] = []
        self.after_fork()

    def after_fork(self) -> None:
        """Make new locks in a forked child: a thread of the parent may hold the old ones."""
        self._role_lock = threading.Lock()
        self._moved = threading.Event()
        self._recovered: deque[Step] = deque()
        self._heartbeat = HeartbeatMonitor(self._dead_after)

    def subscribe(self, listener: RouteListener) -> None:
        """Call a listener at every new route, beginning with the next one."""
        self._listeners.append(listener)

    # -- calls --------------------------------------------------------------------------

    @property
    def route(self) -> Route:
        """Cached route; the roles are read if there is none yet.

        Raises:
            StoreUnavailable: the store is closed, or the primary cannot be reached.
        """
        self._refuse_closed()
        return self._route or self.wait_for_primary()

    def call(self, ask: Callable[[Route], T]) -> T:
        """Call the primary; again at the new one, where a switch has changed it.

        Args:
            ask: gets the route; may be called several times.

        Returns:
            What ``ask`` returns.

        Raises:
            StaleEpoch: no store became primary within the patience.
            StoreUnavailable: the primary cannot be reached.
        """
        # The roles are not read beforehand: the store refuses a call at another epoch.
        route = self.route
        try:
            return ask(route)
        except (StaleEpoch, StoreUnavailable) as error:
            self._require_moved(route, error)
        return self._call_again(ask, route)

    def call_reading(self, ask: Callable[[Store, int | None], T]) -> T:
        """Read from the primary; while a switch is under way, from the fenced store.

        Raises: as :meth:`call`.
        """
        route = self._route
        if route is not None and not self._is_closed:
            try:
                return ask(route.store, route.epoch)
            except (StaleEpoch, StoreUnavailable) as error:
                self._require_moved(route, error)
        return self._call_again(
            lambda found: self._ask_even_fenced(ask, found), route, reading=True
        )

    def current(self) -> Route:
        """Return the route, having checked that it holds; in a switch, to the fenced store.

        Raises: as :meth:`call`.
        """
        route = self._route
        if route is not None and not self._is_closed:
            try:
                require_primary(route.store, route.epoch)
            except (StaleEpoch, StoreUnavailable) as error:
                self._require_moved(route, error)
            else:
                return route

        def confirm(found: Route) -> Route:
            self._ask_even_fenced(require_primary, found)
            return found

        return self._call_again(confirm, route, reading=True)

    def _ask_even_fenced(
        self, ask: Callable[[Store, int | None], T], route: Route
    ) -> T:
        try:
            return ask(route.store, route.epoch)
        except StaleEpoch as stale:
            if (stale.role, stale.epoch) != (Role.FENCED.value, route.epoch):
                raise
            answer = ask(route.store, None)
            _READ_FENCED()
            # The answer of a fenced store is valid only if, read afterwards, the other
            # store is not primary yet: otherwise an acknowledged write may be there.
            if self._is_still_unopened(route):
                return answer
            raise

    def _call_again(
        self, ask: Callable[[Route], T], route: Route | None, *, reading: bool = False
    ) -> T:
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            found = self.wait_for_primary(
                stale=route, deadline=deadline, reading=reading
            )
            try:
                return ask(found)
            except StaleEpoch:
                if time.monotonic() >= deadline:
                    raise
                if found == route:  # the roles were read in the middle of a change
                    self._moved.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                route = found

    def _require_moved(self, route: Route, error: PendStorageError) -> None:
        """Raise the error, unless nothing was done and a later primary is elsewhere."""
        if isinstance(error, StoreUnavailable):
            peer = (
                self.pair.try_role(other(route.side)) if error.outcome_known else None
            )
            if not (peer and peer.role is Role.PRIMARY and peer.epoch > route.epoch):
                raise error

    def _is_still_unopened(self, route: Route) -> bool:
        new = self.pair.try_role(other(route.side))
        return bool(new and new.role is not Role.PRIMARY and new.epoch == route.epoch)

    # -- the route ----------------------------------------------------------------------

    def invalidate(self, route: Route | None = None) -> None:
        """Read the roles again at the next call.

        Args:
            route: only if this is the cached one; None: in any case.
        """
        if route is None or self._route is route:
            self._route = None

    def adopt(self, view: RolePair) -> None:
        """Set the route from roles that are known to hold, and wake the calls that wait.

        Args:
            view: roles of both stores; where none is primary, calls only wake up.
        """
        side = view.primary
        if side is not None:
            self._set_route(view, side)
        self._moved.set()

    @property
    def known_route(self) -> Route | None:
        """Cached route; None where the roles would have to be read."""
        return self._route

    @property
    def is_closed(self) -> bool:
        """True after :meth:`close`."""
        return self._is_closed

    def close(self) -> None:
        """Refuse all further calls, also those that wait."""
        self._is_closed = True
        self._moved.set()

    def wait_for_primary(
        self,
        *,
        stale: Route | None = None,
        deadline: float | None = None,
        reading: bool = False,
    ) -> Route:
        """Return the route, once one store is primary.

        One thread reads the roles; the others wait for what it finds.

        Args:
            stale: a route that proved wrong; any other cached one is returned at once.
            deadline: when to raise, on the monotonic clock; None: after the patience.
            reading: return a fenced store too.

        Raises:
            StaleEpoch: no store is primary.
            StoreUnavailable: the store that may be primary cannot be reached.
        """
        deadline = deadline or time.monotonic() + self._patience
        if not self._role_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StaleEpoch(store="the pair", role=Role.FENCED.value, epoch=0)
        try:
            known = self._route
            if known is not None and known is not stale:
                return known
            return self._find_primary(deadline, reading=reading)
        finally:
            self._role_lock.release()
            self._emit_recovered()

    def _find_primary(self, deadline: float, *, reading: bool) -> Route:
        pause = _FIRST_PAUSE
        while True:
            self._refuse_closed()
            self._moved.clear()  # before the read, so that no later change is missed
            view = self.pair.read_roles()
            side = view.primary
            if side is not None:
                return self._set_route(view, side)
            self._refuse_hopeless(view)
            if reading and view.fenced and is_under_way(view):
                return self.route_of(view, view.fenced)
            if self.recover_step(view):
                continue
            if time.monotonic() >= deadline:
                raise self._no_primary(view)
            self._moved.wait(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _set_route(self, view: RolePair, side: Side) -> Route:
        route = self.route_of(view, side)
        if route != self._route:
            self._route = route
            for listener in self._listeners:
                listener.route_changed(route)
        return route

    def route_of(self, view: RolePair, side: Side) -> Route:
        """Return the route to one store by the roles of both."""
        mine, peer = view.of(side), view.of(other(side))
        assert mine is not None  # noqa: S101 - the side was chosen by its role
        follows = peer is not None and (peer.role, peer.epoch) == (
            Role.SECONDARY,
            mine.epoch,
        )
        store, follower = self.pair.store(side), self.pair.store(other(side))
        return Route(
            side, store, mine.epoch, follower if follows else None, view.is_settled
        )

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the store is closed", store="the pair of stores")

    def _refuse_hopeless(self, view: RolePair) -> None:
        """Raise at once where waiting is of no use.

        With one store out of reach, and the other one neither primary nor fenced, no switch
        is under way that could end.
        """
        if not view.is_whole and view.fenced is None:
            raise next(iter(self.pair.unreachable.values()))

    def _no_primary(self, view: RolePair) -> PendStorageError:
        if self.pair.unreachable:
            return next(iter(self.pair.unreachable.values()))
        side = view.fenced or "json"
        state = view.of(side)
        assert state is not None  # noqa: S101 - a view without holes
        return StaleEpoch(store=NAMES[side], role=state.role.value, epoch=state.epoch)

    # -- recovery -----------------------------------------------------------------------

    def maintain(self, *, now: bool = False) -> RolePair:
        """Read the roles, recover a half-done switch, and set the route that results.

        Args:
            now: recover without waiting for the heartbeat of a switch to stop.

        Raises:
            StoreUnavailable: neither store can be reached.
        """
        try:
            with self._role_lock:
                view = self.pair.read_roles()
                while self.recover_step(view, now=now) or detach_abandoned(
                    self.pair, view
                ):
                    view = self.pair.read_roles()
                self.adopt(view)
        finally:
            self._emit_recovered()
        if view.primary is not None:
            self._check.refresh(self.route_of(view, view.primary))
        return view

    def recover_step(self, view: RolePair, *, now: bool = False) -> bool:
        """Take the next step of recovering a half-done switch; hold the lock of the roles.

        Args:
            view: roles as they were read.
            now: without waiting for the heartbeat to stop.

        Returns:
            Whether there was a step to take; read the roles again then.
        """
        # Any process may do so at any time, also while the switch is still at work: it
        # then ends either finished or undone, with nothing lost.
        abandoned = now or self._heartbeat.has_stopped(self.pair, view)
        step = recovery_step(view, abandoned=abandoned)
        if step is None:
            return False
        _RECOVERING()
        if self.pair.apply_step(step):
            self._recovered.append(step)
        return True

    def _emit_recovered(self) -> None:
        """Emit what was recovered, without the lock: a hook may call the store."""
        while self._recovered:
            step = self._recovered.popleft()
            self._hook(
                Event(
                    "switch-recovered",
                    f"a change of roles was found half done; {NAMES[step.side]} is "
                    f"{step.after.role} at epoch {step.after.epoch} now",
                    fields={
                        "store": step.side,
                        "role": step.after.role.value,
                        "epoch": step.after.epoch,
                    },
                )
            )
