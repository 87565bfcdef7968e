from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pend_storage import crashpoints
from pend_storage.testing import Child, Report, kill_at_random, run_until_crash

POINT = crashpoints.declare("kit.point", "of the crash kit's tests")
DEADLINE = 30.0


def count_up(report: Report, start: int = 0) -> None:
    for n in itertools.count(start):
        POINT()
        report(n)


def count_to(report: Report, end: int) -> None:
    for n in range(end):
        POINT()
        report(n)


def fail(report: Report) -> None:
    report("about to fail")
    raise LookupError("nothing here")


def exit_with(report: Report, code: int) -> None:
    report(code)
    sys.exit(code)


def echo(report: Report, *args: Any, **kwargs: Any) -> None:
    report((args, kwargs))


def call(report: Report, function: Any, args: tuple[Any, ...]) -> None:
    report(function(*args))


def have_a_child(report: Report) -> None:
    with Child(count_up) as child:
        child.wait_for_reports()
        report(child.pid)
        count_up(report)


def where(report: Report) -> None:
    report(crashpoints.__file__)


def double(number: int) -> int:
    return 2 * number


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_child_runs_in_a_process_of_its_own() -> None:
    with Child(call, os.getpid, ()) as child:
        outcome = child.finish()

    assert outcome.reports == (child.pid,)
    assert child.pid != os.getpid()
    assert (outcome.code, outcome.killed, outcome.errors) == (0, False, "")


def test_arguments_and_reports_go_by_value() -> None:
    value = {"a": [1, (2, None)], "b": b"\x00" * 200_000}

    with Child(echo, value, named=[1]) as child:
        outcome = child.finish()

    assert outcome.reports == (((value,), {"named": [1]}),)


def test_functions_of_a_test_module_may_be_arguments() -> None:
    with Child(call, double, (21,)) as child:
        assert child.finish().reports == (42,)


def test_it_dies_at_the_point_after_so_many_passes() -> None:
    for skip in (0, 1, 7):
        outcome = run_until_crash(count_up, point="kit.point", skip=skip)

        assert outcome.killed
        assert outcome.reports == tuple(range(skip))


def test_never_to_reach_the_point_is_a_failure_of_the_test() -> None:
    with pytest.raises(AssertionError, match="point was not reached"):
        run_until_crash(count_to, 3, point="kit.point", skip=3)


def test_to_fail_before_the_point_is_a_failure_of_the_test() -> None:
    with pytest.raises(AssertionError, match="nothing here"):
        run_until_crash(fail, point="kit.point")


def test_it_is_killed_at_a_random_moment_and_its_reports_arrive() -> None:
    outcomes = [kill_at_random(count_up, seed=seed, within=0.05) for seed in range(3)]

    for outcome in outcomes:
        assert outcome.killed
        assert outcome.reports == tuple(range(len(outcome.reports)))
        assert outcome.reports


def test_to_come_to_an_end_before_is_no_failure() -> None:
    outcome = kill_at_random(count_to, 1, seed=1, within=0.0)

    assert outcome.reports == (0,)


def test_to_fail_before_it_is_killed_is_a_failure_of_the_test() -> None:
    with pytest.raises(AssertionError, match="nothing here"):
        kill_at_random(fail, seed=2, within=3.0)


def test_finish_tells_why_a_child_failed() -> None:
    with Child(fail) as child, pytest.raises(AssertionError, match="nothing here"):
        child.finish()


def test_an_exit_code_is_told() -> None:
    with Child(exit_with, 7) as child:
        outcome = child.wait()

    assert (outcome.code, outcome.killed, outcome.reports) == (7, False, (7,))


def test_a_child_may_be_killed_by_hand_and_again() -> None:
    child = Child(count_up)
    child.start()
    child.wait_for_reports(2)

    outcome = child.kill()

    assert outcome.killed
    assert child.kill() is outcome
    assert not is_running(child.pid)


def test_leaving_the_block_kills() -> None:
    with Child(count_up) as child:
        child.wait_for_reports()

    assert not is_running(child.pid)


def test_waiting_for_reports_ends_when_the_child_does() -> None:
    with Child(count_to, 2) as child:
        assert child.wait_for_reports(5) == (0, 1)


def test_a_child_that_hangs_is_killed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pend_storage.testing.crash._HANG_TIMEOUT", 1.0)

    with Child(count_up) as child:
        with pytest.raises(AssertionError, match="the child hung"):
            child.wait()

        assert not is_running(child.pid)


def test_a_child_that_was_not_started_cannot_be_waited_for() -> None:
    child = Child(count_up)

    for verb in (child.wait, child.wait_for_reports, child.kill):
        with pytest.raises(AssertionError, match="not started"):
            verb()


def test_a_function_of_the_main_program_is_refused() -> None:
    def local(_: Report) -> None: ...

    local.__module__ = "__main__"

    with pytest.raises((AssertionError, AttributeError)):
        Child(local).start()


def test_no_child_outlives_its_parent() -> None:
    with Child(have_a_child) as parent:
        grandchild = parent.wait_for_reports()[0]
        assert is_running(grandchild)

        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()

    end = time.monotonic() + DEADLINE
    while is_running(grandchild) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(grandchild)


def test_a_child_runs_the_same_package_wherever_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a clone: the sources lie there, and what is tested is installed elsewhere.
    (tmp_path / "pend_storage").mkdir()
    (tmp_path / "pend_storage" / "__init__.py").write_text("raise ImportError")
    monkeypatch.chdir(tmp_path)

    with Child(where) as child:
        assert child.finish().reports == (crashpoints.__file__,)
