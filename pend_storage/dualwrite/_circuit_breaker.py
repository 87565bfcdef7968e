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
"""Errors of a store that cannot serve any call at the moment."""

_MOST_REASONS: Final = 10
"""Reasons emitted during one outage at most: messages may hold parts that vary, such as
ports, and would fill the log otherwise."""


class CircuitBreaker:
    """Circuit breaker: open while the secondary fails or is too slow.

    While it is open, no write waits for the secondary. A call that reaches the secondary
    in time closes it again: the relay tries about once a second.
    """

    def __init__(self, hook: Hook, limit: float | None) -> None:
        """Make a closed circuit breaker.

        Args:
            hook: gets ``secondary-down`` and ``secondary-up``.
            limit: seconds that a call to the secondary may take to count as a success;
                None for any time.
        """
        self._hook = hook
        self._limit = limit or None
        self._is_open = False
        self._said: set[str] = set()
        """Reasons emitted since it opened."""

    @property
    def is_closed(self) -> bool:
        """True while the secondary is considered healthy, and writes wait for it."""
        return not self._is_open

    def failed(self, reason: str) -> None:
        """Open the breaker; emit ``secondary-down`` once for each new reason.

        Args:
            reason: a predicate for the secondary, such as "cannot be reached (...)".
        """
        self._is_open = True
        if reason not in self._said and len(self._said) < _MOST_REASONS:
            self._said.add(reason)
            self._hook(
                Event(
                    "secondary-down",
                    f"the secondary {reason}: writes no longer wait for it, and the relay "
                    "applies what it misses from the change log once it is back",
                    logging.WARNING,
                )
            )

    def succeeded(self, seconds: float) -> None:
        """Close the breaker after a call that was quick enough; emit ``secondary-up``.

        Args:
            seconds: duration of the call.
        """
        if self._is_open and (self._limit is None or seconds < self._limit):
            self._is_open = False
            self._said.clear()
            self._hook(Event("secondary-up", "the secondary answers again"))


def why(error: PendStorageError) -> str:
    """Return the reason of an outage in few words; the whole message where it has none."""
    return error.reason if isinstance(error, StoreUnavailable) else str(error)
