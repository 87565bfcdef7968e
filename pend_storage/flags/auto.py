"""Automatic switch: a running pair of stores follows the phase flag."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable
from typing import Final, Protocol

from pend_storage._retry import Backoff
from pend_storage.errors import PendStorageError, SwitchRefused
from pend_storage.events import Event, Hook, guarded, log_event
from pend_storage.flags._watcher import FlagWatcher
from pend_storage.flags.memory import FlagMemory
from pend_storage.flags.source import DesiredPhase, FlagSource, PairValues
from pend_storage.phases import Phase

__all__ = ["AutoSwitch", "Switchable"]

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


class Switchable(PairValues, Protocol):
    """Store that can switch to another phase, and that keeps values of the pair."""

    @property
    def phase(self) -> Phase:
        """Phase that the stores are in."""

    def switch(
        self,
        phase: Phase,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,
        by: str | None = None,
    ) -> object:
        """Switch to another phase."""


class AutoSwitch:
    """Automatic switch: moves a store to the phase that the flag wants.

    A switch that is refused or fails is reported, by the event ``auto-switch-refused`` or
    ``auto-switch-failed``, once for each reason, and retried after a pause that grows. A
    success is reported by ``auto-switched``. Several processes may do this at the same
    time: one of them makes the switch, and the others find it made.

    Of a source that counts versions, such as Redis, the pair remembers the highest version
    that was followed. A word below it moves nothing, nor does a key that is gone: the event
    ``flag-unknown`` has the version that was read and the one that was followed last.

    A phase that is chosen by ``store.switch`` stays until the flag changes, or until
    a process starts. So change the flag as well.
    """

    def __init__(
        self,
        store: Switchable,
        source: FlagSource,
        hook: Hook = log_event,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,
        interval: float = 1.0,
        first_pause: float = _FIRST_PAUSE,
        longest_pause: float = _LONGEST_PAUSE,
    ) -> None:
        """Start to follow the flag, in a thread.

        Args:
            store: the pair to move. Neither it nor the source is closed with this.
            source: the flag.
            hook: gets events.
            accept: codes of blockers to accept, at each attempt.
            timeout: seconds that one attempt may take.
            interval: seconds between two readings of the flag.
            first_pause: seconds between the first attempt and the second.
            longest_pause: seconds between two attempts at most.

        Raises:
            ConfigError: the interval is not more than 0.
        """
        self._store = store
        self._hook = guarded(hook)
        self._memory = FlagMemory(store)
        self._accept = tuple(accept)
        self._timeout = timeout
        # With jitter, so that many processes do not retry in step.
        self._backoff = Backoff(first_pause, longest_pause, share=0.5)
        self._wanted: DesiredPhase | None = None
        self._reported: object = None
        self._watcher = FlagWatcher(
            source.remembering(store), self._follow, self._hook, interval=interval
        )

    def close(self) -> None:
        """Stop to follow the flag; waits for a running switch, 5 seconds at most."""
        self._watcher.close()

    def _follow(self, wanted: DesiredPhase) -> float | None:
        """Switch if needed; return the seconds after which to try again."""
        if wanted != self._wanted:
            self._wanted, self._reported = wanted, None
            self._backoff.reset()
        try:
            # Also where the phase is reached already: a later, stale word of the source
            # is recognised by this version only.
            self._memory.record(wanted)
            before = self._store.phase
            if before is wanted.phase:
                return None
            self._store.switch(
                wanted.phase,
                accept=self._accept,
                timeout=self._timeout,
                by=_follower_name(wanted),
            )
        except PendStorageError as error:
            return self._report_failure(wanted, error)
        message = f"moved from {before.value!r} to {wanted.phase.value!r}"
        self._hook(Event("auto-switched", f"{message}, as {wanted.place} wants"))
        return None

    def _report_failure(
        self, wanted: DesiredPhase, error: PendStorageError
    ) -> float | None:
        """Report a failed attempt once for each reason; return the pause in seconds."""
        if self._has_reached(wanted.phase):
            return None  # another process was quicker
        if isinstance(error, SwitchRefused):
            name, reason = (
                "auto-switch-refused",
                frozenset(code for code, _ in error.blockers),
            )
        else:
            name, reason = "auto-switch-failed", frozenset({type(error).__name__})
        if self._reported != (name, reason):
            self._reported = (name, reason)
            message = (
                f"{wanted.place} wants {wanted.phase.value!r}, which is tried again"
            )
            self._hook(Event(name, f"{message}: {error}", logging.WARNING))
        return self._backoff.next()

    def _has_reached(self, phase: Phase) -> bool:
        try:
            return self._store.phase is phase
        except PendStorageError:
            return False


def _follower_name(wanted: DesiredPhase) -> str:
    """Name this process and its flag, for the history of switches."""
    version = f", version {wanted.version}" if wanted.version else ""
    who = f"auto_switch of process {os.getpid()} on {socket.gethostname()}"
    return f"{who}, for {wanted.place}{version}"
