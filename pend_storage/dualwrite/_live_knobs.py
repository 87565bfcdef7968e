"""Live knobs: settings of a pair that its processes follow while they run.

Each process reads the shared meta entry once a second, in a thread of its own, because the
relay may wait for a secondary that hangs, and a call of a store must not pay for it. Work
without such a thread, such as a backfill of a command, reads it now and then itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeAlias

from pend_storage._model.knobs import (
    BACKFILL_RATE,
    NO_KNOBS,
    TUNING_META,
    Knobs,
    Setting,
    change_knob,
    parse_knobs,
)
from pend_storage._shown import clause
from pend_storage.dualwrite._background import start_thread
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._route import Route
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.events import Event, Hook

__all__ = ["KnobListener", "LiveKnobs", "LiveRate"]

KnobListener: TypeAlias = Callable[[Knobs], None]
"""Gets the knobs whenever one of them has changed."""

_INTERVAL: Final = 1.0
"""Seconds between two readings of the knobs."""


class LiveKnobs:
    """Knobs as this process has read them last. Safe to share between threads."""

    def __init__(
        self, metadata: PairMetadata, hook: Hook, *, interval: float = _INTERVAL
    ) -> None:
        """Make it; nothing is read yet.

        Args:
            metadata: of the pair, where the knobs are.
            hook: gets an event for each change that this process follows.
            interval: seconds between two readings.
        """
        self._metadata = metadata
        self._hook = hook
        self._interval = interval
        self._known = NO_KNOBS
        self._is_unreadable = False
        self._was_read = False
        self._listeners: list[KnobListener] = []
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a forked child, which has no thread yet."""
        self._reading = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._read_at = -self._interval

    def subscribe(self, listener: KnobListener) -> None:
        """Call a listener at the first reading and at every change, in the reading thread."""
        self._listeners.append(listener)

    # -- the thread ---------------------------------------------------------------------

    def route_changed(self, _: Route) -> None:
        """Start the thread if it does not run: the pair is in use."""
        if self._thread is None and not self._stop.is_set():
            self._thread = start_thread(self._work, "pend-knobs")

    def stop(self, timeout: float) -> None:
        """End the thread, within so many seconds."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        stop = self._stop
        while not stop.is_set():
            self.refresh()
            stop.wait(self._interval)

    # -- reading ------------------------------------------------------------------------

    def current(self) -> Knobs:
        """Return the knobs, read again if the last reading is older than the interval."""
        if time.monotonic() - self._read_at >= self._interval:
            self.refresh()
        return self._known

    def refresh(self) -> None:
        """Read the knobs; where that fails, those of the last reading stay."""
        # Another thread that reads at this moment reads the same.
        if not self._reading.acquire(blocking=False):
            return
        try:
            self._read_at = time.monotonic()
            try:
                found = parse_knobs(self._metadata.get(TUNING_META))
            except ConfigError as error:
                self._report_failure(error)
            except PendStorageError:
                pass  # out of reach, or a switch is under way: others report that
            else:
                self._is_unreadable = False
                self._follow(found)
        finally:
            self._reading.release()

    # -- setting ------------------------------------------------------------------------

    def set(self, name: str, value: float | None, *, by: str, reason: str) -> Setting:
        """Set a knob of the pair, or reset it; its name and range are checked already.

        Raises:
            ConfigError: a newer version has set knobs.
            StoreUnavailable: the primary cannot be reached.
        """
        setting = Setting(value, by, reason, datetime.now(UTC).isoformat())
        change_knob(
            partial(self._metadata.get, TUNING_META),
            partial(self._metadata.compare_and_set, TUNING_META),
            name,
            setting,
        )
        return setting

    def _report_failure(self, error: ConfigError) -> None:
        if self._is_unreadable:
            return
        self._is_unreadable = True
        self._hook(
            Event(
                "knobs-unreadable",
                f"the knobs cannot be read, and stay as they are: {clause(str(error))}",
                logging.WARNING,
            )
        )

    def _follow(self, found: Knobs) -> None:
        before, self._known = self._known, found
        is_first, self._was_read = not self._was_read, True
        changed = [
            (name, setting)
            for name, setting in found.settings.items()
            if before.settings.get(name) != setting
        ]
        if not (changed or is_first):
            return
        for listener in self._listeners:
            listener(found)
        for name, setting in changed:
            self._hook(_event(name, setting))


def _event(name: str, setting: Setting) -> Event:
    value = "the configured value" if setting.value is None else f"{setting.value:g}"
    because = f" ({setting.reason})" if setting.reason else ""
    return Event(
        "knob-changed",
        f"{name} is {value}, as {setting.by} has set it{because}",
        fields={
            "knob": name,
            "value": setting.value,
            "by": setting.by,
            "reason": setting.reason,
        },
    )


class LiveRate:
    """Hold of a backfill whose rate follows a knob while it runs."""

    def __init__(self, knobs: LiveKnobs, hold: Callable[[], str | None]) -> None:
        """Args: knobs: of the pair. hold: returns a reason to pause, or None."""
        self._knobs = knobs
        self._hold = hold

    def __call__(self) -> str | None:
        """Return the reason to pause; None to go on."""
        return self._hold()

    def limit(self, given: float | None, /) -> float | None:
        """Return the records per second at most; 0: pause, None: no limit."""
        wanted = self._knobs.current().value(BACKFILL_RATE)
        return given if wanted is None else wanted
