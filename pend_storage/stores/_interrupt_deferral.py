"""Deferral of Ctrl-C during work of the main thread.

To hand work to a helper (:mod:`~pend_storage.stores._signal_shield`) costs two thread switches,
some 35 us: a quarter of a commit to a quick disk. Most programs have set no handler for any
signal, so that the only one that can interrupt is Python's own, which makes Ctrl-C a
:class:`KeyboardInterrupt`. There the main thread does the work itself: it sets a handler
that only records the signal, does the work, sets Python's handler again, and then raises
the deferred interrupt. That costs 3 us.

Ctrl-C is delayed by the time of the work. So the work must not wait, neither for a lock nor
for another process; where it would have to, it returns :data:`NOT_NOW` and is handed to a
helper after all. The same holds where any other signal has a handler of Python's, where a
library has taken ``SIGINT`` over below Python, or has set ``siginterrupt`` for it: what
:func:`signal.signal` would not restore is not touched.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # its calls cost a fifth
import ctypes
import enum
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final, Literal, TypeVar

from pend_storage._fork import on_fork
from pend_storage.stores._signal_shield import in_main_thread

__all__ = ["NOT_NOW", "NotNow", "with_interrupt_deferred"]

T = TypeVar("T")


class NotNow(enum.Enum):
    """Marker of work that was not begun."""

    NOT_NOW = enum.auto()


NOT_NOW: Final[Literal[NotNow.NOT_NOW]] = NotNow.NOT_NOW

_SIGINT: Final = int(signal.SIGINT)
_NUMBERS: Final = tuple(sorted(map(int, signal.valid_signals())))


class _Deferral:
    """Handler of ``SIGINT`` while it is deferred: it only records that one came."""

    received = False

    def __call__(self, _: int, __: FrameType | None) -> None:
        self.received = True


class _Action(ctypes.Structure):
    """``struct sigaction`` of the C libraries of Linux, on machines of 64 bits."""

    _fields_ = (  # type: ignore[mutable-override]
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint64 * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
        ("room", ctypes.c_uint64 * 16),
    )


class _System:
    """Action of the system at ``SIGINT``, read by ``sigaction``: Python does not show it.

    For the main thread.
    """

    def __init__(self) -> None:
        self._action = _Action()
        self._found = ctypes.byref(self._action)
        self._pythons: tuple[int | None, int] | None = None
        """Handler and flags as :func:`signal.signal` sets them."""
        self._ask: Callable[..., int] | None = None
        if sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8:  # noqa: PLR2004
            self._ask = getattr(ctypes.PyDLL(None), "sigaction", None)

    def is_pythons(self) -> bool:
        """Return whether the action is the one that :func:`signal.signal` sets."""
        ask, action = self._ask, self._action
        if ask is None:
            return False
        if self._pythons is None:
            self._learn(ask)
        ask(_SIGINT, None, self._found)
        return (action.handler, action.flags) == self._pythons

    def _learn(self, ask: Callable[..., int]) -> None:
        """Set Python's handler, read its action, and restore the former one."""
        before = _Action()
        ask(_SIGINT, None, ctypes.byref(before))
        try:
            _signal.signal(_SIGINT, signal.default_int_handler)
            ask(_SIGINT, None, self._found)
            self._pythons = (self._action.handler, self._action.flags)
        finally:
            ask(_SIGINT, ctypes.byref(before), None)


_deferral: Final = _Deferral()
_system: Final = _System()
_known: tuple[object, ...] = ()
"""Handlers of all signals, as they were when only that of ``SIGINT`` was Python's."""


def _is_alone() -> bool:
    """Return whether Python's own handler of Ctrl-C is the only one that may run."""
    global _known  # noqa: PLW0603 - the cache of the last comparison
    handlers = tuple(map(_signal.getsignal, _NUMBERS))
    if handlers != _known:
        able = [n for n, h in zip(_NUMBERS, handlers, strict=True) if callable(h)]
        if able != [_SIGINT] or (
            handlers[_NUMBERS.index(_SIGINT)] is not signal.default_int_handler
        ):
            return False
        _known = handlers
    return _system.is_pythons()


def with_interrupt_deferred(job: Callable[[], T]) -> T | Literal[NotNow.NOT_NOW]:
    """Call a function in the main thread, and raise the interrupt of Ctrl-C after it.

    Args:
        job: never waits for anything.

    Returns:
        The result of the function; ``NOT_NOW`` where it was not called, because this is
        another thread, or signals have other handlers.
    """
    if not in_main_thread() or not _is_alone():
        return NOT_NOW
    deferral = _deferral
    deferral.received = False
    try:
        _signal.signal(_SIGINT, deferral)
        return job()
    finally:
        # Each call of signal.signal is one step: Ctrl-C before the first or after the
        # second is raised as always. One in between is raised here, instead of the result.
        _signal.signal(_SIGINT, signal.default_int_handler)
        if deferral.received:
            signal.default_int_handler(_SIGINT, None)


def _begin_in_child() -> None:
    """Set Python's handler, where another thread forked while it was deferred."""
    if _signal.getsignal(_SIGINT) is _deferral:
        _signal.signal(_SIGINT, signal.default_int_handler)


on_fork(_begin_in_child)
