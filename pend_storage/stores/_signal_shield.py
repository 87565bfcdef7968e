"""Shield from signal handlers: work of the main thread that a helper thread does.

Python runs the handlers of signals in the main thread, between any two instructions, and
what a handler raises (Ctrl-C, a time limit, a test's time-out) is raised there. To mask
signals does not help: the system delivers them to another thread of the process, and the
handler runs in the main thread all the same. So the main thread holds no lock and changes
nothing that others share. It has that done by a helper thread, and waits. If it is
interrupted, it goes away, and the helper brings the work to its end.

The helpers keep one of them idle at all times; the main thread only ever puts a call into
their queue, which is one step for it.
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
    """Something that the main thread wants done."""

    __slots__ = ("context", "done", "error", "given_up", "job", "result")

    def __init__(self, job: Callable[[], Any]) -> None:
        self.job: Callable[[], Any] | None = job
        self.context = contextvars.copy_context()
        self.result: Any = None
        self.error: BaseException | None = None
        self.given_up = False
        """Nobody waits for it any more; it is not begun."""
        self.done = _thread.allocate_lock()
        self.done.acquire()

    def run(self) -> None:
        """Do it, in a helper."""
        job, self.job = self.job, None
        try:
            if job is not None and not self.given_up:
                self.result = self.context.run(job)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self.error = error
        del job
        self.done.release()


class _Crew:
    """The helpers of one process."""

    def __init__(self) -> None:
        self.main = threading.main_thread().ident
        self.calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self.awaited: _Call | None = None
        """What the main thread waits for."""
        self._started = False
        self._guard = threading.Lock()
        """Held by helpers only."""
        self._idle = 0

    def put(self, call: _Call) -> bool:
        """Have a call carried out; False where no thread can be started to do it."""
        if not self._started:
            if not _start(self._serve):
                return False
            self._started = True
        self.calls.put(call)
        return True

    def _serve(self) -> None:
        while self._may_wait():
            call = self.calls.get()
            self._leave_another_one()
            call.run()
            del call

    def _may_wait(self) -> bool:
        with self._guard:
            if self._idle >= _IDLE:
                return False
            self._idle += 1
            return True

    def _leave_another_one(self) -> None:
        """See that one waits: a call may take long, and the main thread be gone."""
        with self._guard:
            self._idle -= 1
            if self._idle == 0:
                _start(self._serve)  # if it cannot be, the next call has to wait


def _start(work: Callable[[], None]) -> bool:
    """Start a thread; False at the end of the interpreter, or at a limit of the system."""
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError as error:
        if "can't" not in str(error):  # it is out of the handler of a signal
            raise
        return False
    return True


_crew = _Crew()


def in_main_thread() -> bool:
    """Whether handlers of signals run in this thread."""
    return threading.get_ident() == _crew.main


def shielded(job: Callable[[], T]) -> T:
    """Call a function where no handler of a signal interrupts it, and wait for its result.

    If the wait is interrupted, what has begun goes on, and what has not does not begin.
    """
    crew = _crew
    if threading.get_ident() != crew.main or sys.is_finalizing():
        return job()
    call = _Call(job)
    try:
        crew.awaited = call
        if not crew.put(call):
            return job()
        call.done.acquire()
    except BaseException:
        call.given_up = True
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
    """Have a function called by a helper, and do not wait for it."""
    _crew.put(_Call(job))


def _begin_in_child() -> None:
    """Forget the helpers of the parent: none of them is in a forked child.

    A handler may have forked while the main thread waited; what it waits for never comes.
    """
    global _crew  # noqa: PLW0603 - one for each process
    awaited, main = _crew.awaited, _crew.main
    _crew = _Crew()
    if awaited is not None and main == _crew.main and awaited.done.locked():
        awaited.error = StoreUnavailable(
            "the handler of a signal forked the process while this call was under way",
            store="a forked child",
            outcome_known=False,
        )
        awaited.done.release()


on_fork(_begin_in_child)
