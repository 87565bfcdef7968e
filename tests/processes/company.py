"""The processes of a test as long as it lasts: started, killed, replaced, put to sleep."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any, Final, TypeAlias

from pend_storage.phases import Phase
from pend_storage.testing import Child

from .places import PATIENCE, Place
from .workers import conduct, read, write

__all__ = ["Company", "Conductor", "asleep", "wait_until"]

Work: TypeAlias = Callable[..., None]
_NUMBERS: Final = count(1)


def wait_until(
    is_so: Callable[[], bool], what: str, patience: float = PATIENCE
) -> None:
    """Look again and again, for so long at most."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(0.02)


@contextmanager
def asleep(pid: int) -> Iterator[None]:
    """Stop a process of ours, and let it go on afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: is_stopped(pid), f"process {pid} stops")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Return True if a process has been stopped by a signal."""
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return status.split()[0] == "T"


@dataclass
class _Member:
    """One of them, whichever process it is by now."""

    work: Work
    place: Place
    child: Child[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.child = Child(self.work, self.place, next(_NUMBERS))
        self.child.start()


@dataclass
class Company:
    """Writers and readers; one that is killed is replaced."""

    places: Sequence[Place]
    """One place, by different lines: they take turns."""
    kills: int = 0
    _members: list[_Member] = field(default_factory=list)

    def hire(self, writers: int, readers: int) -> None:
        """Start so many, and wait until all of them are at work."""
        self.places[0].histories.mkdir()
        all_work = (*[write] * writers, *[read] * readers)
        for work, place in zip(all_work, cycle(self.places), strict=False):
            self._members.append(_Member(work, place))
        for member in self._members:
            ready = member.child.wait_for_reports(1)
            assert ready == ("ready",), member.child.wait()

    def kill(self, which: int) -> None:
        """Kill one in the middle of whatever it does, and start another in its place."""
        member = self._members[which % len(self._members)]
        outcome = member.child.kill()
        assert outcome.killed, outcome.errors
        self.kills += 1
        member.begin()

    def pid(self, which: int) -> int:
        return self._members[which % len(self._members)].child.pid

    def finish(self) -> list[Any]:
        """Wait until all have come to a good end; gives their last reports."""
        return [member.child.finish().reports[-1] for member in self._members]

    def close(self) -> None:
        for member in self._members:
            member.child.kill()


class Conductor:
    """The process that changes phases; killed, the next one goes on with the rest."""

    def __init__(self, place: Place, phases: Sequence[Phase]) -> None:
        self._place = place
        self._phases = tuple(phases)
        self._told: list[tuple[Phase, str, float]] = []
        self._done = 0
        self.kills = 0
        self._child = self._start()

    def _start(self) -> Child[Any]:
        rest = self._phases[self._done :]
        child = Child(conduct, self._place, rest, next(_NUMBERS))
        child.start()
        return child

    def told(self) -> list[tuple[Phase, str, float]]:
        """Return begin and end of each change of phase so far."""
        return [*self._told, *self._child.wait_for_reports(0)]

    @property
    def done(self) -> int:
        """Return the number of changes made so far."""
        return sum(what == "end" for _, what, _ in self.told())

    def kill(self) -> None:
        """Kill it, in the middle of a switch or between two, and replace it."""
        outcome = self._child.kill()
        assert outcome.killed or outcome.code == 0, outcome.errors
        self._told += outcome.reports
        self._done = sum(what == "end" for _, what, _ in self._told)
        self.kills += 1
        self._child = self._start()

    def has_got_on(self) -> bool:
        """Return True if the present process has made a change, and is not at the end yet."""
        return self._done < self.done < len(self._phases)

    def has_ended(self) -> bool:
        return self.done == len(self._phases)

    def finish(self) -> None:
        self._child.finish()

    def trouble(self) -> str:
        """Return where it got stuck, and its error if it has failed."""
        return f"{self.told()[-3:]} {self._child.kill().errors}"

    def close(self) -> None:
        self._child.kill()
