"""Faults of the processes, the server and the line to it; with a record of when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pend_storage.testing.proxy import Proxy
from pend_storage.testing.servers import EmbeddedPostgres

from .company import Company, Conductor, asleep, wait_until
from .places import PATIENCE

__all__ = ["KINDS", "Outage", "Weather"]


@dataclass(frozen=True)
class Outage:
    """Return the times when the database was out of reach, or slow, for the processes."""

    kind: str
    begin: float
    end: float


@dataclass
class Weather:
    """Disasters, one at a time."""

    server: EmbeddedPostgres
    lines: Sequence[Proxy]
    """Each leads a part of the company to the database."""
    company: Company
    conductor: Conductor
    chance: random.Random
    outages: list[Outage] = field(default_factory=list)
    happened: dict[str, int] = field(default_factory=dict)
    """How often each kind has come."""

    def strike(self, kind: str) -> None:
        """Let something happen, and make it good again."""
        self.happened[kind] = self.happened.get(kind, 0) + 1
        getattr(self, f"_{kind}")()

    def _kill(self) -> None:
        self.company.kill(self.chance.randrange(1000))

    def _kill_conductor(self) -> None:
        """Once it has got on, else it might never come to anything."""
        wait_until(
            lambda: self.conductor.has_got_on() or self.conductor.has_ended(),
            "the phases change",
            PATIENCE,
        )
        if not self.conductor.has_ended():
            self.conductor.kill()

    def _sleep(self) -> None:
        """Also while it holds a lock; so not for as long as others would wait for it."""
        with asleep(self.company.pid(self.chance.randrange(1000))):
            time.sleep(self.chance.uniform(0.2, 1.5))

    def _crash(self) -> None:
        with self._outage("crash"):
            self.server.kill()
            time.sleep(self.chance.uniform(0.0, 1.0))
            self.server.start()

    def _cut(self) -> None:
        self._trouble("cut", Proxy.cut)

    def _reset(self) -> None:
        self._trouble("reset", Proxy.reset)

    def _delay(self) -> None:
        seconds = self.chance.uniform(0.01, 0.1)
        self._trouble("delay", lambda line: line.delay(seconds))

    def _stall(self) -> None:
        """Requests are executed, their answers are lost: then the line is cut."""
        self._trouble("stall", lambda line: line.stall("answers"))

    def _trouble(self, kind: str, begin: Callable[[Proxy], None]) -> None:
        """On one of the lines, so that some are parted from the others, or on all."""
        lines = self.chance.sample(self.lines, self.chance.randint(1, len(self.lines)))
        with self._outage(kind):
            for line in lines:
                begin(line)
            time.sleep(self.chance.uniform(0.2, 1.2))
            for line in lines:
                if kind == "stall":
                    line.reset()
                line.restore()

    @contextmanager
    def _outage(self, kind: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.outages.append(Outage(kind, begun, time.monotonic()))


KINDS: Final[Sequence[str]] = (
    "kill",
    "kill_conductor",
    "sleep",
    "crash",
    "cut",
    "reset",
    "delay",
    "stall",
)
"""All that may strike."""
