"""Phase flags in the code, or in the environment of the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from typing_extensions import override

from pend_storage.errors import ConfigError
from pend_storage.flags.source import DesiredPhase, FlagSource
from pend_storage.phases import Phase, parse_phase

__all__ = ["EnvironmentFlag", "FixedFlag"]


class FixedFlag(FlagSource):
    """Phase flag in memory, for one process."""

    def __init__(self, phase: Phase | str) -> None:
        """Set the first phase.

        Raises:
            ConfigError: there is no such phase.
        """
        self._wanted = DesiredPhase(parse_phase(phase, place=self.place), self.place)
        self._writing = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    @property
    @override
    def place(self) -> str:
        return "the code"

    @property
    @override
    def writable(self) -> bool:
        return True

    @override
    def read(self) -> DesiredPhase:
        return self._wanted

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        with self._writing:
            version = self._wanted.version + 1
            wanted = self._wanted = DesiredPhase(phase, self.place, version)
            listeners = list(self._listeners)
        # Outside of the lock: a listener may unsubscribe, or read the flag.
        for notify in listeners:
            notify()
        return wanted

    @override
    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        with self._writing:
            self._listeners.append(on_change)

        def unsubscribe() -> None:
            with self._writing:
                if on_change in self._listeners:
                    self._listeners.remove(on_change)

        return unsubscribe


class EnvironmentFlag(FlagSource):
    """Phase flag in an environment variable, which only a restart can change."""

    def __init__(
        self, name: str = "PEND_PHASE", *, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Args: name: of the variable. environ: the environment variables."""
        self.name = name
        self._environ = environ

    @property
    @override
    def place(self) -> str:
        return f"the environment variable {self.name}"

    @property
    @override
    def writable(self) -> bool:
        return False

    @override
    def read(self) -> DesiredPhase | None:
        word = self._environ.get(self.name)
        if not word:  # an empty variable counts as one that is not set
            return None
        return DesiredPhase(parse_phase(word, place=self.place), self.place)

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        raise ConfigError(
            f"the phase is set by {self.place}, which no program can change for others. "
            f"Set it to {phase.value!r} where it comes from and restart the servers, or "
            "remove it there, so that the flag can be kept in Redis or in the file."
        )
