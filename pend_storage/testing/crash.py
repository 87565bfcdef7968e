"""Processes that really die, and what they reported before.

A target is a function in a module. It runs in a process of its own, which is not forked
from yours, but from one that has only imported the library, and gets a function ``report`` and the arguments given here. What it reports
arrives even if it is killed in the next instant: report what was acknowledged, kill the
process, open the store again, and look.

.. code-block:: python

    def write(report, directory):
        with JsonStore(SCHEMA, directory) as store:
            for n in itertools.count():
                store.collection(Tally).put(Tally(name="t", value=n))
                report(n)

    outcome = run_until_crash(write, directory, point="journal.written", skip=3)
    assert stored(directory) in {outcome.reports[-1], outcome.reports[-1] + 1}

No child outlives its parent: it dies when its standard input ends.
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
"""Called by a target to tell its parent something, by value."""

_CHILD: Final = "pend_storage.testing.child:main"
_PATIENCE: Final = 60.0
"""Seconds after which a child is taken to hang."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended."""

    reports: tuple[Any, ...]
    """All that it reported, in order."""
    code: int
    """Its exit code; minus the number of the signal that killed it."""
    errors: str
    """What it wrote to standard error."""

    @property
    def killed(self) -> bool:
        """Whether it was killed, rather than came to an end."""
        return self.code == -signal.SIGKILL


class Child(Generic[P]):
    """A process that runs one function. Use ``with``, or end it by finish or kill."""

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
        self._news = threading.Condition()
        self._outcome: Outcome | None = None

    def at(self, point: str, *, skip: int = 0) -> Self:
        """Let it kill itself at a crash point, after so many harmless passes."""
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
        """Number of the process, which must have been started."""
        return self._started().pid

    def start(self) -> None:
        """Start the process; it runs by itself."""
        payload = pickle.dumps((self._target, self._arguments))
        read_end, write_end = os.pipe()
        stdin_end, ours = os.pipe()
        self._stdin = os.fdopen(ours, "wb")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        try:
            path = self._path()
            environment = {"PYTHONPATH": os.pathsep.join(path), **self._environment}
            self._process = fork_server().start(
                _CHILD,
                ["fd:3"],
                descriptors=[stdin_end, 1, self._errors.fileno(), write_end],
                environment={**os.environ, **environment},
                path=path,
            )
        finally:
            os.close(write_end)
            os.close(stdin_end)
        self._reader = threading.Thread(
            target=self._read, args=(read_end,), daemon=True
        )
        self._reader.start()
        try:
            self._stdin.write(len(payload).to_bytes(8) + payload)
            self._stdin.flush()  # and left open: its end would be the child's
        except BrokenPipeError:
            pass  # it died at once; its outcome tells

    def wait_for_reports(self, count: int = 1) -> tuple[Any, ...]:
        """Wait until it has reported so often, or has ended; gives what it reported."""
        reader = self._reader
        assert reader is not None, "the child was not started"
        with self._news:
            enough = self._news.wait_for(
                lambda: len(self._reports) >= count or not reader.is_alive(), _PATIENCE
            )
        assert enough, f"the child reported nothing new for {_PATIENCE:g} s"
        return tuple(self._reports)

    def wait(self) -> Outcome:
        """Wait until it has ended, however.

        Raises:
            AssertionError: it hangs, and was killed.
        """
        try:
            self._started().wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            outcome = self.kill()
            raise AssertionError(f"the child hung: {outcome}") from None
        return self.kill()

    def finish(self) -> Outcome:
        """Wait until it has come to a good end.

        Raises:
            AssertionError: it failed or was killed.
        """
        outcome = self.wait()
        assert outcome.code == 0, f"the child failed ({outcome.code}): {outcome.errors}"
        return outcome

    def kill(self) -> Outcome:
        """Kill it if it still runs; gives how it ended."""
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
                with self._news:
                    self._reports.append(pickle.loads(frame))  # noqa: S301 - our child
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _path(self) -> list[str]:
        """Where the child finds modules: where we do, and where the target stands."""
        roots = [str(root) for root in _roots([self._target, self._arguments])]
        return list(dict.fromkeys([*(p for p in sys.path if p), *roots]))


def _roots(values: Iterable[Any]) -> Iterable[Path]:
    """The folders from which the modules of these functions can be imported.

    pytest imports test modules without making them importable for others.
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
            yield from _roots(value)
        elif isinstance(value, dict):
            yield from _roots(list(value.values()))


def run_until_crash(
    target: Callable[..., None], *args: Any, point: str, skip: int = 0
) -> Outcome:
    """Run a function in a process that kills itself at a crash point.

    Args:
        target: gets ``report`` and the arguments.
        args: must pickle.
        point: name of a point that :mod:`pend_storage.crashpoints` knows.
        skip: how often it may pass the point before.

    Raises:
        AssertionError: the process ended otherwise, or never reached the point.
    """
    with Child(target, *args).at(point, skip=skip) as child:
        outcome = child.wait()
    assert outcome.killed, (
        f"the child was to die at {point} after {skip} passes, but ended with "
        f"{outcome.code}: {outcome.errors or 'it never got there.'}"
    )
    return outcome


def kill_at_random(
    target: Callable[..., None], *args: Any, seed: int, within: float = 0.5
) -> Outcome:
    """Run a function in a process that is killed at a random moment.

    Args:
        target: gets ``report`` and the arguments; it should go on for ever.
        args: must pickle.
        seed: decides the moment, as far as a clock can.
        within: at most so many seconds after its first report.

    Returns:
        The outcome; ``killed`` is False where it came to an end before.

    Raises:
        AssertionError: it failed by itself.
    """
    delay = random.Random(seed).uniform(0, within)  # noqa: S311 - no secret
    with Child(target, *args) as child:
        child.wait_for_reports()
        time.sleep(delay)
        outcome = child.kill()
    assert outcome.killed or outcome.code == 0, f"the child failed: {outcome.errors}"
    return outcome
