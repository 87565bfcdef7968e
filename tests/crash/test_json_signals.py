"""Exceptions out of signal handlers, at any instant: no lock stays, nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias

import pytest

from pend_storage.aio import AsyncStore
from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._journal import engine as engine_module
from pend_storage.stores.json._journal import journal, process_locks
from pend_storage.stores.json._journal.process_locks import FlockLock
from pend_storage.testing import Child, Report
from pend_storage.testing.domain import SCHEMA, Tally, a_tally
from pend_storage.testing.interrupts import (
    Interrupter,
    interrupted_at,
    outcome_in_time,
)

SECONDS: Final = 20 / 4
MANY_SECONDS: Final = 200.0
SLACK: Final = 30.0
"""Seconds after which a process that should have ended hangs."""

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="needs timers of the system"
)


class TimeIsUp(Exception):
    """The exception that the handler raises."""


class Storm:
    """Raises in the main thread, at a random instant of each attempt."""

    def __init__(self, report: Report) -> None:
        self.hits = 0
        self.acknowledged: dict[str, int] = {}
        self._report = report
        self._armed = False
        signal.signal(signal.SIGALRM, self._raise)

    def _raise(self, _: int, __: FrameType | None) -> None:
        if self._armed:
            raise TimeIsUp

    def tell(self, trouble: str) -> None:
        self._report(trouble)

    def attempt(self, work: Callable[[], None], longest: float = 0.004) -> None:
        """Do something once, interrupted or not."""
        try:
            try:
                self._armed = True
                wait = random.random() ** 2 * longest + 1e-5
                signal.setitimer(signal.ITIMER_REAL, wait)
                work()
            finally:
                self._armed = False
        except TimeIsUp:
            self.hits += 1
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            self.tell(f"{error!r} in the thread that was interrupted")

    def end(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._report((self.hits, self.acknowledged))


def put(store: JsonStore, key: str, n: int, acknowledged: dict[str, int]) -> None:
    store.collection(Tally).put(a_tally(key, n))
    acknowledged[key] = n


def steady(
    store: JsonStore,
    key: str,
    until: float,
    acknowledged: dict[str, int],
    tell: Callable[[str], None],
) -> None:
    """Write and read without being interrupted."""
    n = 0
    while time.monotonic() < until:
        n += 1
        try:
            put(store, key, n, acknowledged)
            found = store.collection(Tally).get(key)
            if found is None or found.value != n:
                tell(f"{key}: wrote {n}, read {found}")
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            tell(f"{error!r} in {key}, which was not interrupted")
        time.sleep(random.random() * 0.002)


def threads(report: Report, directory: Path, seconds: float) -> None:
    """Commits, reads and checkpoints of the main thread, beside two more threads."""
    storm, until = Storm(report), time.monotonic() + seconds
    store = JsonStore(SCHEMA, directory, checkpoint_interval=0.05, lock_timeout=5)
    others = [
        threading.Thread(
            target=steady, args=(store, key, until, storm.acknowledged, storm.tell)
        )
        for key in ("t1", "t2")
    ]
    for other in others:
        other.start()
    n = 0

    def work() -> None:
        put(store, "m", n, storm.acknowledged)
        store.collection(Tally).get("t1")
        store.collection(Tally).count()
        if n % 50 == 0:
            store.checkpoint()
        if n % 200 == 0:
            store.compact()

    while time.monotonic() < until:
        n += 1
        storm.attempt(work)
    storm.end()
    for other in others:
        other.join()
    store.close()


def forks(report: Report, directory: Path, seconds: float) -> None:
    """Forks of the main thread, at any instant of commits of another one."""
    storm, until = Storm(report), time.monotonic() + seconds
    store = JsonStore(SCHEMA, directory, checkpoint_interval=0.05, lock_timeout=5)
    other = threading.Thread(
        target=steady, args=(store, "t", until, storm.acknowledged, storm.tell)
    )
    other.start()
    n = 0

    def work() -> None:
        put(store, "m", n, storm.acknowledged)
        store.collection(Tally).get("t")

    while time.monotonic() < until:
        n += 1
        storm.attempt(work)
        if n % 10 == 0:
            signal.setitimer(signal.ITIMER_REAL, 0)
            pid = os.fork()
            if pid == 0:
                os._exit(_as_child(store, n))
            if code := _exit_code(pid):
                storm.tell(f"a forked child ended with {code}")
            storm.acknowledged["c"] = n
    storm.end()
    other.join()
    store.close()


def _as_child(store: JsonStore, n: int) -> int:
    try:
        put(store, "c", n, {})
        found = store.collection(Tally).get("c")
    except BaseException:  # noqa: BLE001 - told by the exit code
        return 1
    return 0 if found is not None and found.value == n else 2


def _exit_code(pid: int, seconds: float = SLACK) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGKILL


def loops(report: Report, directory: Path, seconds: float) -> None:
    """An event loop in the main thread, whose signals cancel at any instant.

    As asyncio has it: what a handler raises within a loop would be lost with a callback of
    the loop's own.
    """
    storm, until = Storm(report), time.monotonic() + seconds
    store = JsonStore(SCHEMA, directory, checkpoint_interval=None, lock_timeout=5)
    other = threading.Thread(
        target=steady, args=(store, "t", until, storm.acknowledged, storm.tell)
    )
    other.start()
    n = 0

    async def work(mine: JsonStore) -> None:
        nonlocal n
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, task.cancel)
        signal.setitimer(signal.ITIMER_REAL, random.random() ** 2 * 0.05 + 1e-5)
        async with AsyncStore(mine) as calls:
            tallies = calls.collection(Tally)
            while True:
                n += 1
                await tallies.put(a_tally("m", n))
                storm.acknowledged["m"] = n
                await tallies.get("t")

    while time.monotonic() < until:
        mine = JsonStore(SCHEMA, directory, checkpoint_interval=None, lock_timeout=5)
        try:
            asyncio.run(work(mine))
        except asyncio.CancelledError:
            storm.hits += 1
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            storm.tell(f"{error!r} in the loop that was interrupted")
        mine.close()
    storm.end()
    other.join()
    store.close()


def ctrl_c(report: Report, directory: Path, seconds: float) -> None:
    """Ctrl-C alone, which is deferred while the main thread commits by itself."""
    until, acknowledged = time.monotonic() + seconds, dict[str, int]()
    store = JsonStore(SCHEMA, directory, checkpoint_interval=0.05, lock_timeout=5)
    other = threading.Thread(
        target=steady, args=(store, "t", until, acknowledged, report)
    )
    other.start()
    interrupter, n = Interrupter(0.002), 0

    def work() -> None:
        for _ in range(4):
            put(store, "m", n, acknowledged)
            store.collection(Tally).count()
        store.collection(Tally).get("t")

    while time.monotonic() < until:
        n += 1
        try:
            interrupter.attempt(work)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            report(f"{error!r} in the thread that was interrupted")
    interrupter.end()
    other.join()
    report((interrupter.hits, acknowledged))
    store.close()


Kind: TypeAlias = Callable[[Report, Path, float], None]


def run(kind: Kind, directory: Path, seconds: float) -> None:
    directory.mkdir()
    with Child(kind, directory, seconds) as storm:
        acknowledged: dict[str, int] = {}
        with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
            troubles: list[str] = []
            until = time.monotonic() + seconds
            steady(store, "p", until, acknowledged, troubles.append)
        outcome = storm.finish()
    assert outcome.reports, "the process that was interrupted hangs"
    *told, (hits, theirs) = outcome.reports
    assert not [*told, *troubles]
    assert hits > 0
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
        for key, n in (acknowledged | theirs).items():
            found = store.collection(Tally).get(key)
            assert found is not None, key
            assert found.value >= n, key


@pytest.mark.parametrize("kind", [threads, forks, loops, ctrl_c])
def test_nothing_is_spoiled_by_exceptions_out_of_a_handler(
    kind: Kind, tmp_path: Path
) -> None:
    run(kind, tmp_path / "data", SECONDS)


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [threads, forks, loops, ctrl_c])
def test_nothing_is_spoiled_in_ten_minutes(kind: Kind, tmp_path: Path) -> None:
    run(kind, tmp_path / "data", MANY_SECONDS)


def fork_as_a_wait_ends(report: Report, directory: Path) -> None:
    """The thread that waits has closed a file, and has not noted it yet."""
    store = JsonStore(SCHEMA, directory, checkpoint_interval=None, lock_timeout=5)
    put(store, "m", 1, {})
    visit = process_locks._LockWait(store._opened().own, ("lock", "lock.turn"))
    visit.turn_fd = os.dup(0)
    os.close(visit.turn_fd)
    process_locks._LockWait.under_way.add(visit)
    with store._opened()._writing:  # as another thread may have it
        pid = os.fork()
        if pid == 0:
            os._exit(_as_child(store, 1))
        report(_exit_code(pid, SLACK / 3))


def test_a_fork_while_a_wait_ends_does_not_stop_the_child(tmp_path: Path) -> None:
    with Child(fork_as_a_wait_ends, tmp_path / "data") as child:
        assert child.wait_for_reports() == (0,)


# -- one line after the other ---------------------------------------------------------------


def late(_: int, __: FrameType | None) -> None:
    raise TimeIsUp


def interrupted(line: int, work: Callable[[], object]) -> bool:
    """Raise before one line of the library; False where there are not so many."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "pend_storage/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        if event == "line" and count == line:
            sys.settrace(None)
            signal.raise_signal(signal.SIGALRM)
        return trace

    handler, before = signal.signal(signal.SIGALRM, late), sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except TimeIsUp:
        pass
    finally:
        sys.settrace(before)
        signal.signal(signal.SIGALRM, handler)
    return count >= line


