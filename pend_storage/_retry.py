"""Retry and back-off, for conflicts with other writers and for servers that are away.

A commit that conflicts is repeated by tenacity with :data:`ON_CONFLICT`. A loop that waits
for an event, or repeats a step of its own, gets its pauses from a :class:`Backoff`.
"""

from __future__ import annotations

from typing import Any, Final

import tenacity

from pend_storage import _jitter as jitter
from pend_storage.errors import Conflict

__all__ = ["ON_CONFLICT", "Backoff"]

ON_CONFLICT: Final[dict[str, Any]] = {
    "retry": tenacity.retry_if_exception_type(Conflict),
    "wait": jitter.growing(first=0.001, most=0.1),
    "reraise": True,
}
"""Arguments of ``tenacity.Retrying`` for a commit that conflicts. The pause before the
n-th repetition is random, up to 2^n ms and never over 100 ms: long enough to let the
others pass, short enough for a caller who waits. There is no limit: pass ``stop``."""


class Backoff:
    """Pauses that double up to a limit, each of them shortened by a random share."""

    def __init__(self, first: float, longest: float, *, share: float = 0.0) -> None:
        """Begin with the shortest pause.

        Args:
            first: seconds of the first pause.
            longest: seconds of any pause at most.
            share: jitter, as the part of a pause by which it may be shorter, 0 to 1, so
                that many waiting callers do not retry together.
        """
        self._first = first
        self._longest = longest
        self._share = share
        self._next = first

    def next(self) -> float:
        """Return the seconds of this pause; the next one is twice as long."""
        pause, self._next = self._next, min(2 * self._next, self._longest)
        return pause * jitter.between(1.0 - self._share, 1.0) if self._share else pause

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._next = self._first
