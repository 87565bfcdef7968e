"""Things that happen in other threads, to be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from typing_extensions import override

from pend_storage.events import Event
from pend_storage.flags import DesiredPhase, FlagSource, FlagWatcher
from pend_storage.phases import Phase

__all__ = [
    "OFTEN",
    "PATIENCE",
    "SELDOM",
    "Recorder",
    "ScriptedFlag",
    "Watch",
    "named",
    "named_last",
    "until",
    "words",
]

T = TypeVar("T")
PATIENCE = 60.0
SELDOM = 3600.0
"""Seconds between two readings that nothing in a test waits for."""
OFTEN = 0.01

Watch: TypeAlias = Callable[..., FlagWatcher]


class Recorder(Generic[T]):
    """Called with things; remembers them in order."""

    def __init__(self) -> None:
        self.all: list[T] = []
        self._news = threading.Condition()

    def __call__(self, thing: T, /) -> None:
        with self._news:
            self.all.append(thing)
            self._news.notify_all()

    def wait(self, is_enough: Callable[[list[T]], bool]) -> None:
        """Wait until what was recorded is enough."""
        with self._news:
            if not self._news.wait_for(lambda: is_enough(self.all), PATIENCE):
                raise AssertionError(f"waited in vain; there were: {self.all}")


def named(events: Recorder[Event]) -> list[str]:
    return [event.name for event in events.all]


def named_last(events: list[Event]) -> str | None:
    return events[-1].name if events else None


def words(changes: Recorder[DesiredPhase]) -> list[str]:
    return [wanted.phase.value for wanted in changes.all]


def until(changes: Recorder[DesiredPhase], *expected: str) -> None:
    changes.wait(lambda seen: len(seen) >= len(expected))
    assert words(changes) == [*expected]


class ScriptedFlag(FlagSource):
    """A place that says what the test wants it to say, in words or in errors."""

    def __init__(self, says: DesiredPhase | Exception | None = None) -> None:
        self.says = says
        self.reads = 0
        self.listeners: list[Callable[[], None]] = []
        self.is_closed = False
        self.is_writable = True

    @property
    @override
    def place(self) -> str:
        return "the script"

    @property
    @override
    def writable(self) -> bool:
        return self.is_writable

    @override
    def read(self) -> DesiredPhase | None:
        self.reads += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    @override
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        self.says = DesiredPhase(phase, f"{self.place}, by {by}")
        return self.says

    @override
    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(on_change)
        return lambda: self.listeners.remove(on_change)

    @override
    def close(self) -> None:
        self.is_closed = True

    def say(self, says: DesiredPhase | Exception | None) -> None:
        """Set another value, and notify the listeners."""
        self.says = says
        for tell in list(self.listeners):
            tell()