@pytest.fixture
def store(tmp_path: Path) -> JsonStore:
    return JsonStore(SCHEMA, tmp_path, checkpoint_interval=None, lock_timeout=2)


def through_all_lines(
    work: Callable[[int], object], judge: Callable[[int], None]
) -> int:
    line = 1
    while interrupted(line, partial(work, line)):
        judge(line)
        line += 1
    return line - 1


def test_a_commit_that_is_interrupted_at_any_line_stops_nobody(
    store: JsonStore,
) -> None:
    tallies = store.collection(Tally)
    tallies.put(a_tally("t", 0))

    def judge(line: int) -> None:
        later = outcome_in_time(lambda: tallies.put(a_tally("later", line)))
        assert later == "done", f"after line {line}"

    lines = through_all_lines(lambda n: tallies.put(a_tally("t", n)), judge)

    assert lines > 20
    store.close()


def test_a_read_that_is_interrupted_at_any_line_spoils_no_commit(
    store: JsonStore, tmp_path: Path
) -> None:
    tallies = store.collection(Tally)
    other = JsonStore(SCHEMA, tmp_path, checkpoint_interval=None)
    tallies.put(a_tally("t", 0))

    def judge(line: int) -> None:
        later = outcome_in_time(lambda: tallies.put(a_tally("later", line)))
        assert later == "done", f"after line {line}"
        assert other.collection(Tally).get("later") == a_tally("later", line)

    def reading(line: int) -> bool:
        other.collection(Tally).put(a_tally("news", line))
        return interrupted(line, lambda: (tallies.get("t"), tallies.count()))

    line = 1
    while reading(line):
        judge(line)
        line += 1
    assert line > 10
    other.close()
    store.close()


