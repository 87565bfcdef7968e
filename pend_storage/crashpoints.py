"""Crash points: named points at which a test makes a process die, wait or fail.

Code that must survive being killed at any instant declares the interesting instants and
calls them as it passes. In production such a call reads one variable and returns.

A module declares its points once, and tests can list them all::

    _WRITTEN = crashpoints.declare("journal.written", "in the file, not yet synced")
    ...
    os.write(fd, frame)
    _WRITTEN()

The environment variable ``PEND_CRASH_POINT`` arms one point in a whole process:
``journal.written`` kills the process (SIGKILL) the first time the point is reached,
``journal.written:3`` lets three pass before. :mod:`pend_storage.testing.crash` sets it.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn, TypeAlias

from pend_storage.errors import ConfigError

__all__ = ["VARIABLE", "CrashPoint", "Handler", "declare", "handled", "points", "reach"]

VARIABLE: Final = "PEND_CRASH_POINT"
"""Environment variable that arms a point: its name, or ``name:hits to let pass``."""

Handler: TypeAlias = Callable[[str], object]
"""Called with the name of each point that is reached."""

_declared: Final[dict[str, str]] = {}


class CrashPoint:
    """Crash point; call it where the program passes it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: str = name

    def __call__(self) -> None:
        """Pass the point."""
        if _handler is not None:
            _handler(self.name)


def declare(name: str, meaning: str) -> CrashPoint:
    """Declare a crash point, at module level, and return it.

    Args:
        name: ``part.instant``, unique in the program.
        meaning: what has happened by then, and what has not.

    Raises:
        ConfigError: the name is declared already, with another meaning.
    """
    if _declared.setdefault(name, meaning) != meaning:
        raise ConfigError(f"the crash point {name!r} is declared twice: rename one.")
    return CrashPoint(name)


def points(prefix: str = "") -> Mapping[str, str]:
    """Return name and meaning of the points that the modules imported so far declare."""
    return {n: m for n, m in sorted(_declared.items()) if n.startswith(prefix)}


def reach(name: str) -> None:
    """Pass the point of this name; for a place that has no use for :func:`declare`."""
    if _handler is not None:
        _handler(name)


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Call a handler with the name of every point that any thread reaches, in a block.

    The handler may wait, to hold one thread while another overtakes it, or raise, to
    make the operation under way fail.
    """
    global _handler  # noqa: PLW0603 - one for the process: any thread may pass a point
    before, _handler = _handler, handler
    try:
        yield
    finally:
        _handler = before


def _arm_from_environment(name: str) -> None:
    """Handle the first point that is reached: read the environment variable, once."""
    global _handler  # noqa: PLW0603
    wanted = os.environ.get(VARIABLE)
    _handler = None if wanted is None else _killer(wanted)
    reach(name)


def _killer(wanted: str) -> Handler:
    point, _, hits = wanted.partition(":")
    if hits and not hits.isdecimal():
        raise ConfigError(f"{VARIABLE}={wanted!r}: write name or name:number.")
    passed = itertools.count()  # next() is atomic, so threads need no lock
    skip = int(hits or 0)

    def kill_at_point(name: str) -> None:
        if name == point and next(passed) >= skip:
            _die()

    return kill_at_point


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process survived SIGKILL")


_handler: Handler | None = _arm_from_environment
