"""Whether whoever fenced a store is still at work: a switch shows that it is alive."""

from __future__ import annotations

import time
from typing import Final

from pend_storage._records import JSON
from pend_storage.dualwrite.pair import Pair
from pend_storage.dualwrite.roles import View

__all__ = ["DEAD_AFTER", "SWITCH_META", "Pulse"]

SWITCH_META: Final = "switch"
"""Meta of a fenced store: the heartbeat of the switch that fenced it."""
DEAD_AFTER: Final = 2.0
"""Seconds without a heartbeat after which a switch is taken for dead. A switch beats
every half second; being wrong costs a switch, never data."""


class Pulse:
    """Watches whether whoever fenced a store is still at work."""

    def __init__(self, dead_after: float) -> None:
        self._dead_after = dead_after
        self._seen: tuple[View, JSON] | None = None
        self._since = 0.0

    def has_stopped(self, pair: Pair, view: View) -> bool:
        """Whether the switch that fenced a store has stopped beating."""
        if view.fenced is None:
            return False
        seen = (view, pair.store(view.fenced).meta(SWITCH_META))
        now = time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since >= self._dead_after
