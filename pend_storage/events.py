"""Events of a store for operators, the hooks that get them, and progress of long work."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Protocol, TypeAlias

from pend_storage._shown import message_text

__all__ = [
    "Event",
    "Hook",
    "Hooks",
    "Pace",
    "PacedProgress",
    "Progress",
    "SteeringProgress",
    "guarded",
    "log_event",
]

Progress: TypeAlias = Callable[[int, int], None]
"""Called from time to time with the records done and, as far as known, those to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Pace of long work: its rate, and the seconds of throttling by reason."""

    rate: float
    """Records per second since it began."""
    seconds_left: float | None
    """Seconds to the end at this rate; None where it is not known."""
    throttled: Mapping[str, float]
    """Seconds waited so far, by reason: ``rate``, ``lag``, ``slow-target``."""


class PacedProgress(Protocol):
    """Progress callback that gets the pace too; accepted in place of a :data:`Progress`."""

    def __call__(self, done: int, total: int, /) -> None:
        """As :data:`Progress`."""

    def pace(self, pace: Pace, /) -> None:
        """Record the pace; called right before each call of the object itself."""


class SteeringProgress(PacedProgress, Protocol):
    """Paced progress that may also hold the work or end it, between its callbacks too."""

    def steer(self) -> None:
        """Return at once, wait, or raise an exception to end the work."""

    def waits(self, reason: str | None, /) -> None:
        """Record for which reason the work waits right now; None: it goes on."""


_LOGGER: Final = logging.getLogger("pend_storage")


@dataclass(frozen=True, slots=True)
class Event:
    """Event for operators: a stable name, and a sentence."""

    name: str
    """A short, stable, hyphenated name: ``torn-tail-dropped``."""
    message: str
    """One sentence: what happened, where, and what to do if anything. One line of at most
    2,000 characters: what it cites is escaped."""
    level: int = logging.INFO
    """As in the standard library's logging."""
    fields: Mapping[str, object] = field(default_factory=dict, compare=False)
    """The facts in the message, by name, for machines."""

    def __post_init__(self) -> None:
        """Make the message one visible line."""
        object.__setattr__(self, "message", message_text(self.message))


class Hook(Protocol):
    """Hook that gets every event, in its thread: it must be quick and thread-safe.

    An exception that it raises is logged, the first time, and has no other effect.
    """

    def __call__(self, event: Event, /) -> None:
        """Handle an event."""


Hooks: TypeAlias = Hook | Iterable[Hook]
"""One hook, or several, which get every event in this order."""


def log_event(event: Event) -> None:
    """Log an event; the default hook: standard logging, logger ``pend_storage``."""
    _LOGGER.log(event.level, "%s: %s", event.name, event.message)


class _Guarded:
    """Hooks behind a barrier for their exceptions."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._hooks = tuple((hook, count()) for hook in hooks)

    def __call__(self, event: Event, /) -> None:
        for hook, failures in self._hooks:
            try:
                hook(event)
            except Exception as error:  # noqa: BLE001 - whatever it is, the store goes on
                if next(failures) == 0:
                    _log_failure(hook, event, error)


def _log_failure(hook: Hook, event: Event, error: Exception) -> None:
    with contextlib.suppress(Exception):  # the hook that failed may be the log itself
        _LOGGER.error(
            "hook-failed: the hook %r failed at the event %s. The event is lost to it, "
            "and later failures of this hook are not logged. Correct the hook.",
            hook,
            event.name,
            exc_info=error,
        )


def guarded(hooks: Hooks) -> Hook:
    """Make one hook of one or several, whose exceptions never reach the caller.

    Each constructor that takes a hook passes it through here, so that no commit, switch
    or thread ends by an exception of an application's hook. The first exception of each
    hook is logged, by the logger ``pend_storage``; the other hooks get the event. A hook
    that is guarded already is given back as it is.

    Exceptions that are no :class:`Exception`, such as ``KeyboardInterrupt``, pass: they
    are not the hook's.
    """
    if isinstance(hooks, _Guarded):
        return hooks
    return _Guarded((hooks,) if callable(hooks) else hooks)
