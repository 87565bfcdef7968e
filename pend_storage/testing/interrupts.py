"""Exceptions out of signal handlers, raised where a test wants them.

The default handler of ``SIGINT`` raises :class:`KeyboardInterrupt` in the main thread. Use
these functions in a process of its own (:class:`~pend_storage.testing.crash.Child`), in
which no other signal has a handler: what a backend does about them may differ.
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

_LOOK_AGAIN: Final = 0.0001
"""Seconds between two looks at what the other thread has done."""


class Interrupter:
    """Sends one ``SIGINT`` to the main thread for each attempt, at a random instant.

    Use it in the main thread. The sender is a thread, so that no other signal is involved.
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
        self._wanted = self._sent = 0
        """Signals; each of the two threads changes one of them, in one step."""
        self._ended = False
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()

    def _send(self) -> None:
        while not self._ended:
            if self._wanted == self._sent:
                time.sleep(_LOOK_AGAIN)
                continue
            time.sleep(random.random() ** 2 * self._longest)  # noqa: S311 - no secret
            signal.pthread_kill(self._main, signal.SIGINT)
            self._sent += 1

    def attempt(self, work: Callable[[], object]) -> None:
        """Do something once; the signal comes while it runs, or just after it."""
        done = False
        try:
            self._wanted += 1
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
        while self._sent < self._wanted:
            time.sleep(_LOOK_AGAIN)

    def end(self) -> None:
        """End the sender."""
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
        line: the number of the line, from 1, in the order in which they are run.
        work: runs in the main thread.
        modules: how the paths of the modules end whose lines count; all of the library's.
        signal_number: the signal.
        raised: what its handler raises.

    Returns:
        False where it runs fewer lines.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        name = frame.f_code.co_filename
        if "pend_storage/" not in name or not name.endswith(modules):
            return None
        if event == "line":
            count += 1
            if count == line:
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
    """What a call in another thread comes to: ``done``, ``hangs``, or its error."""
    outcome: list[str] = []

    def call() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - told to the test
            outcome.append(repr(error))
        else:
            outcome.append("done")

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else "hangs"