def test_a_close_that_is_interrupted_at_any_line_frees_the_directory(
    tmp_path: Path,
) -> None:
    def work(line: int) -> None:
        JsonStore(SCHEMA, tmp_path, checkpoint_interval=None, lock_timeout=2).close()

    def judge(line: int) -> None:
        def once_more() -> None:
            with JsonStore(
                SCHEMA, tmp_path, checkpoint_interval=None, lock_timeout=5
            ) as again:
                again.collection(Tally).put(a_tally("t", line))

        assert outcome_in_time(once_more) == "done", f"after line {line}"

    assert through_all_lines(work, judge) > 20


def hold(report: Report, directory: Path) -> None:
    """Hold the commit lock of a directory for a while."""
    lock = FlockLock(directory / ".pend-storage" / "lock")
    with lock.held(5):
        report("held")
        time.sleep(1.5)


def test_a_wait_that_is_interrupted_locks_nobody_out(
    store: JsonStore, tmp_path: Path
) -> None:
    tallies = store.collection(Tally)
    tallies.put(a_tally("t", 0))
    before = signal.signal(signal.SIGALRM, late)
    try:
        with Child(hold, tmp_path) as holder:
            assert holder.wait_for_reports(1) == ("held",)
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(TimeIsUp):
                tallies.put(a_tally("given up", 1))
            holder.finish()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    tallies.put(a_tally("own", 1))
    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as other:
        other.collection(Tally).put(a_tally("other", 1))
        assert other.collection(Tally).get("given up") is None
    store.close()


