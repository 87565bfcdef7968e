"""Group commit: requests of many callers, executed in batches by a few leaders.

The leader/follower scheme of MySQL and PostgreSQL. A queue has some *slots*. Who holds one is
a leader and executes a batch of the requests that wait; the requests of all others wait for
a leader. There is no timer: an idle queue executes at once, and under load the batches grow
by themselves.

The two fronts differ in who leads. Of a :class:`CallerLedQueue` it is one of the threads that
wait. Of a :class:`WorkerLedQueue` it is a worker thread, so that callers may be coroutines,
or threads that stop waiting at a deadline.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from typing_extensions import override

from pend_storage.errors import own_copy

__all__ = ["CallerLedQueue", "GroupCommitQueue", "Request", "WorkerLedQueue"]

_MOST_REQUESTS: Final = 512
"""Requests of one batch at most, unless a queue has limits of its own."""


class _Caller:
    """A thread that waits for its requests."""

    __slots__ = ("is_promoted", "wake")

    def __init__(self) -> None:
        self.is_promoted = False
        """It holds a slot, and is the next one to lead."""
        self.wake = threading.Lock()  # the cheapest thing that a thread can wait for
        self.wake.acquire()


class Request:
    """What one caller wants done, and its outcome."""

    __slots__ = ("_caller", "done", "error", "job", "result", "withdrawn")

    def __init__(self, job: Any = None) -> None:
        """Make one; ``job`` is whatever the queue's ``execute`` understands."""
        self.job = job
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.withdrawn = False
        """Its owner was interrupted and does not want it any more; it may be left out."""
        self._caller: _Caller | None = None

    def run(self, argument: Any) -> None:
        """Call the job; what it raises is kept for the caller that it belongs to."""
        try:
            self.result = self.job(argument)
        except Exception as error:  # noqa: BLE001 - raised again by outcome()
            self.error = error

    def resolve(self, result: Any) -> None:
        """End with a result, or with an error of its own."""
        if isinstance(result, BaseException):
            self.error = result
        else:
            self.result = result
        self.done = True

    def fail(self, error: BaseException) -> None:
        """End with an error that it shares with others."""
        self.error = own_copy(error) if isinstance(error, Exception) else error
        self.done = True

    def outcome(self) -> Any:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result


R = TypeVar("R", bound=Request)


class GroupCommitQueue(Generic[R]):
    """Requests that wait, and slots for those who execute them. See the two fronts.

    In a forked child it begins anew: none of the parent's threads is there to leave a slot
    or to release the lock.
    """

    def __init__(self, execute: Callable[[list[R]], None], *, slots: int = 1) -> None:
        """Make an empty queue.

        Args:
            execute: executes a batch, and resolves or fails each request of it, from the
                first to at least the first.
            slots: how many batches may be under way at a time.
        """
        self._execute = execute
        self._slots = slots
        self.reset()
        _queues.add(self)

    def reset(self) -> None:
        """Forget all requests, and free all slots."""
        self._lock = threading.Lock()
        """Held for microseconds. Always by a ``with`` of the lock itself, which no signal
        handler can interrupt between taking it and the block that releases it."""
        self._waiting: deque[R] = deque()

    def _next_batch(self) -> list[R]:
        """Remove what is executed together from the front of the queue. Hold the lock."""
        count = min(len(self._waiting), _MOST_REQUESTS)
        return [self._waiting.popleft() for _ in range(count)]

    def _put_back(self, batch: list[R]) -> None:
        """Have those that are not done come first again. Hold the lock."""
        for request in reversed(batch):
            if not request.done:
                self._waiting.appendleft(request)


