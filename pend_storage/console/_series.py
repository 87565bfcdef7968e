"""Series: what the charts show, of the looks of the last hour, in bounded memory."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Any, Final

from pend_storage.console._poller import Look

__all__ = ["Series"]

_KEPT: Final = 3_600
"""Points of one series: an hour, at a look a second."""
_SHORT: Final = 120
"""Points of one series in a snapshot, for the small charts."""

_Point = tuple[float, float | None]


class Series:
    """Series of numbers, one point for each look. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: dict[str, deque[_Point]] = {}
        self._latest: Look | None = None

    def add(self, look: Look) -> None:
        """Add the numbers of a look."""
        at = look.at.timestamp()
        with self._lock:
            for name, value in self._values(look):
                line = self._points.setdefault(name, deque(maxlen=_KEPT))
                line.append((at, value))
            self._latest = look

    def _values(self, look: Look) -> list[tuple[str, float | None]]:
        found: list[tuple[str, float | None]] = []
        details = None if look.status is None else look.status.details
        if details is not None and details.lag is not None:
            seconds = details.lag.seconds
            found.append(("lag_seconds", None if math.isinf(seconds) else seconds))
        for check in () if look.health is None else look.health.checks:
            if check.name != "primary":
                answered = check.seconds * 1000 if check.ok else None
                found.append((f"latency.{check.name}", answered))
        found += [(f"ops.{name}", rate) for name, rate in look.rates.items()]
        totals = getattr(look.status, "compared", None)
        for name in ("compared", "confirmed", "dropped"):
            if (count := getattr(totals, name, None)) is not None:
                found.append((f"compared.{name}", float(count)))
        return found

    def document(self, *, whole: bool = False) -> dict[str, Any]:
        """Return the series by name, grouped: ``{"latency": {"json": [[t, v], ...]}}``.

        Args:
            whole: the last hour, not only the last two minutes.
        """
        most = _KEPT if whole else _SHORT
        with self._lock:
            copies = {name: [*line][-most:] for name, line in self._points.items()}
            look = self._latest
        found: dict[str, Any] = {}
        for name, points in copies.items():
            group, _, member = name.partition(".")
            if member:
                found.setdefault(group, {})[member] = points
            else:
                found[group] = points
        details = None if look is None or look.status is None else look.status.details
        history = () if details is None else details.history
        found["switch_pauses"] = [[s.at.timestamp(), s.pause] for s in history]
        return found
