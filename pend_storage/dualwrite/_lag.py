"""Lag of the secondary behind the primary, in commits and seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pend_storage.dualwrite._replication_position import (
    ReplicationPosition,
    log_reaches,
)
from pend_storage.errors import ChangesExpired, ConfigError
from pend_storage.store import Store

__all__ = ["Distance", "Lag", "is_on_log", "lag_of"]

_MOST_COUNTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Lag:
    """Lag of the secondary behind the primary.

    Never 0 commits and 0 seconds where that is not known: where the secondary cannot be
    reached, or the primary lost the place that the secondary has come to, there is at
    least one commit, and the seconds are infinite where no commit shows them.
    """

    commits: int
    """Commits in the change log that the mark has not passed; stores count up to 100,000
    or more. The mark is the one in the secondary, or, where that cannot be reached, the
    last one that this process has seen."""
    seconds: float
    """Age of the oldest of them, by the clocks of the machines that wrote and that ask.
    Infinite where it cannot be known."""
    secondary_up: bool
    """Whether the last attempt to reach it succeeded; True without a secondary."""
    blocked: str | None = None
    """Why replication is blocked: a commit that the secondary refuses, a primary that was
    rewound, no connection. None: no such reason is known."""


class Distance(NamedTuple):
    """Distance from a mark to the end of a change log."""

    commits: int
    seconds: float
    problem: str | None
    """Why the two cannot be compared, or the log cannot be caught up with."""

    def at_least(self) -> Distance:
        """Return a lower bound, where the mark is only the last that was known."""
        if self.commits:
            return self
        return Distance(1, math.inf, self.problem)


def lag_of(
    primary: Store,
    mark: ReplicationPosition | None,
    reaches: Callable[[Store, ReplicationPosition], bool] = log_reaches,
) -> Distance:
    """Measure the commits that a mark has not passed, and the age of the oldest.

    It takes three short reads, whatever the number of commits.

    Args:
        primary: whose log is followed.
        mark: up to which it was followed; None: nowhere.
        reaches: compares the log with a mark that is on no entry.

    Raises:
        StoreUnavailable: the primary cannot be reached.
    """
    try:
        is_there = mark is None or is_on_log(primary, mark)
        commits, oldest = primary.pending(mark.sequence if mark else 0)
    except ChangesExpired as expired:  # it cannot be caught up with at all
        return Distance(_MOST_COUNTED, math.inf, str(expired))
    if mark is not None and not is_there:
        try:
            reaches(primary, mark)
        except ConfigError as rewound:
            return Distance(max(1, commits), math.inf, str(rewound))
    if oldest is None:
        return Distance(0, 0.0, None)
    age = (datetime.now(UTC) - oldest).total_seconds()
    return Distance(commits, max(0.0, age), None)


def is_on_log(primary: Store, mark: ReplicationPosition) -> bool:
    """Return whether the log certainly has the entry of a mark; else a full read decides."""
    if mark.committed_at is None:
        return False
    try:
        first = primary.pending(mark.sequence - 1).oldest
    except ChangesExpired:
        return False
    return first is not None and first.isoformat() == mark.committed_at
