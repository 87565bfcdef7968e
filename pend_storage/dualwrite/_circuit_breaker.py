"""Circuit breaker of the secondary: calls stop waiting for it while it fails."""

from __future__ import annotations

import logging
from typing import Final

from pend_storage.errors import (
    CorruptFile,
    LockTimeout,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.events import Event, Hook

__all__ = ["OUT_OF_REACH", "CircuitBreaker", "why"]

OUT_OF_REACH: Final = (StoreUnavailable, LockTimeout, SchemaOutOfDate, CorruptFile)
"""What a store says that cannot be worked with now, whatever it is asked."""

_MOST_REASONS: Final = 10
"""Reasons told while the secondary is out of reach; messages may hold what varies."""


class CircuitBreaker:
    """Open while the secondary fails or is too slow; then nobody waits for it.

    It is closed again by whoever reaches the secondary: the relay tries now and then.
    """

    def __init__(self, hook: Hook, limit: float | None) -> None:
        """Args: limit: seconds that reaching the secondary may take; None: any time."""
        self._hook = hook
        self._limit = limit or None
        self._is_open = False
        self._said: set[str] = set()
        """Reasons told since it was open."""

    @property
    def is_closed(self) -> bool:
        """Whether the secondary is taken for healthy."""
        return not self._is_open

    def failed(self, reason: str) -> None:
        """Open it, and say so, if it was closed or the reason is a new one."""
        self._is_open = True
        if reason not in self._said and len(self._said) < _MOST_REASONS:
            self._said.add(reason)
            self._hook(
                Event(
                    "secondary-down",
                    f"the secondary {reason}; it is not waited for any more, and gets "
                    "what it misses from the change log when it is back",
                    logging.WARNING,
                )
            )

    def succeeded(self, seconds: float) -> None:
        """Close it, and say so, if it was open and this was quick enough."""
        if self._is_open and (self._limit is None or seconds < self._limit):
            self._is_open = False
            self._said.clear()
            self._hook(Event("secondary-up", "the secondary answers again"))


def why(error: PendStorageError) -> str:
    """Why a store is out of reach, in few words if there are such."""
    return error.reason if isinstance(error, StoreUnavailable) else str(error)
