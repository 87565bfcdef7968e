"""Jitter: random shares of pauses, so that many waiting callers do not retry together.

The random numbers are those of the system. The global generator of :mod:`random` belongs to the
application, which may have seeded it, and a forked child has the state of its parent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tenacity

__all__ = ["between", "growing"]

_SYSTEM: Final = random.SystemRandom()
_MOST_DOUBLINGS: Final = 64
"""A number of seconds stays one, however often something is tried."""


def between(low: float, high: float) -> float:
    """Return a random number between two others, uniformly distributed."""
    return _SYSTEM.uniform(low, high)


def growing(first: float, most: float) -> Callable[[tenacity.RetryCallState], float]:
    """Make a wait for tenacity with exponential back-off and full jitter.

    Args:
        first: seconds of the first pause at most.
        most: seconds of any pause at most.
    """

    def pause(state: tenacity.RetryCallState) -> float:
        doublings = min(state.attempt_number - 1, _MOST_DOUBLINGS)
        return between(0.0, min(most, first * 2.0**doublings))

    return pause
