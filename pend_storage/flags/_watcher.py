"""Flag watcher: a thread that reads the flag and reports its changes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pend_storage._fork import on_fork
from pend_storage._shown import shown
from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable
from pend_storage.events import Event, Hook, guarded, log_event
from pend_storage.flags.source import (
    DesiredPhase,
    FlagSource,
    ForgedFlag,
    UnsignedFlag,
)

__all__ = ["FlagWatcher", "OnChange"]

OnChange: TypeAlias = Callable[[DesiredPhase], float | None]
"""Listener: gets the desired phase. Returns the seconds after which to be called again
though nothing has changed; None: only after the next change."""

_INTERVAL: Final = 1.0
_CLOSING: Final = 5.0
"""Seconds that :meth:`FlagWatcher.close` waits for the thread at most."""
_LEAST_PAUSE: Final = 0.02
"""Seconds between two readings at least, however many broadcasts arrive: their sender
must not be able to keep this process busy."""
_MOST_REPORTS: Final = 10
_REPORT_WINDOW: Final = 60.0
"""Seconds in which at most so many failures are reported: a writer of the flag must
not be able to fill the log."""
_SETTLING: Final = 0.2
"""Seconds after a fork before the child's watcher begins: its stores must first renew
their connections and locks, and the watcher would use them."""


@dataclass
class _Signals:
    """Signals to one watching thread; a forked child has others."""

    wake: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)


class FlagWatcher:
    """Watch the phase flag in a thread, and call a listener at its changes.

    The listener is called at the first reading, too. Broadcasts are received at once, and
    the flag is read at intervals as well, because a broadcast can be missed.

    A flag that cannot be read, or that holds no phase, changes nothing. It is reported
    once, by the event ``flag-unreachable``, ``flag-unknown``, ``flag-unsigned`` or
    ``flag-forged``, and its return by ``flag-back``. A flag that is set nowhere changes
    nothing either.

    A forked child watches with a thread of its own.
    """

    def __init__(
        self,
        source: FlagSource,
        on_change: OnChange,
        hook: Hook = log_event,
        *,
        interval: float = _INTERVAL,
    ) -> None:
        """Start the watching thread.

        Args:
            source: the flag. It is not closed with the watcher.
            on_change: the listener, called in the watcher's thread. An exception of it is
                reported by the event ``flag-listener-failed``, and otherwise ignored.
            hook: gets events.
            interval: seconds between two readings.

        Raises:
            ConfigError: the interval is not more than 0.
        """
        if not interval > 0:
            raise ConfigError(f"interval must be more than 0 seconds, not {interval}.")
        self._source = source
        self._on_change = on_change
        self._hook = guarded(hook)
        self._interval = interval
        self._is_closed = False
        self._start()
        on_fork(self._after_fork)

    def _start(self, delay: float = 0.0) -> None:
        self._delivered: DesiredPhase | None = None
        self._retry_at: float | None = None
        self._is_readable = False
        self._failure: tuple[str, str] | None = None
        self._reports: deque[float] = deque(maxlen=_MOST_REPORTS)
        self._signals = _Signals()
        self._thread = threading.Thread(
            target=self._run, args=(self._signals, delay), name="pend-flag", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Wake the thread to read the flag now; does not wait for it."""
        self._signals.wake.set()

    def close(self) -> None:
        """Stop watching, and wait for the thread: 5 seconds at most."""
        self._is_closed = True
        self._signals.stop.set()
        self._signals.wake.set()
        if self._thread is not threading.current_thread():  # a listener may close it
            self._thread.join(_CLOSING)

    def _after_fork(self) -> None:
        """Start a thread in a forked child, which has none of its parent's threads."""
        if not self._is_closed:
            self._start(_SETTLING)

    def _run(self, signals: _Signals, delay: float) -> None:
        signals.stop.wait(delay)
        unsubscribe = self._source.subscribe(signals.wake.set)
        try:
            while not signals.stop.is_set():
                # Cleared before the flag is read: a broadcast that arrives during the
                # reading must cause another one.
                signals.wake.clear()
                self._refresh()
                signals.stop.wait(_LEAST_PAUSE)
                signals.wake.wait(self._pause())
        finally:
            unsubscribe()

    def _pause(self) -> float:
        # While the flag cannot be read, a retry that is due would find nothing to act on,
        # and the loop would spin.
        if self._retry_at is None or not self._is_readable:
            return self._interval
        return min(self._interval, max(0.0, self._retry_at - time.monotonic()))

    def _refresh(self) -> None:
        """Read the flag, and call the listener where it has changed or a retry is due."""
        self._is_readable = False
        try:
            wanted = self._source.read()
        except StoreUnavailable as error:
            self._report("flag-unreachable", f"{error.store}: {error.reason}")
        except ForgedFlag as error:
            self._report("flag-forged", str(error), logging.ERROR)
        except UnsignedFlag as error:
            self._report("flag-unsigned", str(error))
        except ConfigError as error:
            self._report("flag-unknown", str(error))
        except Exception as error:  # noqa: BLE001 - a source may raise anything
            self._report("flag-unreachable", f"{self._source.place}: {shown(error)}")
        else:
            self._report_recovery(wanted)
            if wanted is None:
                return
            self._is_readable = True
            if wanted != self._delivered or self._is_due():
                self._deliver(wanted)

    def _is_due(self) -> bool:
        return self._retry_at is not None and time.monotonic() >= self._retry_at

    def _deliver(self, wanted: DesiredPhase) -> None:
        self._delivered, self._retry_at = wanted, None
        try:
            after = self._on_change(wanted)
        except Exception as error:  # noqa: BLE001 - the thread must go on
            self._hook(
                Event(
                    "flag-listener-failed",
                    f"the phase {wanted.phase.value!r} is wanted by {wanted.place}, and "
                    f"what should act on it failed: {_message_of(error)}",
                    logging.ERROR,
                )
            )
        else:
            if after is not None:
                self._retry_at = time.monotonic() + after

    def _report(self, name: str, reason: str, level: int = logging.WARNING) -> None:
        """Report a failure, once an episode, and not more often than the log can bear."""
        # The text of an unreachable server varies between attempts; it is no new failure.
        failure = (name, reason if name == "flag-unknown" else "")
        if failure == self._failure or self._is_too_often():
            return
        self._failure = failure
        self._hook(
            Event(
                name,
                f"the phase flag cannot be followed, and nothing changes until it can be: "
                f"{reason}",
                level,
            )
        )

    def _is_too_often(self) -> bool:
        now = time.monotonic()
        recent = self._reports
        if len(recent) == _MOST_REPORTS and now - recent[0] < _REPORT_WINDOW:
            return True
        recent.append(now)
        return False

    def _report_recovery(self, wanted: DesiredPhase | None) -> None:
        if self._failure is None:
            return
        self._failure = None
        word = (
            "it is not set"
            if wanted is None
            else f"{wanted.place} is {wanted.phase.value!r}"
        )
        self._hook(Event("flag-back", f"the phase flag can be read again: {word}"))


def _message_of(error: Exception) -> str:
    return str(error) if isinstance(error, PendStorageError) else repr(error)
