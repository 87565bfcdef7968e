"""Throttle of long jobs by the lag of the secondary beside live writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeAlias

from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.dualwrite._route import Route
from pend_storage.errors import ChangesExpired

__all__ = ["LAG", "LagThrottle", "Throttle"]

Throttle: TypeAlias = Callable[[], str | None]
"""Called between two chunks: returns a word on why to pause, or None to go on."""
LAG: Final = "lag"
"""Reason that a :class:`LagThrottle` returns."""
_MAX_LAG: Final = 5.0
"""Seconds that the oldest commit may wait for the secondary, beside a long job."""
_STUCK: Final = 2.0


class LagThrottle:
    """Throttle by lag: pauses a job while the secondary does not keep up; one for each job."""

    def __init__(
        self, route: Route, *, max_lag: float = _MAX_LAG, stuck: float = _STUCK
    ) -> None:
        """Make a throttle.

        Args:
            route: with a follower.
            max_lag: seconds that the oldest commit may wait for the secondary.
            stuck: seconds without the mark moving, after which the job goes on, because
                it is not what the secondary waits for.
        """
        self._route = route
        self._max_lag = max_lag
        self._stuck = stuck
        self._sequence: int | None = None
        self._since = time.monotonic()

    def __call__(self) -> str | None:
        """Return the reason to pause, :data:`LAG`; None to go on.

        Raises:
            StoreUnavailable: a store cannot be reached.
        """
        mark = ReplicationPosition.load(self._route.secondary)
        sequence = 0 if mark is None else mark.sequence
        now = time.monotonic()
        if sequence != self._sequence:
            self._sequence, self._since = sequence, now
        if now - self._since >= self._stuck:
            return None  # no relay runs, or it is blocked: waiting is of no use
        try:
            oldest = self._route.store.pending(sequence).oldest
        except ChangesExpired:
            return None
        if oldest is None:
            return None
        age = (datetime.now(UTC) - oldest).total_seconds()
        return LAG if age > self._max_lag else None
