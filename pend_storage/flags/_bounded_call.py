"""Bounded calls: code of others, run in a thread of its own for a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from pend_storage._fork import on_fork

__all__ = ["BoundedCall", "NoAnswerError"]

T = TypeVar("T")


class NoAnswerError(Exception):
    """No answer within the time; the call may still be running."""

    def __init__(self, seconds: float) -> None:
        """Args: seconds: since the call that has not answered began."""
        super().__init__(seconds)
        self.seconds = seconds


class _Running(Generic[T]):
    """Call in a daemon thread, which cannot keep the process from ending."""

    def __init__(self, function: Callable[[], T], name: str) -> None:
        self.began = time.monotonic()
        self._function = function
        self._answers: list[T] = []
        self._errors: list[BaseException] = []
        self._done = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._answers.append(self._function())
        except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
            self._errors.append(error)
        finally:
            self._done.set()

    def wait(self, timeout: float) -> bool:
        """Wait for the end; return whether it has come."""
        return self._done.wait(timeout)

    def result(self) -> T:
        """Return the answer of an ended call, or raise its error."""
        if self._errors:
            raise self._errors[0]
        return self._answers[0]


class BoundedCall:
    """Bounded calls of one function at a time; a call that hangs is the only one.

    While a call has not answered, later ones only wait for its end, so however often the
    function hangs, there is one thread. The answer of a call that was late is dropped:
    what it says may be old.
    """

    def __init__(self, name: str) -> None:
        """Args: name: of the threads."""
        self._name = name
        self._after_fork()
        on_fork(self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._late: _Running[object] | None = None

    def __call__(self, function: Callable[[], T], timeout: float) -> T:
        """Call the function, and return what it returns.

        Args:
            function: called without arguments, in another thread.
            timeout: in seconds.

        Raises:
            NoAnswerError: this call, or an earlier one, has not answered.
            BaseException: whatever the function raises.
        """
        deadline = time.monotonic() + timeout
        if not self._lock.acquire(timeout=timeout):
            raise NoAnswerError(timeout)
        try:
            late = self._late
            if late is not None and not late.wait(timeout):
                raise NoAnswerError(time.monotonic() - late.began)
            self._late = None
            running = _Running(function, self._name)
            if not running.wait(max(0.0, deadline - time.monotonic())):
                self._late = running  # type: ignore[assignment]
                raise NoAnswerError(time.monotonic() - running.began)
        finally:
            self._lock.release()
        return running.result()
