"""Visits every state that a system can reach, by the shortest way first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from typing_extensions import override

__all__ = ["Found", "explore"]

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class Found(Generic[S]):
    """The outcome of a search."""

    states: int
    ends: int
    """States in which nothing can happen any more."""
    violation: str | None
    trace: tuple[str, ...]
    """What happened, step by step, until the violation."""

    @override
    def __str__(self) -> str:
        if self.violation is None:
            return f"{self.states} states, {self.ends} ends, no violation"
        return "\n  ".join([self.violation, *self.trace])


def explore(
    start: S,
    steps: Callable[[S], Iterable[tuple[str, S]]],
    wrong: Callable[[S], str | None],
    wrong_at_end: Callable[[S], str | None],
    *,
    at_most: int = 10_000_000,
) -> Found[S]:
    """Search breadth first, until something is wrong or everything has been seen.

    Args:
        start: the first state.
        steps: what may happen in a state: a label, and the state after it.
        wrong: what is wrong with a state, if anything.
        wrong_at_end: likewise, where nothing can happen any more.
        at_most: states; more are a mistake in the model.
    """
    came_from: dict[S, tuple[str, S] | None] = {start: None}
    queue = deque([start])
    ends = 0
    while queue:
        state = queue.popleft()
        following = list(steps(state))
        ends += not following
        violation = wrong(state) or (wrong_at_end(state) if not following else None)
        if violation is not None:
            trace = _trace(state, came_from)
            return Found(len(came_from), ends, violation, trace)
        for label, after in following:
            if after not in came_from:
                came_from[after] = (label, state)
                queue.append(after)
        assert len(came_from) <= at_most, (
            "the instance is larger than it was meant to be"
        )
    return Found(len(came_from), ends, None, ())


def _trace(state: S, came_from: dict[S, tuple[str, S] | None]) -> tuple[str, ...]:
    labels: list[str] = []
    while (step := came_from[state]) is not None:
        labels.append(step[0])
        state = step[1]
    return tuple(reversed(labels))
