from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from pend_storage.errors import StoreUnavailable
from pend_storage.stores._signal_shield import in_main_thread, later, shielded


class TimeIsUp(Exception):
    pass


def threads() -> int:
    """Of this process, those that the threading module does not know included."""
    return len([*Path("/proc/self/task").iterdir()])


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Raises in the main thread, in so many seconds."""

    def late(_: int, __: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, late)
    yield lambda seconds: (signal.setitimer(signal.ITIMER_REAL, seconds), None)[1]
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_results_errors_and_context_go_through() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)

    def fail() -> None:
        raise LookupError("as it was")

    assert in_main_thread()
    assert not shielded(in_main_thread)
    assert shielded(variable.get) == 7
    with pytest.raises(LookupError, match="as it was"):
        shielded(fail)


def test_other_threads_work_for_themselves() -> None:
    found: list[int] = []
    thread = threading.Thread(
        target=lambda: found.append(shielded(threading.get_ident))
    )
    thread.start()
    thread.join()

    assert found == [thread.ident]


def test_what_was_begun_goes_on_and_does_not_hold_up_what_comes_next(
    alarm: Callable[[float], None],
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(10)
        ended.set()

    alarm(0.05)
    with pytest.raises(TimeIsUp):
        shielded(work)

    assert begun.is_set()
    assert shielded(lambda: "next") == "next"
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(10)


def test_many_that_are_given_up_leave_few_threads(
    alarm: Callable[[float], None],
) -> None:
    go_on = threading.Event()
    shielded(lambda: None)
    before = threads()
    for _ in range(5):
        alarm(0.02)
        with pytest.raises(TimeIsUp):
            shielded(lambda: go_on.wait(10))
    go_on.set()

    end = time.monotonic() + 10
    while threads() > before + 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert threads() <= before + 1


def test_what_nobody_waits_for_is_done_all_the_same() -> None:
    done = threading.Event()
    later(done.set)
    assert done.wait(10)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_helpers_of_its_own() -> None:
    shielded(lambda: None)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if shielded(lambda: 5) == 5 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_forked_by_a_handler_does_not_wait_for_ever() -> None:
    children: list[int] = []
    go_on = threading.Event()

    def fork(_: int, __: FrameType | None) -> None:
        children.append(os.fork())
        go_on.set()

    before = signal.signal(signal.SIGALRM, fork)
    parent = os.getpid()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            shielded(lambda: go_on.wait(10))
        except StoreUnavailable as error:
            if os.getpid() != parent:
                os._exit(3 if error.outcome_known else 0)
            raise
        finally:
            if os.getpid() != parent:
                os._exit(4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    (child,) = children
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
