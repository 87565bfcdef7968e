"""Automatic switch: a running store follows the phase flag."""

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
    """Store that can be moved to another phase, and that keeps values of the pair."""

    @property
    def phase(self) -> Phase:
        """The phase now."""

    def switch(
        self,
        phase: Phase,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,
        by: str | None = None,
    ) -> object:
        """Move to another phase."""


class AutoSwitch:
    """Follower of the phase flag: switches a store to the phase that the flag wants.

    What prevents a switch is reported, by the event ``auto-switch-refused`` or
    ``auto-switch-failed``, once for each reason, and tried again after a pause that grows.
    A success is reported by ``auto-switched``. Several processes may do this at the same
    time: one of them makes the switch, and the others find it made.

    Of a place that counts versions, such as Redis, the pair remembers the highest one that
    was followed. A word below it moves nothing, nor does a key that is gone: the event
    ``flag-unknown`` says which version was seen and which was followed last.

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
        """Begin to follow.

        Args:
            store: what to move. Neither it nor the source is closed with this.
            source: where the flag may be.
            hook: gets events.
            accept: codes of blockers to let pass, each time.
            timeout: seconds that one attempt may take.
            interval: seconds between two readings of the flag.
            first_pause: seconds between the first attempt and the second.
            longest_pause: seconds between two attempts at most.

        Raises:
            ConfigError: the interval makes no sense.
        """
        self._store = store
        self._hook = guarded(hook)
        self._memory = FlagMemory(store)
        self._accept = tuple(accept)
        self._timeout = timeout
        # Spread, so that many processes do not try in step.
        self._backoff = Backoff(first_pause, longest_pause, share=0.5)
        self._wanted: DesiredPhase | None = None
        self._told: object = None
        self._watcher = FlagWatcher(
            source.remembering(store), self._follow, self._hook, interval=interval
        )

    def close(self) -> None:
        """Stop following. Waits for a switch that is under way, 5 seconds at most."""
        self._watcher.close()

    def _follow(self, wanted: DesiredPhase) -> float | None:
        """Switch if needed; return the seconds after which to try again."""
        if wanted != self._wanted:
            self._wanted, self._told = wanted, None
            self._backoff.reset()
        try:
            self._memory.note(wanted)  # also where nothing is left to do
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
            return self._failed(wanted, error)
        message = f"moved from {before.value!r} to {wanted.phase.value!r}"
        self._hook(Event("auto-switched", f"{message}, as {wanted.place} wants"))
        return None

    def _failed(self, wanted: DesiredPhase, error: PendStorageError) -> float | None:
        if self._is_there(wanted.phase):
            return None  # another process was quicker
        if isinstance(error, SwitchRefused):
            name, reason = (
                "auto-switch-refused",
                frozenset(code for code, _ in error.blockers),
            )
        else:
            name, reason = "auto-switch-failed", frozenset({type(error).__name__})
        if self._told != (name, reason):
            self._told = (name, reason)
            message = (
                f"{wanted.place} wants {wanted.phase.value!r}, which is tried again"
            )
            self._hook(Event(name, f"{message}: {error}", logging.WARNING))
        return self._backoff.next()

    def _is_there(self, phase: Phase) -> bool:
        try:
            return self._store.phase is phase
        except PendStorageError:
            return False


def _follower_name(wanted: DesiredPhase) -> str:
    """Name this process and its flag, for the history of switches."""
    version = f", version {wanted.version}" if wanted.version else ""
    who = f"auto_switch of process {os.getpid()} on {socket.gethostname()}"
    return f"{who}, for {wanted.place}{version}"
