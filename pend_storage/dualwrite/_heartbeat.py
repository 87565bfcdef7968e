"""Heartbeat of a switch: shows that the process which fenced a store is still at work.

A switch beats while its fence is up. Another process that finds the fence watches the beat,
and recovers the switch where it has stopped.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pend_storage._model.records import JSON
from pend_storage.dualwrite._background import start_thread
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._roles import RolePair
from pend_storage.errors import PendStorageError, StaleEpoch
from pend_storage.store import Store

__all__ = ["DEAD_AFTER", "HEARTBEAT_META", "HeartbeatMonitor", "beating"]

HEARTBEAT_META: Final = "switch"
"""Meta of a fenced store: the heartbeat of the switch that fenced it."""
DEAD_AFTER: Final = 2.0
"""Seconds without a heartbeat after which a switch is taken for dead; being wrong about it
costs a switch, never data."""
_BEAT_EVERY: Final = 0.5
"""Seconds between two beats."""


class HeartbeatMonitor:
    """Heartbeat monitor: finds out that the switch which fenced a store has died.

    The beat is a counter, so no clocks are compared between machines: a beat that has not
    changed for ``dead_after`` seconds of this process's own clock has stopped.
    """

    def __init__(self, dead_after: float) -> None:
        """Make a monitor.

        Args:
            dead_after: seconds without a beat after which a switch is taken for dead.
        """
        self._dead_after = dead_after
        self._seen: tuple[RolePair, JSON] | None = None
        self._since = 0.0

    def has_stopped(self, pair: Pair, view: RolePair) -> bool:
        """Return whether the switch that fenced a store has stopped beating.

        Args:
            pair: both stores.
            view: their roles; where none is fenced, no switch has stopped.
        """
        if view.fenced is None:
            return False
        seen = (view, pair.store(view.fenced).meta(HEARTBEAT_META))
        now = time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since >= self._dead_after


@contextmanager
def beating(store: Store, deadline: float) -> Iterator[None]:
    """Beat while a switch is under way, until it ends or its deadline has passed.

    Most switches have ended before the first beat.

    Args:
        store: that the switch fences.
        deadline: of the switch, on the monotonic clock.
    """
    name = uuid.uuid4().hex
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(_BEAT_EVERY) and time.monotonic() < deadline:
            count += 1
            try:
                seen = store.meta(HEARTBEAT_META)
                store.compare_and_set_meta(
                    HEARTBEAT_META, seen, {"id": name, "beat": count}
                )
            except StaleEpoch:
                return
            except PendStorageError:
                continue  # the next one may succeed

    thread = start_thread(beat, "pend-switch")
    try:
        yield
    finally:
        stop.set()
        if thread is not None:
            thread.join(_BEAT_EVERY)
