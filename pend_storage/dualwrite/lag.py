"""How far the secondary is behind the primary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from pend_storage.dualwrite.marks import Mark
from pend_storage.errors import ChangesExpired
from pend_storage.store import Store

__all__ = ["Lag", "lag_of"]

_MOST_COUNTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the secondary is behind the primary."""

    commits: int
    """Commits in the change log that the mark has not passed; counted up to 100,000."""
    seconds: float
    """Age of the oldest of them."""
    secondary_up: bool
    """Whether the last attempt to reach it succeeded; True without a secondary."""


def lag_of(primary: Store, mark: Mark | None) -> tuple[int, float]:
    """Commits that a mark has not passed, and the age of the oldest."""
    commits, oldest = 0, datetime.now(UTC)
    try:
        for change in islice(primary.changes(mark.after if mark else 0), _MOST_COUNTED):
            if not commits:
                oldest = change.at
            commits += 1
    except ChangesExpired:
        return _MOST_COUNTED, math.inf  # it cannot be caught up with at all
    return commits, max(0.0, (datetime.now(UTC) - oldest).total_seconds())
