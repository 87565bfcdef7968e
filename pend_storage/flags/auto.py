"""Automatic switch: a running pair of stores follows the phase flag."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterable
from typing import Final, Protocol

from pend_storage._retry import Backoff
from pend_storage.errors import ConfigError, PendStorageError, SwitchRefused
from pend_storage.events import Event, Hook, guarded, log_event
from pend_storage.flags._pace import SwitchPace
from pend_storage.flags._watcher import FlagWatcher
from pend_storage.flags.memory import FlagMemory
from pend_storage.flags.source import DesiredPhase, FlagSource, PairValues
from pend_storage.phases import AUTOMATIC, Phase, parse_phase, path

__all__ = ["LEAST_PAUSE", "AutoSwitch", "Switchable", "allowed_phases"]

LEAST_PAUSE: Final = 60.0
"""Seconds between two automatic changes of a pair, unless another number is set."""
_RECORDING: Final = 1.0
"""Seconds between two records of unsigned words of a flag."""

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

    The processes of a pair together make at most one change in ``least_pause`` seconds, so
    that a flag in Redis that is set back and forth does not move the stores so. A phase
    that is wanted earlier is held, and reported by ``auto-switch-held``; then the flag counts
    as it is at that time. A switch by ``store.switch``, or by a command, never waits.

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
        allowed: Iterable[Phase | str] | None = None,
        least_pause: float | None = None,
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
            allowed: phases that an automatic switch may go to or through; None: all.
            least_pause: seconds between two automatic changes of the pair; 0: no limit. None:
                60 for a source that counts versions, such as Redis, and no limit for the
                others: who can change a file, a variable or the code can change this, too.

        Raises:
            ConfigError: the interval is not more than 0, the least pause is less than 0, or
                there is no such phase.
        """
        if least_pause is not None and not least_pause >= 0:
            raise ConfigError(
                f"least_pause must be 0 seconds or more, not {least_pause}."
            )
        self._allowed = allowed_phases(allowed)
        self._is_paced = least_pause is not None
        pause = LEAST_PAUSE if least_pause is None else least_pause
        self._pace = SwitchPace(store, pause)
        self._held = _Hold(min(_RECORDING, pause))
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
            return self._attempt(wanted)
        except PendStorageError as error:
            return self._report_failure(wanted, error)

    def _attempt(self, wanted: DesiredPhase) -> float | None:
        waiting = self._held.remaining(wanted)
        if waiting > 0:
            return waiting
        # Also where the phase is reached already, or may not be reached yet: a later, stale
        # word of the source is recognised by this version only.
        self._memory.record(wanted)
        self._held.recorded(wanted)
        before = self._store.phase
        if before is wanted.phase:
            return None
        refused = [
            p.value for p in path(before, wanted.phase) if p not in self._allowed
        ]
        if refused:
            return self._report_disallowed(wanted, refused)
        if self._is_claimed(wanted):
            pause = self._pace.claim(wanted.phase)
            if pause is not None:
                return self._hold(wanted, pause)
        self._switch(before, wanted)
        self._hook(
            Event(
                "auto-switched",
                f"moved from {before.value!r} to {wanted.phase.value!r}, as "
                f"{wanted.place} wants",
                fields={"before": before.value, "phase": wanted.phase.value},
            )
        )
        return None

    def _switch(self, before: Phase, wanted: DesiredPhase) -> None:
        try:
            self._store.switch(
                wanted.phase,
                accept=self._accept,
                timeout=self._timeout,
                by=_follower_name(wanted),
            )
        except PendStorageError:
            if self._is_claimed(wanted) and self._has_reached(before):
                with contextlib.suppress(PendStorageError):
                    self._pace.release()
            raise
        if self._is_claimed(wanted):
            # The switch was made all the same where this fails; the claim bounds the next.
            with contextlib.suppress(PendStorageError):
                self._pace.complete(wanted.phase)

    def _is_claimed(self, wanted: DesiredPhase) -> bool:
        return self._is_paced or bool(wanted.source)

    def _hold(self, wanted: DesiredPhase, pause: float) -> float | None:
        """Hold a change that is wanted too early; report it once for each pause."""
        if self._has_reached(wanted.phase):
            return None  # another process has made this very change
        count = self._held.begin(pause)
        self._pace.hold(wanted.phase)
        self._hook(
            Event(
                "auto-switch-held",
                f"{wanted.place} wants {wanted.phase.value!r}, soon after an automatic change: "
                f"nothing is changed for {pause:.0f} s, and then the flag counts as it is at "
                f"that time. Changes of the flag that were not followed: {count}. If they are "
                "not yours, find out who may write the flag, and sign it (PEND_FLAG_KEY). To "
                "change the phase at once: pend-storage phase set PHASE",
                logging.WARNING,
                {"phase": wanted.phase.value, "seconds": pause, "changes": count},
            )
        )
        return pause

    def _report_disallowed(self, wanted: DesiredPhase, refused: list[str]) -> float:
        if self._reported != refused:
            self._reported = refused
            self._hook(
                Event(
                    "auto-switch-refused",
                    f"{wanted.place} wants {wanted.phase.value!r}, and auto_switch may not "
                    f"go to {', '.join(refused)}: a person does that, by pend-storage phase "
                    "set PHASE",
                    logging.WARNING,
                    {"phase": wanted.phase.value, "reasons": refused},
                )
            )
        return self._backoff.next()

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
            fields = {"phase": wanted.phase.value, "reasons": sorted(reason)}
            self._hook(Event(name, f"{message}: {error}", logging.WARNING, fields))
        return self._backoff.next()

    def _has_reached(self, phase: Phase) -> bool:
        try:
            return self._store.phase is phase
        except PendStorageError:
            return False


class _Hold:
    """Pause of one process in which it does not follow the words of the flag.

    A word that arrives meanwhile is counted, and nothing else: many changes of
    the flag in a second must not cause as many writes to the stores.
    """

    def __init__(self, recording: float) -> None:
        """Args: recording: seconds between two records of unsigned words."""
        self._recording = recording
        self._held_until = 0.0
        self._next_record = 0.0
        self._last: DesiredPhase | None = None
        self._count = 0

    def remaining(self, wanted: DesiredPhase) -> float:
        """Return the seconds for which a word is not followed yet."""
        now = time.monotonic()
        is_new = wanted != self._last
        held = self._held_until - now
        if held > 0 and is_new:
            self._last = wanted
            self._count += 1
        return max(held, self._next_record - now if is_new else 0.0)

    def recorded(self, wanted: DesiredPhase) -> None:
        """Begin the short pause after a word was recorded."""
        self._last = wanted
        if wanted.source and not wanted.is_signed:
            self._next_record = time.monotonic() + self._recording

    def begin(self, pause: float) -> int:
        """Begin a hold; return the number of words that were not followed before it."""
        self._held_until = time.monotonic() + pause
        count, self._count = self._count + 1, 0
        return count


def allowed_phases(allowed: Iterable[Phase | str] | None) -> frozenset[Phase]:
    """Return the phases that an automatic switch may go to; None: all.

    Raises:
        ConfigError: there is no such phase.
    """
    if allowed is None:
        return frozenset(Phase)
    return frozenset(parse_phase(word, place="allowed") for word in allowed)


def _follower_name(wanted: DesiredPhase) -> str:
    """Name this process and its flag, for the history of switches."""
    version = f", version {wanted.version}" if wanted.version else ""
    who = f"{AUTOMATIC} process {os.getpid()} on {socket.gethostname()}"
    return f"{who}, for {wanted.place}{version}"
