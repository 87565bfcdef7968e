"""Signal injection: exceptions from signal handlers, raised at a chosen instant.

The default handler of ``SIGINT`` raises :class:`KeyboardInterrupt` in the main thread.
Use these functions in a process of its own (:class:`~pend_storage.testing.crash.Child`)
in which no other signal has a handler: backends may treat other handlers differently.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

__all__ = ["Interrupter", "interrupted_at", "outcome_in_time"]

_POLL_INTERVAL: Final = 0.0001
"""Seconds between two polls of the other thread's progress."""


class Interrupter:
    """Sender of one ``SIGINT`` to the main thread per attempt, at a random instant.

    Use it in the main thread. The sender is a thread, so that no other signal is
    involved.
    """

    def __init__(self, longest: float) -> None:
        """Start the sender.

        Args:
            longest: seconds after which the signal comes at the latest.
        """
        self.hits: int = 0
        """Attempts that were interrupted."""
        self._longest = longest
        self._main = threading.get_ident()
        self._requested = self._sent = 0
        """Numbers of signals; each thread changes only one of them, in one step."""
        self._ended = False
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()

    def _send(self) -> None:
        while not self._ended:
            if self._requested == self._sent:
                time.sleep(_POLL_INTERVAL)
                continue
            # Squared, so that most signals come early, where most of the work is.
            time.sleep(random.random() ** 2 * self._longest)  # noqa: S311 - no secret
            signal.pthread_kill(self._main, signal.SIGINT)
            self._sent += 1

    def attempt(self, work: Callable[[], object]) -> None:
        """Call a function once; the signal comes while it runs, or just after."""
        done = False
        try:
            self._requested += 1
            work()
            done = True
            self._wait()
        except KeyboardInterrupt:
            self.hits += not done
            self._wait()
        except Exception:
            with contextlib.suppress(KeyboardInterrupt):
                self._wait()
            raise

    def _wait(self) -> None:
        while self._sent < self._requested:
            time.sleep(_POLL_INTERVAL)

    def end(self) -> None:
        """Stop the sender."""
        self._ended = True
        self._sender.join()


def interrupted_at(
    line: int,
    work: Callable[[], object],
    *,
    modules: tuple[str, ...] = ("",),
    signal_number: signal.Signals = signal.SIGINT,
    raised: type[BaseException] = KeyboardInterrupt,
) -> bool:
    """Call a function, with a signal before one of the library's lines that it runs.

    Args:
        line: number of the line, from 1, in the order of execution.
        work: function to call, in the main thread.
        modules: suffixes of the paths of modules whose lines count; all of the
            library's by default.
        signal_number: signal to send.
        raised: exception that its handler raises.

    Returns:
        False if the function runs fewer lines.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        name = frame.f_code.co_filename
        # Other modules are not traced at all, which keeps the run fast.
        if "pend_storage/" not in name or not name.endswith(modules):
            return None
        if event == "line":
            count += 1
            if count == line:
                # Before the signal: its handler must not be traced.
                sys.settrace(None)
                signal.raise_signal(signal_number)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except raised:
        pass
    finally:
        sys.settrace(before)
    return count >= line


def outcome_in_time(work: Callable[[], object], seconds: float = 10.0) -> str:
    """Call a function in another thread; return ``done``, ``hangs``, or its error.

    Args:
        work: function to call.
        seconds: time after which it counts as hung.
    """
    outcome: list[str] = []

    def call() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - returned to the test
            outcome.append(repr(error))
        else:
            outcome.append("done")

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else "hangs"
