"""Crash kit: child processes that are killed, with the reports that they sent before.

A target is a function in a module. It runs in a process of its own, forked from a
server that has only imported the library, and not from yours. It gets a function
``report`` and the arguments given here. A report arrives even if the process is killed
at the next instant: report what was acknowledged, kill the process, open the store
again, and check.

.. code-block:: python

    def write(report, directory):
        with JsonStore(SCHEMA, directory) as store:
            for n in itertools.count():
                store.collection(Tally).put(Tally(name="t", value=n))
                report(n)

    outcome = run_until_crash(write, directory, point="journal.written", skip=3)
    assert stored(directory) in {outcome.reports[-1], outcome.reports[-1] + 1}

No child outlives its parent: it exits when its standard input ends.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import IO, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeAlias

from pend_storage import crashpoints
from pend_storage.testing.child import read_frame
from pend_storage.testing.fork_server import ForkedProcess, fork_server

__all__ = ["Child", "Outcome", "Report", "kill_at_random", "run_until_crash"]

P = ParamSpec("P")
Report: TypeAlias = Callable[[Any], None]
"""Called by a target to send a value to its parent."""

_CHILD: Final = "pend_storage.testing.child:main"
_HANG_TIMEOUT: Final = 60.0
"""Seconds after which a child counts as hung."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a child process: reports, exit code, standard error."""

    reports: tuple[Any, ...]
    """Values that it reported, in order."""
    code: int
    """Exit code; negative: the number of the signal that killed it."""
    errors: str
    """Text on its standard error."""

    @property
    def killed(self) -> bool:
        """Return True if SIGKILL ended it."""
        return self.code == -signal.SIGKILL


