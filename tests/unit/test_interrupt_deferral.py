"""Ctrl-C is deferred while the main thread works, and nothing else is touched.

Each test runs in a process of its own: here the time limit of tests has a handler.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from functools import partial

import pytest

from pend_storage.stores import _interrupt_deferral as interrupt_deferral
from pend_storage.stores._interrupt_deferral import NOT_NOW, with_interrupt_deferred
from pend_storage.testing import Child, Report
from pend_storage.testing.interrupts import interrupted_at

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="needs signals of the system"
)


def done() -> str:
    return "done"


def reports_of(target: Callable[[Report], None]) -> tuple[object, ...]:
    with Child(target) as child:
        return child.finish().reports


def ctrl_c(report: Report) -> None:
    steps: list[str] = []

    def work() -> str:
        signal.raise_signal(signal.SIGINT)
        steps.append("went on")
        return "done"

    for job in (work, partial(fail, work)):
        try:
            report(with_interrupt_deferred(job))
        except KeyboardInterrupt as error:
            report((steps, repr(error.__context__)))
        report(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    report(with_interrupt_deferred(done))


def fail(work: Callable[[], object]) -> None:
    work()
    raise LookupError("as it was")


def test_ctrl_c_is_raised_after_the_work() -> None:
    assert reports_of(ctrl_c) == (
        (["went on"], "None"),
        True,
        (["went on", "went on"], "LookupError('as it was')"),
        True,
        "done",
    )


def lines(report: Report) -> None:
    line = 0
    while True:
        line += 1
        steps: list[str] = []

        def work(steps: list[str] = steps) -> None:
            steps.append("begun")
            _ = threading.get_ident()
            steps.append("ended")

        hit = interrupted_at(line, partial(with_interrupt_deferred, work))
        if steps not in ([], ["begun", "ended"]):
            report(f"line {line}: {steps}")
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            report(f"line {line}: {signal.getsignal(signal.SIGINT)}")
        if not hit:
            break
    report(line)


def test_ctrl_c_at_any_line_leaves_the_handler_as_it_was() -> None:
    *told, count = reports_of(lines)

    assert not told
    assert isinstance(count, int)
    assert count > 10


def others(report: Report) -> None:
    """With other handlers it is not done, and they stay."""
    report(with_interrupt_deferred(done))
    for number, handler in (
        (signal.SIGUSR1, lambda *_: None),
        (signal.SIGINT, lambda *_: None),
        (signal.SIGINT, signal.SIG_IGN),
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGALRM, signal.default_int_handler),
    ):
        before = signal.signal(number, handler)
        report(with_interrupt_deferred(done))
        report(signal.signal(number, before) is handler)
    report(with_interrupt_deferred(done))


def test_other_handlers_are_left_alone() -> None:
    first, *rest, last = reports_of(others)

    assert (first, last) == ("done", "done")
    assert rest == [NOT_NOW, True] * 5


def restarts(report: Report) -> None:
    """``siginterrupt`` is kept, though :func:`signal.signal` would undo it."""
    report(with_interrupt_deferred(done))
    signal.siginterrupt(signal.SIGINT, False)  # noqa: FBT003 - it takes no keywords
    report(with_interrupt_deferred(done))
    report(not interrupt_deferral._System().is_pythons())


def restarts_first(report: Report) -> None:
    """The same where it was set before the first call."""
    signal.siginterrupt(signal.SIGINT, False)  # noqa: FBT003 - it takes no keywords
    system = interrupt_deferral._System()
    report(system.is_pythons())
    report(system.is_pythons())
    signal.siginterrupt(signal.SIGINT, True)  # noqa: FBT003 - it takes no keywords
    report(system.is_pythons())


def test_what_signal_would_not_restore_is_left_alone() -> None:
    assert reports_of(restarts) == ("done", NOT_NOW, True)
    assert reports_of(restarts_first) == (False, False, True)


def within(report: Report) -> None:
    """In another thread, within another one, on an event loop: not."""
    thread = threading.Thread(
        target=lambda: report(with_interrupt_deferred(done)), daemon=True
    )
    thread.start()
    thread.join()
    report(with_interrupt_deferred(lambda: with_interrupt_deferred(done)))

    async def work() -> object:
        return with_interrupt_deferred(done)

    report(asyncio.run(work()))


def test_only_the_main_thread_does_it_and_only_by_itself() -> None:
    assert reports_of(within) == (NOT_NOW, NOT_NOW, NOT_NOW)


def forked(report: Report) -> None:
    """A child forked by another thread meanwhile has Python's handler."""
    codes: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            handler = signal.getsignal(signal.SIGINT)
            os._exit(0 if handler is signal.default_int_handler else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def work() -> None:
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()

    with_interrupt_deferred(work)
    report(codes)


def test_a_child_forked_meanwhile_can_be_interrupted() -> None:
    assert reports_of(forked) == ([0],)
