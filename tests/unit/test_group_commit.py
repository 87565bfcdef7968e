"""Group commit: no thread sleeps on, and each gets the answer of its own request."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from pend_storage import _group_commit as group_commit_module
from pend_storage._group_commit import CallerLedQueue, Request

PATIENCE = 30.0


class Works:
    """Executes requests once it is released; each job is a function."""

    def __init__(self) -> None:
        self.groups: list[list[Any]] = []
        self.most = self.at_work = 0
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Semaphore(0)
        self.lock = threading.Lock()

    def __call__(self, requests: list[Request]) -> None:
        with self.lock:
            self.groups.append([request.job for request in requests])
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        self.began.release()
        assert self.go.wait(PATIENCE)
        with self.lock:
            self.at_work -= 1
        for request in requests:
            try:
                request.resolve(request.job())
            except Exception as error:  # noqa: BLE001
                request.resolve(error)


def run(group: CallerLedQueue[Request], job: Callable[[], Any]) -> Any:
    request = Request(job)
    group.run(request)
    return request.outcome()


def outcome(
    group: CallerLedQueue[Request], job: Callable[[], Any], into: list[Any]
) -> None:
    try:
        into.append(run(group, job))
    except BaseException as error:  # noqa: BLE001
        into.append(error)


def start(target: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a thread sleeps on"


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it did not come to that")


@contextmanager
def busy(
    group: CallerLedQueue[Request], works: Works, slots: int
) -> Iterator[list[threading.Thread]]:
    """All slots are taken by threads that go on at the end of the block."""
    works.go.clear()
    threads = [start(outcome, group, int, []) for _ in range(slots)]
    for _ in threads:
        assert works.began.acquire(timeout=PATIENCE)
    yield threads
    works.go.set()


@pytest.mark.parametrize("slots", [1, 3])
def test_who_comes_meanwhile_is_carried_out_together(slots: int) -> None:
    works = Works()
    group = CallerLedQueue(works, slots=slots)
    found: list[Any] = []
    with busy(group, works, slots) as threads:
        for number in range(20):
            threads.append(start(outcome, group, lambda n=number: n, found))
            wait_until(lambda n=number: len(group._waiting) == n + 1)  # type: ignore[misc]
    join(threads)

    assert sorted(found) == list(range(20))
    assert [len(jobs) for jobs in works.groups] == [*[1] * slots, 20]
    assert works.most == slots


def test_a_free_lane_is_taken_directly_and_no_more_than_there_are() -> None:
    group = CallerLedQueue(Works(), slots=2)

    assert [
        group.try_acquire_slot(),
        group.try_acquire_slot(),
        group.try_acquire_slot(),
    ] == [
        True,
        True,
        False,
    ]
    group.release_slot()
    assert group.try_acquire_slot()


def test_who_leaves_a_lane_passes_it_on() -> None:
    works = Works()
    group = CallerLedQueue(works, slots=1)
    found: list[Any] = []
    assert group.try_acquire_slot()
    threads = [start(outcome, group, lambda: 7, found) for _ in range(3)]
    wait_until(lambda: len(group._waiting) == 3)
    assert not group.try_acquire_slot()
    group.release_slot()
    join(threads)

    assert found == [7, 7, 7]
    assert group.try_acquire_slot()


def test_nobody_is_lost_among_many() -> None:
    works = Works()
    group = CallerLedQueue(works, slots=3)
    counts: list[int] = []

    def work() -> None:
        for turn in range(200):
            if turn % 3 and group.try_acquire_slot():
                group.release_slot()
            else:
                assert run(group, partial(int, turn)) == turn
        counts.append(1)

    threads = [start(work) for _ in range(64)]
    join(threads)

    assert len(counts) == 64
    assert works.most <= 3
    assert [group.try_acquire_slot() for _ in range(4)] == [True, True, True, False]


def test_an_error_is_raised_by_its_own_thread_alone() -> None:
    works = Works()
    group = CallerLedQueue(works)
    fine: list[Any] = []
    bad: list[Any] = []

    def fail() -> None:
        raise ValueError("mine")

    with busy(group, works, 1) as threads:
        threads += [start(outcome, group, fail, bad)]
        threads += [start(outcome, group, lambda: 1, fine) for _ in range(5)]
        wait_until(lambda: len(group._waiting) == 6)
    join(threads)

    assert fine == [1] * 5
    assert [type(error) for error in bad] == [ValueError]


def test_a_shared_error_is_an_object_for_each() -> None:
    shared = ValueError("ours")
    requests = [Request(None), Request(None)]
    for request in requests:
        request.fail(shared)

    raised = []
    for request in requests:
        with pytest.raises(ValueError, match="ours") as caught:
            request.outcome()
        raised.append(caught.value)
    assert len({id(shared), *map(id, raised)}) == 3


def test_several_tickets_of_one_thread_keep_their_order() -> None:
    works = Works()
    group = CallerLedQueue(works)
    requests = [Request(lambda n=number: n) for number in range(1300)]
    with busy(group, works, 1) as threads:
        threads.append(start(lambda: group.run(*requests)))
        wait_until(lambda: len(group._waiting) == 1300)
    join(threads)

    assert [request.outcome() for request in requests] == list(range(1300))
    order = [job() for jobs in works.groups[1:] for job in jobs]
    assert order == list(range(1300))
    group.run()  # none at all


def test_what_is_left_undone_comes_next() -> None:
    done: list[int] = []

    def two_at_a_time(requests: list[Request]) -> None:
        for request in requests[:2]:
            done.append(request.job)
            request.resolve(None)

    CallerLedQueue(two_at_a_time).run(*map(Request, range(7)))

    assert done == list(range(7))


def test_an_interrupted_leader_leaves_nobody_asleep() -> None:
    works = Works()
    interrupted = threading.Event()

    def execute(requests: list[Request]) -> None:
        if len(requests) > 1 and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        works(requests)

    group = CallerLedQueue(execute)
    found: list[Any] = []
    with busy(group, works, 1) as threads:
        threads += [start(outcome, group, lambda: 1, found) for _ in range(10)]
        wait_until(lambda: len(group._waiting) == 10)
    join(threads)

    assert sorted(map(str, found)) == ["", *["1"] * 9]
    assert [type(x) for x in found if x != 1] == [KeyboardInterrupt]
    assert run(group, lambda: 2) == 2


@pytest.mark.parametrize("when", ["asleep", "promoted"])
def test_an_interrupted_sleeper_leaves_nobody_asleep(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    works = Works()
    group = CallerLedQueue(works)
    found: list[Any] = []
    rouse = threading.Event()

    class Interrupted(group_commit_module._Caller):
        __slots__ = ()

        def __init__(self) -> None:
            super().__init__()
            self.wake = Alarm()  # type: ignore[assignment]

    class Alarm:
        """A lock in whose acquire() the thread is interrupted."""

        def acquire(self) -> None:
            assert rouse.wait(PATIENCE)
            raise KeyboardInterrupt

        def locked(self) -> bool:
            return True

        def release(self) -> None:
            rouse.set()

    with busy(group, works, 1) as threads:
        with monkeypatch.context() as patch:
            patch.setattr(group_commit_module, "_Caller", Interrupted)
            first = start(outcome, group, lambda: 0, found)
            wait_until(lambda: len(group._waiting) == 1)
        threads += [start(outcome, group, lambda: 1, found) for _ in range(5)]
        wait_until(lambda: len(group._waiting) == 6)
        if when == "asleep":
            rouse.set()
            join([first])
    join([*threads, first])

    assert [type(x) for x in found if x != 1] == [KeyboardInterrupt]
    assert found.count(1) == 5
    assert run(group, lambda: 2) == 2


def test_a_forked_child_begins_anew() -> None:
    works = Works()
    group = CallerLedQueue(works)
    with busy(group, works, 1) as threads:
        group._lock.acquire()  # as if another thread were just about to come
        child = os.fork()
        if child == 0:  # whatever happens here, it must not go on as a test
            code = 1
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # what sleeps on is killed
            signal.alarm(60)
            try:
                works.go.set()
                works.lock = threading.Lock()
                code = 0 if run(group, lambda: 5) == 5 else 2
            finally:
                os._exit(code)
        group._lock.release()
        _, status = os.waitpid(child, 0)
    join(threads)

    assert os.waitstatus_to_exitcode(status) == 0
