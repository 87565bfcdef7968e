"""Work of many threads, carried out together by few of them at a time.

There are some *lanes*. A thread that comes while one is free takes it and goes direct. One
that comes while none is leaves a ticket and sleeps. Whoever leaves a lane passes it to the
first of those that wait, who then takes everything that waits. Nobody waits for a timer,
and under load the groups grow by themselves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from pend_storage._fork import on_fork
from pend_storage.errors import own_copy

__all__ = ["Group", "Ticket"]

_MOST_TICKETS: Final = 512
"""Tickets carried out together at most."""


class _Caller:
    """A thread that waits for its tickets."""

    __slots__ = ("appointed", "wake")

    def __init__(self) -> None:
        self.appointed = False
        """It has a lane, and is the next one to lead."""
        self.wake = threading.Lock()
        self.wake.acquire()


class Ticket:
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


class Group:
    """Brings threads with tickets together. In a forked child it begins anew."""

    def __init__(
        self, carry_out: Callable[[list[Ticket]], None], *, lanes: int = 1
    ) -> None:
        """Make one.

        Args:
            carry_out: does what tickets want, and marks them as done: from the first to
                at least the first. If it is interrupted, those that it leaves undone are
                carried out by somebody else.
            lanes: how many threads may be at work at a time.
        """
        self._carry_out = carry_out
        self._lanes = lanes
        self._begin()
        # In a child, none of the threads is there that would leave a lane or a lock.
        on_fork(self._begin)

    def _begin(self) -> None:
        self._gate = threading.Lock()
        self._waiting: deque[Ticket] = deque()
        self._free = self._lanes
        self._appointed: _Caller | None = None

    def enter(self) -> bool:
        """Take a lane if one is free; then :meth:`leave` it, whatever happens."""
        with self._gate:
            if self._free and not self._waiting:
                self._free -= 1
                return True
            return False

    @property
    def is_shared(self) -> bool:
        """Whether more threads than one are at work, by a glance."""
        return self._lanes - self._free > 1

    def leave(self) -> None:
        """Give a lane back, or pass it on."""
        with self._gate:
            self._pass_on()

    def run(self, *tickets: Ticket) -> None:
        """Have tickets carried out, by this thread or by others."""
        caller = _Caller()
        for ticket in tickets:
            ticket.caller = caller
        try:
            with self._gate:
                self._waiting.extend(tickets)
                if self._waiting and self._free and self._appointed is None:
                    self._free -= 1
                    self._appoint()
            while not all(ticket.done for ticket in tickets):
                if caller.appointed:
                    self._lead(caller)
                else:
                    caller.wake.acquire()
        except BaseException:
            self._withdraw(caller)
            raise

    def _lead(self, caller: _Caller) -> None:
        """Carry out what waits, wake its owners, and pass the lane on."""
        tickets: list[Ticket] = []
        try:
            with self._gate:
                caller.appointed = False
                self._appointed = None
                count = min(len(self._waiting), _MOST_TICKETS)
                tickets += [self._waiting.popleft() for _ in range(count)]
                if self._waiting and self._free:
                    self._free -= 1
                    self._appoint()
            if tickets:
                self._carry_out(tickets)
        finally:
            with self._gate:
                rest = [ticket for ticket in tickets if not ticket.done]
                self._waiting.extendleft(reversed(rest))
                self._pass_on()
                for ticket in tickets:
                    if ticket.done and ticket.caller is not caller:
                        _wake(ticket.caller)

    def _withdraw(self, caller: _Caller) -> None:
        """Take back what an interrupted thread wanted, and pass on what it was to do."""
        with self._gate:
            others = [t for t in self._waiting if t.caller is not caller]
            self._waiting = deque(others)
            if caller.appointed:
                caller.appointed = False
                self._appointed = None
                self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting and self._appointed is None:
            self._appoint()
        else:
            self._free += 1

    def _appoint(self) -> None:
        caller = self._waiting[0].caller
        assert caller is not None  # noqa: S101 - run() has set it
        caller.appointed = True
        self._appointed = caller
        _wake(caller)


def _wake(caller: _Caller | None) -> None:
    """Wake a thread, or keep it from falling asleep. Hold the gate."""
    if caller is not None and caller.wake.locked():
        caller.wake.release()