class CallerLedQueue(GroupCommitQueue[R]):
    """Led by the threads that wait: who gives a slot back promotes one of them.

    A thread that comes while a slot is free may take it and execute its request directly.

    Not for the main thread, where a signal handler may raise between any two steps: see
    :func:`~pend_storage.stores._signal_shield.shielded`. If ``execute`` is interrupted, what
    it leaves undone is executed by another leader.
    """

    @override
    def reset(self) -> None:
        super().reset()
        self._free = self._slots
        self._promoted: _Caller | None = None
        """Holds a slot already, and has not begun. Never more than one: it takes all."""

    def try_enter(self) -> bool:
        """Take a slot if one is free; then :meth:`leave` it, whatever happens."""
        with self._lock:
            if self._free and not self._waiting:
                self._free -= 1
                return True
            return False

    @property
    def is_shared(self) -> bool:
        """Whether more threads than one are at work, without taking the lock."""
        return self._slots - self._free > 1

    def leave(self) -> None:
        """Give a slot back, or pass it on to a thread that waits."""
        with self._lock:
            if self._waiting:
                self._pass_on()
            else:
                self._free += 1

    def run(self, *requests: R) -> None:
        """Have requests executed, by this thread or by others, and wait until they are."""
        caller = _Caller()
        for request in requests:
            request._caller = caller  # noqa: SLF001 - same module
        try:
            with self._lock:
                self._waiting.extend(requests)
                if self._waiting and self._free and self._promoted is None:
                    self._free -= 1
                    self._promote_leader()
            while not all(request.done for request in requests):
                if caller.is_promoted:
                    self._lead(caller)
                else:
                    caller.wake.acquire()
        except BaseException:
            self._withdraw(caller)
            raise

    def _lead(self, leader: _Caller) -> None:
        """Execute what waits, wake its owners, and pass the slot on."""
        batch: list[R] = []
        try:
            with self._lock:
                leader.is_promoted = False
                self._promoted = None
                batch += self._next_batch()
                if self._waiting and self._free:
                    self._free -= 1
                    self._promote_leader()
            if batch:
                self._execute(batch)
        finally:
            with self._lock:
                self._put_back(batch)
                self._pass_on()
                for request in batch:
                    if request.done and request._caller is not leader:  # noqa: SLF001
                        _wake(request._caller)  # noqa: SLF001

    def _withdraw(self, caller: _Caller) -> None:
        """Take back what an interrupted thread wanted, and pass on what it was to lead."""
        with self._lock:
            others = [r for r in self._waiting if r._caller is not caller]  # noqa: SLF001
            self._waiting = deque(others)
            if caller.is_promoted:
                caller.is_promoted = False
                self._promoted = None
                self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting and self._promoted is None:
            self._promote_leader()
        else:
            self._free += 1

    def _promote_leader(self) -> None:
        """Make the owner of the first request a leader. Hold the lock, and a slot for it."""
        caller = self._waiting[0]._caller  # noqa: SLF001 - same module
        assert caller is not None  # noqa: S101 - run() has set it
        caller.is_promoted = True
        self._promoted = caller
        _wake(caller)


class WorkerLedQueue(GroupCommitQueue[R]):
    """Led by worker threads, each of which executes batches until nothing waits.

    A caller only submits. That takes no lock, so it may be done in the main thread: wherever
    a signal handler raises there, what it leaves behind is a request that the next leader
    takes, or a worker that finds nothing to do.

    What ``execute`` raises fails the requests that it leaves undone.
    """

    _start_worker: Callable[[Callable[[], None]], object]
    """Has a function called once in another thread, and does not wait. Set by subclasses."""

    @override
    def reset(self) -> None:
        super().reset()
        self._leading = 0
        """Workers that hold a slot."""
        self._begun = 0
        """Workers that have begun, ever; this and the above are changed by workers only."""
        self._started = 0
        """Workers that were started, ever. Never too high, so that none is missing."""

    def submit(self, *requests: R) -> None:
        """Have requests executed by workers, and do not wait for it."""
        self._waiting.extend(requests)
        # In this order: a worker that gives its slot back looks at the queue afterwards.
        if self._leading + self._started - self._begun < self._slots:
            self._start_worker(self._lead)
            self._started += 1

    def _lead(self) -> None:
        """Execute batches until nothing waits, in a worker."""
        batch: list[R] = []
        with self._lock:
            self._begun += 1
            if self._leading < self._slots:  # else those who lead take what there is
                self._leading += 1
                batch = self._batch_or_leave()
        while batch:
            try:
                self._execute(batch)
            except BaseException as error:  # noqa: BLE001 - raised by those who wait
                for request in batch:
                    if not request.done:
                        request.fail(error)
            with self._lock:
                self._put_back(batch)
                self._finished(batch)
                following = self._batch_or_leave()
            self._deliver(batch)
            batch = following

    def _batch_or_leave(self) -> list[R]:
        """Remove the next batch, or give the slot back. Hold the lock."""
        self._leading -= (
            1  # before the look: who submits after it starts another worker
        )
        batch = self._next_batch()
        if batch:
            self._leading += 1
        return batch

    def _finished(self, batch: list[R]) -> None:
        """Forget what kept others from going beside this batch. The lock is held."""

    def _deliver(self, batch: list[R]) -> None:
        """Tell the callers of a batch that its requests are done."""
        raise NotImplementedError


def _wake(caller: _Caller | None) -> None:
    """Wake a thread, or keep it from falling asleep. Hold the lock."""
    if caller is not None and caller.wake.locked():
        caller.wake.release()


_queues: Final[weakref.WeakSet[GroupCommitQueue[Any]]] = weakref.WeakSet()


def _reset_in_child() -> None:
    for queue in list(_queues):
        queue.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)
