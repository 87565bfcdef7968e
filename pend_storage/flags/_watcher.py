"""Flag watcher: a thread that reads the flag and reports its changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pend_storage._fork import on_fork
from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable
from pend_storage.events import Event, Hook, guarded, log_event
from pend_storage.flags.source import DesiredPhase, FlagSource

__all__ = ["FlagWatcher", "OnChange"]

OnChange: TypeAlias = Callable[[DesiredPhase], float | None]
"""Gets what is wanted now. What it gives, if anything, are seconds after which to be
called again though nothing has changed."""

_INTERVAL: Final = 1.0
_CLOSING: Final = 5.0
"""Seconds that closing waits for the thread at most."""
_SETTLING: Final = 0.2
"""Seconds that a forked child gets to put its stores in order, before they are used."""


@dataclass
class _Signals:
    """Signals to one watching thread; a forked child has others."""

    wake: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)


class FlagWatcher:
    """Watcher that calls a function when the flag is first read, and when it changes.

    It receives broadcasts at once, and reads the flag at intervals as well, because a
    broadcast can be missed. A flag that cannot be read, or that holds no phase, changes nothing; it is
    reported once, by the event ``flag-unreachable`` or ``flag-unknown``, and so is its
    return, by ``flag-back``. A flag that is set nowhere changes nothing either.

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
        """Begin to watch.

        Args:
            source: where the flag may be. It is not closed with the watcher.
            on_change: called in the watcher's thread. What it raises is reported, by the
                event ``flag-listener-failed``, and otherwise ignored.
            hook: gets events.
            interval: seconds between two readings.

        Raises:
            ConfigError: the interval makes no sense.
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
        self._again_at: float | None = None
        self._can_act = False
        self._trouble: tuple[str, str] | None = None
        self._signals = _Signals()
        self._thread = threading.Thread(
            target=self._run, args=(self._signals, delay), name="pend-flag", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Read the flag now, in the watcher's thread; does not wait for it."""
        self._signals.wake.set()

    def close(self) -> None:
        """Stop watching, and wait for the thread: 5 seconds at most."""
        self._is_closed = True
        self._signals.stop.set()
        self._signals.wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSING)

    def _after_fork(self) -> None:
        """In a forked child: the parent's thread did not come along."""
        if not self._is_closed:
            self._start(_SETTLING)

    def _run(self, signals: _Signals, delay: float) -> None:
        signals.stop.wait(delay)
        unsubscribe = self._source.subscribe(signals.wake.set)
        try:
            while not signals.stop.is_set():
                signals.wake.clear()
                self._look()
                signals.wake.wait(self._pause())
        finally:
            unsubscribe()

    def _pause(self) -> float:
        if self._again_at is None or not self._can_act:
            return self._interval
        return min(self._interval, max(0.0, self._again_at - time.monotonic()))

    def _look(self) -> None:
        self._can_act = False
        try:
            wanted = self._source.read()
        except StoreUnavailable as error:
            self._report("flag-unreachable", f"{error.store}: {error.reason}")
        except ConfigError as error:
            self._report("flag-unknown", str(error))
        except Exception as error:  # noqa: BLE001 - a source may raise anything
            self._report("flag-unreachable", f"{self._source.place}: {error!r}")
        else:
            self._report_back(wanted)
            if wanted is None:
                return
            self._can_act = True
            if wanted != self._delivered or self._is_due():
                self._deliver(wanted)

    def _is_due(self) -> bool:
        return self._again_at is not None and time.monotonic() >= self._again_at

    def _deliver(self, wanted: DesiredPhase) -> None:
        self._delivered, self._again_at = wanted, None
        try:
            after = self._on_change(wanted)
        except Exception as error:  # noqa: BLE001 - the thread must go on
            self._hook(
                Event(
                    "flag-listener-failed",
                    f"the phase {wanted.phase.value!r} is wanted by {wanted.place}, and "
                    f"what should act on it failed: {_told(error)}",
                    logging.ERROR,
                )
            )
        else:
            if after is not None:
                self._again_at = time.monotonic() + after

    def _report(self, name: str, reason: str) -> None:
        """Report a failure once an episode, though the text of an unreachable server varies."""
        trouble = (name, reason if name == "flag-unknown" else "")
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self._hook(
            Event(
                name,
                f"the phase flag cannot be followed, and nothing changes until it can be: "
                f"{reason}",
                logging.WARNING,
            )
        )

    def _report_back(self, wanted: DesiredPhase | None) -> None:
        if self._trouble is None:
            return
        self._trouble = None
        word = (
            "it is not set"
            if wanted is None
            else f"{wanted.place} is {wanted.phase.value!r}"
        )
        self._hook(Event("flag-back", f"the phase flag can be read again: {word}"))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PendStorageError) else repr(error)
