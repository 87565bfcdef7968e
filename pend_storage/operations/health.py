"""Health of an environment, for probes of containers and load balancers.

It is asked by stores that are only read, so that a probe changes nothing, and within a
deadline, so that a server that hangs is an answer, too.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Self

from pend_storage._health import (
    DEADLINE,
    NAMES,
    Health,
    HealthCheck,
    health_of,
    health_of_pair,
)
from pend_storage._shown import clause
from pend_storage.config import Settings
from pend_storage.dualwrite._roles import SIDES, Side
from pend_storage.errors import PendStorageError
from pend_storage.factory import PassiveEnvironment

__all__ = ["DEADLINE", "Health", "HealthCheck", "HealthProbe", "check_health"]

_KEPT_FOR: Final = 1.0
"""Seconds for which an answer is given again: many probes are one question."""
_REFRESHING: Final = 0.8
"""Share of the deadline that bringing the readers up to date may take."""


class HealthProbe:
    """Probe of an environment's health; keeps its stores open. Safe to share."""

    def __init__(
        self,
        settings: Settings,
        *,
        deadline: float = DEADLINE,
        opening: float | None = None,
    ) -> None:
        """Make one; the stores are opened by the first question.

        Args:
            settings: of the environment.
            deadline: seconds until which the primary must have answered.
            opening: seconds that the first question waits for the stores to be opened;
                None: the deadline.
        """
        self._opening = deadline if opening is None else opening
        self._settings = settings
        self._deadline = deadline
        self._lock = threading.Lock()
        self._swapping = threading.Lock()
        self._is_closed = False
        self._began = 0.0
        self._passive: PassiveEnvironment | None = None
        self._problem: str | None = None
        self._refreshing: threading.Thread | None = None
        self._known: tuple[float, Health] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores; a thread that waits for one of them closes them at its end."""
        with self._swapping:
            self._is_closed = True
            passive, self._passive = self._passive, None
        if passive is not None and not self._is_refreshing:
            passive.close()

    @property
    def passive(self) -> PassiveEnvironment | None:
        """The stores, open for reading only; None until they could be opened."""
        return self._passive

    def health(self) -> Health:
        """Return the health, at most a second old; it raises nothing."""
        with self._lock:  # the others wait for the same answer, no longer than it takes
            if (
                self._known is not None
                and time.monotonic() - self._known[0] < _KEPT_FOR
            ):
                return self._known[1]
            found = self._ask()
            self._known = (time.monotonic(), found)
            return found

    def _ask(self) -> Health:
        until = time.monotonic() + self._deadline
        self._refresh(self._deadline * _REFRESHING)
        passive = self._passive
        if passive is None:
            return _unopened(self._problem or "the stores cannot be opened in time")
        left = max(0.05, until - time.monotonic())
        if self._settings.json is None or self._settings.postgres is None:
            return self._alone(passive, left)
        found = health_of_pair(passive.json, passive.postgres, deadline=left)
        return replace(found, checks=tuple(map(self._explained, found.checks)))

    def _alone(self, passive: PassiveEnvironment, deadline: float) -> Health:
        side: Side = "postgres" if self._settings.json is None else "json"
        store = passive.stores.get(side)
        if store is None:
            return _unopened(self._reason(side) or "no server has used the store yet")
        return health_of(store, deadline=deadline)

    def _explained(self, check: HealthCheck) -> HealthCheck:
        """Return a check with the reason why its store could not be opened."""
        side = next((name for name in SIDES if name == check.name), None)
        if check.ok or side is None or "cannot be opened" not in check.sentence:
            return check
        reason = self._reason(side)
        if reason is None:
            return check
        named = reason if reason.startswith(NAMES[side]) else f"{NAMES[side]}: {reason}"
        return replace(check, sentence=clause(named))

    def _reason(self, side: Side) -> str | None:
        passive = self._passive
        problem = None if passive is None else passive.problem(side)
        if problem is None and self._is_refreshing:
            waited = time.monotonic() - self._began
            return f"it has not answered for {waited:.1f} s"
        return problem

    @property
    def _is_refreshing(self) -> bool:
        return self._refreshing is not None and self._refreshing.is_alive()

    def _refresh(self, patience: float) -> None:
        """Open the readers, or bring them up to date, in a thread that may be left behind."""
        if not self._is_refreshing:
            self._began = time.monotonic()
            self._refreshing = threading.Thread(
                target=self._refreshed, name="pend-health-refresh", daemon=True
            )
            self._refreshing.start()
        if self._refreshing is not None:
            opened = self._passive is not None
            self._refreshing.join(patience if opened else self._opening)

    def _refreshed(self) -> None:
        try:
            passive = self._passive
            if passive is not None and any(map(passive.problem, SIDES)):
                # The readers wait longer and longer for a store that is away, and a probe
                # is asked until it is back: it begins anew.
                self._swap(None)
                passive.close()
                passive = None
            if passive is None:
                self._swap(PassiveEnvironment(self._settings))
            else:
                passive.refresh()
            self._problem = None
        except PendStorageError as error:
            self._problem = str(error)
        finally:
            if self._is_closed and (passive := self._passive) is not None:
                passive.close()

    def _swap(self, passive: PassiveEnvironment | None) -> None:
        """Take other readers; those of a closed probe are closed."""
        with self._swapping:
            if not self._is_closed:
                self._passive = passive
                return
        if passive is not None:
            passive.close()


def _unopened(problem: str) -> Health:
    check = HealthCheck(
        name="primary", ok=False, required=True, sentence=clause(problem), seconds=0.0
    )
    return Health(at=datetime.now(UTC), checks=(check,))


def check_health(settings: Settings, *, deadline: float = DEADLINE) -> Health:
    """Return the health of an environment once.

    Args:
        settings: of the environment.
        deadline: seconds until which the primary must have answered.
    """
    connecting = 0.0 if settings.postgres is None else settings.postgres.connect_timeout
    # A program that runs once has to connect first: a server that hangs takes that long.
    opening = deadline + 2 * connecting
    with HealthProbe(settings, deadline=deadline, opening=opening) as probe:
        return probe.health()
