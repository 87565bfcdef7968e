"""Health of an environment, for probes of containers and load balancers.

It is asked by stores that are only read, so that a probe changes nothing, and within a
deadline, so that a server that hangs is an answer, too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Self

from pend_storage._health import (
    DEADLINE,
    Health,
    HealthCheck,
    health_of,
    health_of_pair,
)
from pend_storage._shown import clause
from pend_storage.config import Settings
from pend_storage.dualwrite._roles import SIDES, Side
from pend_storage.errors import PendStorageError
from pend_storage.factory._passive import PassiveEnvironment, open_passive

__all__ = ["DEADLINE", "Health", "HealthCheck", "HealthProbe", "check_health"]

_KEPT_FOR: Final = 1.0
"""Seconds for which an answer is given again: many probes are one question."""
_REFRESHING: Final = 0.4
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
        self._opened = contextlib.ExitStack()
        self._passive: PassiveEnvironment | None = None
        self._problem: str | None = None
        self._refreshing: threading.Thread | None = None
        self._known: tuple[float, Health] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores; a thread that waits for one of them is left to its end."""
        thread = self._refreshing
        if thread is None or not thread.is_alive():
            self._opened.close()

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
        store = passive.postgres if side == "postgres" else passive.json
        if store is None:
            return _unopened(
                passive.problem(side) or "no server has used the store yet"
            )
        return health_of(store, deadline=deadline)

    def _explained(self, check: HealthCheck) -> HealthCheck:
        """Return a check with the reason why its store could not be opened."""
        side = next((name for name in SIDES if name == check.name), None)
        if check.ok or side is None or self._passive is None:
            return check
        problem = self._passive.problem(side)
        if problem is None or "cannot be opened" not in check.sentence:
            return check
        return replace(check, sentence=f"{check.sentence}: {clause(problem)}")

    def _refresh(self, patience: float) -> None:
        """Open the readers, or bring them up to date, in a thread that may be left behind."""
        thread = self._refreshing
        if thread is None or not thread.is_alive():
            thread = threading.Thread(
                target=self._refreshed, name="pend-health-refresh", daemon=True
            )
            self._refreshing = thread
            thread.start()
        thread.join(patience if self._passive is not None else self._opening)

    def _refreshed(self) -> None:
        try:
            if self._passive is None:
                self._passive = self._opened.enter_context(open_passive(self._settings))
            else:
                self._passive.refresh()
            self._problem = None
        except PendStorageError as error:
            self._problem = str(error)


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
