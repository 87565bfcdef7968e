"""Instruments of a test: keep every call, and can be made to fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pend_storage.events import Event


class Timed(NamedTuple):
    """One recorded call."""

    operation: str
    collection: str
    store: str
    seconds: float
    error: str | None

    @property
    def name(self) -> tuple[str, str, str]:
        return self.operation, self.collection, self.store


@dataclass
class Recorder:
    """Instruments that remember."""

    calls: list[Timed] = field(default_factory=list)
    counts: list[tuple[str, int]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    failure: Exception | None = None
    """What every method raises."""
    asked: int = 0

    def timed(
        self,
        operation: str,
        collection: str,
        store: str,
        seconds: float,
        error: str | None,
        /,
    ) -> None:
        self._fail()
        self.calls.append(Timed(operation, collection, store, seconds, error))

    def counted(self, fact: str, amount: int, /) -> None:
        self._fail()
        self.counts.append((fact, amount))

    def event(self, event: Event, /) -> None:
        self._fail()
        self.events.append(event)

    def _fail(self) -> None:
        self.asked += 1
        if self.failure is not None:
            raise self.failure

    def taken(self) -> list[Timed]:
        """Return the calls so far, and forget them."""
        calls, self.calls = self.calls, []
        return calls

    def names(self) -> list[tuple[str, str, str]]:
        """Return the names of the calls so far, and forget the calls."""
        return [call.name for call in self.taken()]
