"""Requests that worker threads execute: none is lost, whatever interrupts a caller."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest
from typing_extensions import override

from pend_storage._group_commit import Request, WorkerLedQueue

PATIENCE = 30.0


class Counted(Request):
    """A request whose end can be waited for."""

    __slots__ = ("told",)

    def __init__(self, job: Any = None) -> None:
        super().__init__(job)
        self.told = threading.Semaphore(0)


class Queue(WorkerLedQueue[Counted]):
    """Executes jobs in a pool, a few of them at a time."""

    def __init__(self, *, slots: int = 1, most: int = 100) -> None:
        self.most = most
        self.batches: list[list[Any]] = []
        self.at_work = self.most_at_work = 0
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Semaphore(0)
        self.guard = threading.Lock()
        self.threads = ThreadPoolExecutor(20)
        self._start_worker = self.threads.submit
        super().__init__(self._run, slots=slots)

    def _run(self, batch: list[Counted]) -> None:
        with self.guard:
            self.batches.append([request.job for request in batch])
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
        self.began.release()
        assert self.go.wait(PATIENCE)
        with self.guard:
            self.at_work -= 1
        for request in batch[: self.most]:
            if isinstance(request.job, BaseException):
                raise request.job
            request.resolve(request.job)

    @override
    def _deliver(self, batch: list[Counted]) -> None:
        for request in batch:
            if request.done:
                request.told.release()


def outcome(request: Counted) -> Any:
    assert request.told.acquire(timeout=PATIENCE), "it was not executed"
    assert not request.told.acquire(blocking=False), "it was answered twice"
    return request.outcome()


@pytest.mark.parametrize("slots", [1, 3])
def test_what_comes_meanwhile_is_one_batch(slots: int) -> None:
    queue = Queue(slots=slots)
    queue.go.clear()
    first = [Counted(-n) for n in range(slots)]
    for request in first:
        queue.submit(request)
        assert queue.began.acquire(timeout=PATIENCE)
    others = [Counted(n) for n in range(50)]
    for request in others:
        queue.submit(request)
    queue.go.set()

    assert [outcome(request) for request in others] == list(range(50))
    assert [outcome(request) for request in first] == [-n for n in range(slots)]
    assert [len(batch) for batch in queue.batches] == [*[1] * slots, 50]
    assert queue.most_at_work <= slots


def test_what_is_left_undone_comes_next() -> None:
    queue = Queue(most=2)
    requests = [Counted(n) for n in range(7)]
    queue.submit(*requests)

    assert [outcome(request) for request in requests] == list(range(7))
    assert queue.batches[0] == list(range(7))
    assert queue.batches[1] == list(range(2, 7))


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_what_a_batch_raises_fails_what_it_leaves_undone(error: BaseException) -> None:
    queue = Queue()
    requests = [Counted(1), Counted(error), Counted(2)]
    queue.submit(*requests)

    assert outcome(requests[0]) == 1
    for request in requests[1:]:
        with pytest.raises(type(error)):
            outcome(request)
    queue.submit(after := Counted(5))
    assert outcome(after) == 5


def test_nothing_is_lost_among_many_threads() -> None:
    queue = Queue(slots=3, most=7)
    failures: list[Any] = []

    def work(me: int) -> None:
        for turn in range(100):
            request = Counted((me, turn))
            queue.submit(request)
            if outcome(request) != (me, turn):
                failures.append(request)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures
    assert queue.most_at_work <= 3
    queue.threads.shutdown()
    assert (queue._leading, queue._started - queue._begun) == (0, 0)


class Interrupt(Exception):
    """The exception of a signal handler."""


def interrupted(line: int, work: Callable[[], object]) -> bool:
    """Raise before a line of the queue's module, as a handler may; False: it has fewer."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.endswith("_group_commit.py"):
            return None
        count += event == "line"
        if event == "line" and count == line:
            sys.settrace(None)
            raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
    return count >= line


@pytest.mark.parametrize("slots", [1, 2])
def test_a_caller_that_is_interrupted_at_any_line_stops_nobody(slots: int) -> None:
    line = 1
    while True:
        queue = Queue(slots=slots)
        was_hit = interrupted(line, lambda q=queue: q.submit(Counted("mine")))  # type: ignore[misc]
        others = [Counted(n) for n in range(3)]
        for request in others:
            queue.submit(request)
            assert outcome(request) == request.job
        queue.threads.shutdown()
        executed = [job for batch in queue.batches for job in batch]
        assert executed.count("mine") <= 1
        assert (queue._leading, list(queue._waiting)) == (0, [])
        if not was_hit:
            break
        line += 1
    assert line > 4


def test_a_forked_child_begins_anew() -> None:
    queue = Queue()
    queue.go.clear()
    queue.submit(held := Counted(0))
    assert queue.began.acquire(timeout=PATIENCE)
    with queue._lock:  # as if another worker were just about to look
        child = os.fork()
        if child == 0:  # whatever happens here, it must not go on as a test
            code = 1
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # what sleeps on is killed
            signal.alarm(60)
            try:
                queue.go.set()
                queue.guard = threading.Lock()
                threads = ThreadPoolExecutor(1)
                queue._start_worker = threads.submit
                queue.submit(request := Counted(5))
                code = 0 if outcome(request) == 5 else 2
            finally:
                os._exit(code)
    _, status = os.waitpid(child, 0)
    queue.go.set()

    assert outcome(held) == 0
    assert os.waitstatus_to_exitcode(status) == 0
