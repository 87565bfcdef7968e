"""Group commit: requests of many callers, executed in batches by a few leaders.

The leader/follower scheme of MySQL and PostgreSQL. A queue has some *slots*. A thread that
holds one is a leader, and executes a batch of the requests that wait; all other requests
wait for a leader. There is no timer: an idle queue executes at once, and under load the
batches grow by themselves.

The two fronts differ in the thread that leads. Of a :class:`CallerLedQueue` it is one of
the threads that wait. Of a :class:`WorkerLedQueue` it is a worker thread, so that callers
may be coroutines, or threads that stop waiting at a deadline.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from typing_extensions import override

from pend_storage._fork import on_fork
from pend_storage.errors import own_copy

__all__ = ["CallerLedQueue", "GroupCommitQueue", "Request", "WorkerLedQueue"]

_MOST_REQUESTS: Final = 512
"""Requests of one batch at most, unless a queue has limits of its own."""


class _Caller:
    """Thread that waits for its requests."""

    __slots__ = ("is_promoted", "wake")

    def __init__(self) -> None:
        self.is_promoted = False
        """It holds a slot, and is the next one to lead."""
        self.wake = threading.Lock()  # the cheapest thing that a thread can wait for
        self.wake.acquire()


class Request:
    """Request of one caller: a job, and its outcome."""

    __slots__ = ("_caller", "done", "error", "job", "result", "withdrawn")

    def __init__(self, job: Any = None) -> None:
        """Make a request.

        Args:
            job: passed to ``execute`` of the queue, which defines its type.
        """
        self.job = job
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.withdrawn = False
        """True once its caller was interrupted: it need not be executed any more."""
        self._caller: _Caller | None = None

    def run(self, argument: Any) -> None:
        """Call the job; an error is recorded, and raised in the caller's thread."""
        try:
            self.result = self.job(argument)
        except Exception as error:  # noqa: BLE001 - raised again by outcome()
            self.error = error

    def resolve(self, result: Any) -> None:
        """Resolve with a result, or with an error of this request alone."""
        if isinstance(result, BaseException):
            self.error = result
        else:
            self.result = result
        self.done = True

    def fail(self, error: BaseException) -> None:
        """Fail with an error that other requests share; each gets a copy."""
        self.error = own_copy(error) if isinstance(error, Exception) else error
        self.done = True

    def outcome(self) -> Any:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result


R = TypeVar("R", bound=Request)


class GroupCommitQueue(Generic[R]):
    """Queue of requests, with slots for the threads that execute them. See the two fronts.

    In a forked child it begins anew: none of the parent's threads is there to release a
    slot or the lock.
    """

    def __init__(self, execute: Callable[[list[R]], None], *, slots: int = 1) -> None:
        """Make an empty queue.

        Args:
            execute: executes a batch, and resolves or fails its requests in order, at
                least the first; the others come first in the next batch.
            slots: batches that may be under way at a time.
        """
        self._execute = execute
        self._slots = slots
        self.reset()
        on_fork(self.reset)

    def reset(self) -> None:
        """Drop all requests, and free all slots."""
        self._lock = threading.Lock()
        """Held for microseconds. Always by a ``with`` of the lock itself, which no signal
        handler can interrupt between taking it and the block that releases it."""
        self._waiting: deque[R] = deque()

    def _next_batch(self) -> list[R]:
        """Remove the next batch from the front of the queue. Hold the lock."""
        count = min(len(self._waiting), _MOST_REQUESTS)
        return [self._waiting.popleft() for _ in range(count)]

    def _put_back(self, batch: list[R]) -> None:
        """Return unfinished requests to the front of the queue. Hold the lock."""
        for request in reversed(batch):
            if not request.done:
                self._waiting.appendleft(request)