class Child(Generic[P]):
    """Child process that runs one function. Use ``with``, or call finish or kill."""

    def __init__(
        self,
        target: Callable[Concatenate[Report, P], None],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        self._target: Callable[..., None] = target
        self._arguments = (args, kwargs)
        self._environment: dict[str, str] = {}
        self._process: ForkedProcess | None = None
        self._stdin: IO[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._reports: list[Any] = []
        self._reported = threading.Condition()
        self._outcome: Outcome | None = None

    def at(self, point: str, *, skip: int = 0) -> Self:
        """Make it kill itself at a crash point.

        Args:
            point: name of the crash point.
            skip: passes of the point before.
        """
        self._environment[crashpoints.VARIABLE] = f"{point}:{skip}"
        return self

    def __enter__(self) -> Self:
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process id; the process must have been started."""
        return self._started().pid

    def start(self) -> None:
        """Start the process; return at once."""
        # By pipe, not by argument: arguments have a limited length.
        payload = pickle.dumps((self._target, self._arguments))
        read_end, write_end = os.pipe()
        stdin_end, ours = os.pipe()
        self._stdin = os.fdopen(ours, "wb")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        try:
            path = self._module_path()
            environment = {"PYTHONPATH": os.pathsep.join(path), **self._environment}
            self._process = fork_server().start(
                _CHILD,
                ["fd:3"],
                descriptors=[stdin_end, 1, self._errors.fileno(), write_end],
                environment={**os.environ, **environment},
                path=path,
            )
        finally:
            # Our copy would keep the pipe open after the child has ended.
            os.close(write_end)
            os.close(stdin_end)
        self._reader = threading.Thread(
            target=self._read, args=(read_end,), daemon=True
        )
        self._reader.start()
        try:
            self._stdin.write(len(payload).to_bytes(8) + payload)
            self._stdin.flush()  # left open: when it ends, the child exits
        except BrokenPipeError:
            pass  # the child died at once; its outcome shows why

    def wait_for_reports(self, count: int = 1) -> tuple[Any, ...]:
        """Wait for a number of reports, or the end; return all reports so far."""
        reader = self._reader
        assert reader is not None, "the child was not started"
        with self._reported:
            enough = self._reported.wait_for(
                lambda: len(self._reports) >= count or not reader.is_alive(),
                _HANG_TIMEOUT,
            )
        assert enough, f"no new report of the child for {_HANG_TIMEOUT:g} s"
        return tuple(self._reports)

    def wait(self) -> Outcome:
        """Wait until the process has ended in any way.

        Raises:
            AssertionError: the process hung, and was killed.
        """
        try:
            self._started().wait(_HANG_TIMEOUT)
        except subprocess.TimeoutExpired:
            outcome = self.kill()
            raise AssertionError(f"the child hung: {outcome}") from None
        return self.kill()

    def finish(self) -> Outcome:
        """Wait for a successful exit.

        Raises:
            AssertionError: the process failed or was killed.
        """
        outcome = self.wait()
        assert outcome.code == 0, f"the child failed ({outcome.code}): {outcome.errors}"
        return outcome

    def kill(self) -> Outcome:
        """Kill the process if it still runs; return its outcome."""
        if self._outcome is None:
            self._outcome = self._reap()
        return self._outcome

    def _reap(self) -> Outcome:
        process, errors = self._started(), self._errors
        process.kill()
        code = process.wait()
        assert self._stdin is not None
        assert self._reader is not None
        assert errors is not None
        self._stdin.close()
        # The reader ends with the pipe; every report sent before the kill has arrived.
        self._reader.join()
        with errors:
            errors.seek(0)
            text = errors.read().decode(errors="replace")
        return Outcome(tuple(self._reports), code, text)

    def _started(self) -> ForkedProcess:
        assert self._process is not None, "the child was not started"
        return self._process

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as pipe:
            while (frame := read_frame(pipe)) is not None:
                with self._reported:
                    self._reports.append(pickle.loads(frame))  # noqa: S301 - our child
                    self._reported.notify_all()
        # Also at the end: wait_for_reports must notice that no more reports come.
        with self._reported:
            self._reported.notify_all()

    def _module_path(self) -> list[str]:
        """Build the child's ``sys.path``: ours, and the folders of the target."""
        roots = [str(root) for root in _import_roots([self._target, self._arguments])]
        return list(dict.fromkeys([*(p for p in sys.path if p), *roots]))


def _import_roots(values: Iterable[Any]) -> Iterable[Path]:
    """Yield the folders from which the modules of functions can be imported.

    pytest imports test modules without making them importable for other processes.
    """
    for value in values:
        if isinstance(value, FunctionType):
            module = sys.modules[value.__module__]
            assert value.__module__ != "__main__", (
                f"move {value} to a module of its own"
            )
            if module.__file__ is not None:
                yield Path(module.__file__).parents[value.__module__.count(".")]
        elif isinstance(value, tuple | list):
            yield from _import_roots(value)
        elif isinstance(value, dict):
            yield from _import_roots(list(value.values()))


def run_until_crash(
    target: Callable[..., None], *args: Any, point: str, skip: int = 0
) -> Outcome:
    """Run a function in a process that kills itself at a crash point.

    Args:
        target: called with ``report`` and the arguments.
        args: must pickle.
        point: name of a crash point, see :mod:`pend_storage.crashpoints`.
        skip: passes of the point before.

    Raises:
        AssertionError: the process ended in another way, or never reached the point.
    """
    with Child(target, *args).at(point, skip=skip) as child:
        outcome = child.wait()
    assert outcome.killed, (
        f"the child did not crash at {point} after {skip} passes: it ended with "
        f"{outcome.code}: {outcome.errors or 'the point was not reached'}"
    )
    return outcome


def kill_at_random(
    target: Callable[..., None], *args: Any, seed: int, within: float = 0.5
) -> Outcome:
    """Run a function in a process that is killed at a random moment.

    Args:
        target: called with ``report`` and the arguments; it should never return.
        args: must pickle.
        seed: determines the moment, as far as a clock allows.
        within: latest moment, in seconds after the first report.

    Returns:
        The outcome; ``killed`` is False if it ended before.

    Raises:
        AssertionError: it failed on its own.
    """
    delay = random.Random(seed).uniform(0, within)  # noqa: S311 - no secret
    with Child(target, *args) as child:
        child.wait_for_reports()
        time.sleep(delay)
        outcome = child.kill()
    assert outcome.killed or outcome.code == 0, f"the child failed: {outcome.errors}"
    return outcome
