"""Tells a long job when to wait a little: the secondary does not keep up with live work."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from pend_storage.dualwrite.replication_position import ReplicationPosition
from pend_storage.dualwrite.router import Route
from pend_storage.errors import ChangesExpired

__all__ = ["LAG", "LagThrottle"]

LAG: Final = "lag"
"""The reason given."""
_MOST_LAG: Final = 5.0
"""Seconds that the oldest commit may wait for the secondary, beside a long job."""
_STUCK: Final = 2.0
"""Seconds without the mark moving, after which it is not the job that it waits for."""


class LagThrottle:
    """Asked between two parts of a job; one of them for each job."""

    def __init__(
        self, route: Route, *, most: float = _MOST_LAG, stuck: float = _STUCK
    ) -> None:
        """Args: most: seconds of lag that are borne; stuck: see the module."""
        self._route = route
        self._most = most
        self._stuck = stuck
        self._mark: int | None = None
        self._since = time.monotonic()

    def __call__(self) -> str | None:
        """Why to wait; None to go on.

        Raises:
            StoreUnavailable: a store cannot be reached.
        """
        assert self._route.follower is not None  # noqa: S101 - its callers have looked
        mark = ReplicationPosition.load(self._route.follower)
        after = 0 if mark is None else mark.sequence
        now = time.monotonic()
        if after != self._mark:
            self._mark, self._since = after, now
        if now - self._since >= self._stuck:
            return None  # nobody relays, or something is in the way: no use in waiting
        try:
            oldest = self._route.store.pending(after).oldest
        except ChangesExpired:
            return None
        if oldest is None:
            return None
        age = (datetime.now(UTC) - oldest).total_seconds()
        return LAG if age > self._most else None
