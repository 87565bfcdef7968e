"""Work of many threads, carried out together by one of them at a time.

A thread that comes while another one works leaves a ticket and sleeps. When the work is
done, the worker wakes those whose tickets it has carried out, and appoints the first of
those that came meanwhile, who then takes everything that waits. Nobody waits for a timer,
and under load the groups grow by themselves.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["Group", "Ticket"]

_MOST_TICKETS: Final = 512
"""Tickets carried out together at most."""


class Ticket:
    """What one thread wants done, and what came of it."""

    __slots__ = ("_error", "_job", "_result", "appointed", "done", "wake")

    def __init__(self, job: Callable[[Any], Any]) -> None:
        self._job = job
        self._result: Any = None
        self._error: Exception | None = None
        self.done = False
        self.appointed = False
        """Its thread is the next one to lead."""
        self.wake = threading.Lock()
        self.wake.acquire()

    def do(self, argument: Any) -> None:
        """Do the job; what it raises is kept for the thread that it belongs to."""
        try:
            self._result = self._job(argument)
        except Exception as error:  # noqa: BLE001 - raised again by outcome()
            self._error = error

    def fail(self, error: Exception) -> None:
        """End with an error that is not its own."""
        # Each thread needs one for itself: raising it writes a traceback into it.
        self._error = copy.copy(error)
        self._error.__cause__ = error
        self.done = True

    def outcome(self) -> Any:
        """The result; or raises the error."""
        if self._error is not None:
            raise self._error
        return self._result


class Group:
    """Brings threads with tickets together."""

    def __init__(self, carry_out: Callable[[list[Ticket]], None]) -> None:
        """Make one.

        Args:
            carry_out: does what tickets want, in order, and marks them as done, from the
                first to at least the first; all of them if it raises. It is called by
                one thread at a time.
        """
        self._carry_out = carry_out
        self._gate = threading.Lock()
        self._waiting: deque[Ticket] = deque()
        self._led = False
        self._leader = threading.Lock()

    def run(self, ticket: Ticket) -> None:
        """Have a ticket carried out, by this thread or another one."""
        with self._gate:
            self._waiting.append(ticket)
            ticket.appointed, self._led = not self._led, True
        while not ticket.done:
            if ticket.appointed:
                self._lead(ticket)
            else:
                self._sleep(ticket)

    def _sleep(self, ticket: Ticket) -> None:
        """Wait until the ticket is done, or its thread is to lead."""
        try:
            ticket.wake.acquire()
        except BaseException:
            with self._gate:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                appointed = ticket.appointed and not ticket.done
            if appointed:
                self._appoint()
            raise

    def _lead(self, leader: Ticket) -> None:
        """Carry out what waits, wake its owners, and hand over."""
        with self._gate:
            leader.appointed = False
            count = min(len(self._waiting), _MOST_TICKETS)
            tickets = [self._waiting.popleft() for _ in range(count)]
        try:
            with self._leader:
                self._carry_out(tickets)
        finally:
            with self._gate:
                rest = [ticket for ticket in tickets if not ticket.done]
                self._waiting.extendleft(reversed(rest))
            self._appoint()
            for ticket in tickets:
                if ticket.done:
                    ticket.wake.release()

    def _appoint(self) -> None:
        with self._gate:
            self._led = bool(self._waiting)
            if self._waiting:
                self._waiting[0].appointed = True
                self._waiting[0].wake.release()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep everyone from carrying anything out for the length of the block."""
        with self._leader:
            yield
