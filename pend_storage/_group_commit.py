"""Work of many threads, carried out together by few of them at a time.

There are some *slots*. A thread that comes while one is free takes it and goes direct. One
that comes while none is leaves a request and sleeps. Whoever leaves a slot passes it to the
first of those that wait, who then takes everything that waits. Nobody waits for a timer,
and under load the groups grow by themselves.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from pend_storage.sharing import own_copy

__all__ = ["GroupCommitQueue", "Request"]

_MOST_REQUESTS: Final = 512
"""Requests carried out together at most."""


class _Caller:
    """A thread that waits for its requests."""

    __slots__ = ("promoted", "wake")

    def __init__(self) -> None:
        self.promoted = False
        """It has a slot, and is the next one to lead."""
        self.wake = threading.Lock()
        self.wake.acquire()


class Request:
    """Something that a thread wants done, and what came of it."""

    __slots__ = ("_error", "_result", "caller", "done", "job", "withdrawn")

    def __init__(self, job: Any) -> None:
        """Make one; ``job`` is whatever those who carry it out understand."""
        self.job = job
        self._result: Any = None
        self._error: Exception | None = None
        self.done = False
        self.withdrawn = False
        """Its owner was interrupted and does not want it any more; it may be left out."""
        self.caller: _Caller | None = None

    def do(self, argument: Any) -> None:
        """Call the job; what it raises is kept for the thread that it belongs to."""
        try:
            self._result = self.job(argument)
        except Exception as error:  # noqa: BLE001 - raised again by outcome()
            self._error = error

    def settle(self, result: Any) -> None:
        """End with a result, or with an error of its own."""
        if isinstance(result, Exception):
            self._error = result
        else:
            self._result = result
        self.done = True

    def fail(self, error: Exception) -> None:
        """End with an error that it shares with others."""
        self._error = own_copy(error)
        self.done = True

    def outcome(self) -> Any:
        """The result; or raises the error."""
        if self._error is not None:
            raise self._error
        return self._result


class GroupCommitQueue:
    """Brings threads with requests together. In a forked child it begins anew."""

    def __init__(
        self, execute: Callable[[list[Request]], None], *, slots: int = 1
    ) -> None:
        """Make one.

        Args:
            execute: does what requests want, and marks them as done: from the first to
                at least the first. If it is interrupted, those that it leaves undone are
                carried out by somebody else.
            slots: how many threads may be at work at a time.
        """
        self._execute = execute
        self._slots = slots
        self._begin()
        _groups.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Request] = deque()
        self._free = self._slots
        self._promoted: _Caller | None = None

    def try_enter(self) -> bool:
        """Take a slot if one is free; then :meth:`leave` it, whatever happens."""
        with self._lock:
            if self._free and not self._waiting:
                self._free -= 1
                return True
            return False

    @property
    def is_shared(self) -> bool:
        """Whether more threads than one are at work, by a glance."""
        return self._slots - self._free > 1

    def leave(self) -> None:
        """Give a slot back, or pass it on."""
        with self._lock:
            self._pass_on()

    def run(self, *requests: Request) -> None:
        """Have requests carried out, by this thread or by others."""
        caller = _Caller()
        for request in requests:
            request.caller = caller
        try:
            with self._lock:
                self._waiting.extend(requests)
                if self._waiting and self._free and self._promoted is None:
                    self._free -= 1
                    self._promote_leader()
            while not all(request.done for request in requests):
                if caller.promoted:
                    self._lead(caller)
                else:
                    caller.wake.acquire()
        except BaseException:
            self._withdraw(caller)
            raise

    def _lead(self, caller: _Caller) -> None:
        """Carry out what waits, wake its owners, and pass the slot on."""
        requests: list[Request] = []
        try:
            with self._lock:
                caller.promoted = False
                self._promoted = None
                count = min(len(self._waiting), _MOST_REQUESTS)
                requests += [self._waiting.popleft() for _ in range(count)]
                if self._waiting and self._free:
                    self._free -= 1
                    self._promote_leader()
            if requests:
                self._execute(requests)
        finally:
            with self._lock:
                rest = [request for request in requests if not request.done]
                self._waiting.extendleft(reversed(rest))
                self._pass_on()
                for request in requests:
                    if request.done and request.caller is not caller:
                        _wake(request.caller)

    def _withdraw(self, caller: _Caller) -> None:
        """Take back what an interrupted thread wanted, and pass on what it was to do."""
        with self._lock:
            others = [t for t in self._waiting if t.caller is not caller]
            self._waiting = deque(others)
            if caller.promoted:
                caller.promoted = False
                self._promoted = None
                self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting and self._promoted is None:
            self._promote_leader()
        else:
            self._free += 1

    def _promote_leader(self) -> None:
        caller = self._waiting[0].caller
        assert caller is not None  # noqa: S101 - run() has set it
        caller.promoted = True
        self._promoted = caller
        _wake(caller)


def _wake(caller: _Caller | None) -> None:
    """Wake a thread, or keep it from falling asleep. Hold the gate."""
    if caller is not None and caller.wake.locked():
        caller.wake.release()


_groups: Final[weakref.WeakSet[GroupCommitQueue]] = weakref.WeakSet()


def _begin_in_child() -> None:
    """Forget the parent's threads: none of them is there to leave a slot or a lock."""
    for group in list(_groups):
        group._begin()  # noqa: SLF001 - same module


os.register_at_fork(after_in_child=_begin_in_child)
