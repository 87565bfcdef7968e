"""What a store tells about itself while it works, and who listens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

__all__ = ["Event", "Hook", "Pace", "PacedProgress", "Progress", "log_event"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called from time to time with the records done and, as far as known, those to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How quickly long work goes, and what holds it back."""

    rate: float
    """Records per second since it began."""
    seconds_left: float | None
    """Until the end, at this rate; None where it is not known."""
    throttled: Mapping[str, float]
    """Seconds waited so far, by reason: ``rate``, ``lag``, ``slow-target``."""


class PacedProgress(Protocol):
    """A :data:`Progress` that wants to know more; passed where one is taken."""

    def __call__(self, done: int, total: int, /) -> None:
        """As :data:`Progress`."""

    def pace(self, pace: Pace, /) -> None:
        """Called right before."""


_LOGGER: Final = logging.getLogger("pend_storage")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that an operator should be able to see."""

    name: str
    """A short, stable, hyphenated name: ``torn-tail-dropped``."""
    message: str
    """One sentence: what happened, where, and what to do if anything."""
    level: int = logging.INFO
    """As in the standard library's logging."""
    fields: Mapping[str, object] = field(default_factory=dict, compare=False)
    """The facts in the message, by name, for machines."""


class Hook(Protocol):
    """Gets every event. Must be quick, thread-safe, and must not raise."""

    def __call__(self, event: Event, /) -> None:
        """Take note of an event."""


def log_event(event: Event) -> None:
    """The default hook: standard logging, logger ``pend_storage``."""
    _LOGGER.log(event.level, "%s: %s", event.name, event.message)
