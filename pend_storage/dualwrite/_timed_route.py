"""Timed route: names the store that answers the calls of a pair, for its instruments."""

from __future__ import annotations

from pend_storage.dualwrite._route import Route
from pend_storage.instrumentation._timing import Timing

__all__ = ["TimedRoute"]


class TimedRoute:
    """Listener of the router that sets the name of the primary in a timing."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing

    def route_changed(self, route: Route) -> None:
        """Name the new primary."""
        self._timing.store = route.side
