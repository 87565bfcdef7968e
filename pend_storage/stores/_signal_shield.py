"""Shield from signal handlers: work of the main thread that a helper thread does.

Python runs the handlers of signals in the main thread, between any two instructions, and
what a handler raises (Ctrl-C, a time limit, a test's time-out) is raised there. To mask
signals does not help: the system delivers them to another thread of the process, and the
handler runs in the main thread all the same. So the main thread holds no lock and changes
nothing that others share. A helper thread does that, and the main thread waits. If it is
interrupted, it stops waiting, and the helper finishes the work.

One helper is idle at all times, so the main thread only ever puts a call into their queue,
which is one step for it.
"""

from __future__ import annotations

import _thread
import contextvars
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pend_storage._fork import on_fork
from pend_storage.errors import StoreUnavailable

__all__ = ["in_main_thread", "later", "shielded"]

T = TypeVar("T")

_IDLE: Final = 2
"""Helpers that may wait for work at a time; more end when they have none."""


class _Call:
    """Call that the main thread hands to a helper."""

    __slots__ = ("abandoned", "context", "done", "error", "job", "result")

    def __init__(self, job: Callable[[], Any]) -> None:
        self.job: Callable[[], Any] | None = job
        self.context = contextvars.copy_context()
        self.result: Any = None
        self.error: BaseException | None = None
        self.abandoned = False
        """True once the main thread stopped waiting; then it is not begun any more."""
        self.done = _thread.allocate_lock()
        self.done.acquire()

    def run(self) -> None:
        """Execute the call, in a helper."""
        job, self.job = self.job, None
        try:
            if job is not None and not self.abandoned:
                self.result = self.context.run(job)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self.error = error
        del job
        self.done.release()


class _HelperThreads:
    """Helper threads of one process."""

    def __init__(self) -> None:
        self.main = threading.main_thread().ident
        self.calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self.awaited: _Call | None = None
        """Call that the main thread waits for."""
        self._started = False
        self._guard = threading.Lock()
        """Held by helpers only."""
        self._idle = 0

    def put(self, call: _Call) -> bool:
        """Enqueue a call; return False where no thread can be started for it."""
        if not self._started:
            if not _start(self._serve):
                return False
            self._started = True
        self.calls.put(call)
        return True

    def _serve(self) -> None:
        while self._may_wait():
            call = self.calls.get()
            self._ensure_idle_helper()
            call.run()
            del call

    def _may_wait(self) -> bool:
        with self._guard:
            if self._idle >= _IDLE:
                return False
            self._idle += 1
            return True

    def _ensure_idle_helper(self) -> None:
        """Start another helper if none is idle: this call may take long."""
        with self._guard:
            self._idle -= 1
            if self._idle == 0:
                _start(self._serve)  # where that fails, the next call has to wait


def _start(work: Callable[[], None]) -> bool:
    """Start a thread; return False while the interpreter ends, or at a system limit."""
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError as error:
        if "can't" not in str(
            error
        ):  # raised by a handler of a signal, not by the start
            raise
        return False
    return True


_helpers = _HelperThreads()


def in_main_thread() -> bool:
    """Return whether handlers of signals run in this thread."""
    return threading.get_ident() == _helpers.main


def shielded(job: Callable[[], T]) -> T:
    """Call a function where no handler of a signal interrupts it, and wait for its result.

    If the wait is interrupted, a call that has begun goes on, and another one never begins.
    """
    helpers = _helpers
    if threading.get_ident() != helpers.main or sys.is_finalizing():
        return job()
    call = _Call(job)
    try:
        helpers.awaited = call
        if not helpers.put(call):
            return job()
        call.done.acquire()
    except BaseException:
        call.abandoned = True
        raise
    if call.error is not None:
        error, call.error = call.error, None
        try:
            raise error
        finally:
            del error
    result: T = call.result
    return result


def later(job: Callable[[], object]) -> None:
    """Call a function in a helper, and do not wait for it."""
    _helpers.put(_Call(job))


def _begin_in_child() -> None:
    """Forget the helpers of the parent: none of them is in a forked child.

    A handler may have forked while the main thread waited: its call fails, because the
    helper that would end it does not exist here.
    """
    global _helpers  # noqa: PLW0603 - one for each process
    awaited, main = _helpers.awaited, _helpers.main
    _helpers = _HelperThreads()
    if awaited is not None and main == _helpers.main and awaited.done.locked():
        awaited.error = StoreUnavailable(
            "the handler of a signal forked the process while this call was under way",
            store="a forked child",
            outcome_known=False,
        )
        awaited.done.release()


on_fork(_begin_in_child)