# -- Ctrl-C, where it is the only thing that interrupts --------------------------------------


def by_itself(report: Report, directory: Path) -> None:
    """The thread that commits and reads: the main one, unless another signal has a handler."""
    store = JsonStore(SCHEMA, directory, checkpoint_interval=None)
    store.collection(Tally).put(a_tally("t", 0))  # how quick the disk is
    engine, main = store._session.engine, threading.get_ident()
    assert engine is not None
    engine._is_quick = True
    for _ in range(2):
        report(engine.submit(lambda _: threading.get_ident()) == main)
        report(engine.read_state(lambda _: threading.get_ident()) == main)
        signal.signal(signal.SIGUSR1, late)
    store.close()


def test_the_main_thread_commits_by_itself_where_only_ctrl_c_can_interrupt(
    tmp_path: Path,
) -> None:
    with Child(by_itself, tmp_path) as child:
        assert child.finish().reports == (True, True, False, False)


def ctrl_c_at_each_line(report: Report, directory: Path) -> None:
    store = JsonStore(SCHEMA, directory, checkpoint_interval=None, lock_timeout=2)
    other = JsonStore(SCHEMA, directory, checkpoint_interval=None)
    line = n = 0

    def work() -> None:
        store.collection(Tally).put(a_tally("t", line))
        store.collection(Tally).count()

    work()
    while True:
        line += 1
        engine = store._session.engine
        assert engine is not None
        engine._is_quick = True
        if not interrupted_at(line, work):
            break
        later = outcome_in_time(partial(put, store, "later", line, {}))
        found = other.collection(Tally).get("later")
        if later != "done" or found is None or found.value != line:
            report(f"after line {line}: {later}, {found}")
        n += 1
    report(n)
    other.close()
    store.close()


def test_ctrl_c_at_any_line_stops_nobody(tmp_path: Path) -> None:
    with Child(ctrl_c_at_each_line, tmp_path) as child:
        *told, lines = child.finish().reports

    assert not told
    assert lines > 100


def ctrl_c_in_waits(report: Report, directory: Path) -> None:
    """Waits for a slow disk, and for another process, end at once."""
    store = JsonStore(SCHEMA, directory, checkpoint_interval=None, lock_timeout=300)
    put(store, "t", 0, {})
    go_on, main = threading.Event(), threading.get_ident()
    really = vars(journal)["sync"]
    engine = store._session.engine
    assert engine is not None

    def slow(fd: int) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        assert go_on.wait(SLACK)
        really(fd)

    for is_quick in (False, True):
        engine._is_quick = is_quick
        lock = FlockLock(directory / ".pend-storage" / "lock")
        with lock.held(5):
            threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
            try:
                put(store, "t", 1, {})
            except KeyboardInterrupt:
                report("waited for the lock")
        lock.close()
    engine._is_quick = False
    journal.sync = slow  # type: ignore[attr-defined]
    try:
        put(store, "t", 2, {})
    except KeyboardInterrupt:
        report(go_on.is_set())
    journal.sync = really  # type: ignore[attr-defined]
    go_on.set()
    put(store, "t", 3, {})
    store.close()


def test_ctrl_c_ends_a_wait_for_a_lock_or_a_slow_disk(tmp_path: Path) -> None:
    with Child(ctrl_c_in_waits, tmp_path) as child:
        assert child.finish().reports == (
            "waited for the lock",
            "waited for the lock",
            False,
        )


def slow_disk(report: Report, directory: Path) -> None:
    """The duration of a sync decides which thread makes the next commit."""
    store = JsonStore(SCHEMA, directory, checkpoint_interval=None)
    engine, seconds = store._session.engine, 0.0
    really = vars(engine_module)["monotonic"]
    assert engine is not None
    report(engine._is_quick)
    times = itertools.count()
    engine_module.monotonic = lambda: next(times) * seconds  # type: ignore[attr-defined]
    for seconds in (0.009, 0.011, 0.009):  # noqa: B007 - the clock reads it
        put(store, "t", 1, {})
        report(engine._is_quick)
    engine_module.monotonic = really  # type: ignore[attr-defined]
    store.close()


def test_a_disk_that_is_slow_is_waited_for_by_a_helper(tmp_path: Path) -> None:
    with Child(slow_disk, tmp_path) as child:
        assert child.finish().reports == (False, True, False, True)