class CallerLedQueue(GroupCommitQueue[R]):
    """Queue led by the threads that wait: a leader that releases its slot promotes one.

    A thread that comes while a slot is free may acquire it, and execute its request directly.

    Not for the main thread, where a signal handler may raise between any two steps: see
    :func:`~pend_storage.stores._signal_shield.shielded`. If ``execute`` is interrupted,
    another leader executes the requests that it has not finished.
    """

    @override
    def reset(self) -> None:
        super().reset()
        self._free = self._slots
        self._promoted: _Caller | None = None
        """Holds a slot already, and has not begun. One at most: its batch takes all."""

    def try_acquire_slot(self) -> bool:
        """Acquire a slot if one is free and no request waits.

        Returns:
            Whether the caller holds one; then :meth:`release_slot` must follow in any case.
        """
        with self._lock:
            if self._free and not self._waiting:
                self._free -= 1
                return True
            return False

    @property
    def is_shared(self) -> bool:
        """True if more threads than one are at work; read without the lock."""
        return self._slots - self._free > 1

    def release_slot(self) -> None:
        """Release a slot, or pass it on to a thread that waits."""
        with self._lock:
            if self._waiting:
                self._pass_on()
            else:
                self._free += 1

    def run(self, *requests: R) -> None:
        """Execute requests, in this thread or in another leader's, and wait for them."""
        caller = _Caller()
        for request in requests:
            request._caller = caller  # noqa: SLF001 - same module
        try:
            with self._lock:
                self._waiting.extend(requests)
                if self._waiting and self._free and self._promoted is None:
                    self._free -= 1
                    self._promote_leader()
            # A thread wakes up for one of two reasons: its requests are done, or it was
            # promoted. A leader executes one batch only, and passes its slot on, so that
            # no caller works for others for long after its own request is done.
            while not all(request.done for request in requests):
                if caller.is_promoted:
                    self._lead(caller)
                else:
                    caller.wake.acquire()
        except BaseException:
            self._withdraw(caller)
            raise

    def _lead(self, leader: _Caller) -> None:
        """Execute the next batch, wake its callers, and pass the slot on."""
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
        """Withdraw the requests of an interrupted thread, and pass its slot on."""
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
        """Promote the caller of the first request. Hold the lock, and a slot for it."""
        caller = self._waiting[0]._caller  # noqa: SLF001 - same module
        assert caller is not None  # noqa: S101 - run() has set it
        caller.is_promoted = True
        self._promoted = caller
        _wake(caller)


class WorkerLedQueue(GroupCommitQueue[R]):
    """Queue led by worker threads, each of which executes batches until nothing waits.

    A caller only submits. That takes no lock, so it may be done in the main thread: wherever
    a signal handler raises there, the rest is a request that the next leader executes, or a
    worker that finds nothing to do.

    An error of ``execute`` fails the requests that it has not finished.
    """

    _start_worker: Callable[[Callable[[], None]], object]
    """Calls a function once in another thread, and does not wait. Set by subclasses."""

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
        """Enqueue requests for the workers, and do not wait for them."""
        self._waiting.extend(requests)
        # In this order: a worker that releases its slot reads the queue afterwards.
        if self._leading + self._started - self._begun < self._slots:
            self._start_worker(self._lead)
            self._started += 1

    def _lead(self) -> None:
        """Execute batches until nothing waits, in a worker."""
        batch: list[R] = []
        with self._lock:
            self._begun += 1
            if self._leading < self._slots:  # else the present leaders take what waits
                self._leading += 1
                batch = self._batch_or_release()
        while batch:
            try:
                self._execute(batch)
            except BaseException as error:  # noqa: BLE001 - raised in the callers' threads
                for request in batch:
                    if not request.done:
                        request.fail(error)
            with self._lock:
                self._put_back(batch)
                self._finished(batch)
                following = self._batch_or_release()
            self._deliver(batch)
            batch = following

    def _batch_or_release(self) -> list[R]:
        """Remove the next batch, or release the slot. Hold the lock."""
        # Before the queue is read, so that a later submit() starts another worker.
        self._leading -= 1
        batch = self._next_batch()
        if batch:
            self._leading += 1
        return batch

    def _finished(self, batch: list[R]) -> None:
        """Release what the batch has held against other batches. The lock is held."""

    def _deliver(self, batch: list[R]) -> None:
        """Deliver the outcomes of a batch to its callers."""
        raise NotImplementedError


def _wake(caller: _Caller | None) -> None:
    """Wake a thread, or keep it from going to sleep. Hold the lock."""
    if caller is not None and caller.wake.locked():
        caller.wake.release()
