"""What the demo shows while it runs: a live picture on a terminal, else a line an act."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from pend_storage.cli._output import Output, seconds
from pend_storage.demo._workers import Crew
from pend_storage.errors import PendStorageError
from pend_storage.phases import Phase

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

    from pend_storage.demo._scenario import Act
    from pend_storage.dualwrite import DualWriteStore, Lag

__all__ = ["Screen"]

_FRAMES: Final = 4
"""Pictures a second."""


@dataclass
class _Done:
    """An act that is over, or under way."""

    title: str
    begun: float
    took: float | None = None
    result: str = ""


class _Seen(NamedTuple):
    """How many calls there were at a time."""

    at: float
    writes: int
    reads: int

    def rate_since(self, before: _Seen) -> tuple[float, float]:
        """Writes and reads per second."""
        span = self.at - before.at
        return (self.writes - before.writes) / span, (self.reads - before.reads) / span


@dataclass
class Screen:
    """Watches clients and stores."""

    out: Output
    store: DualWriteStore
    crew: Crew
    _acts: list[_Done] = field(default_factory=list)
    _seen: _Seen = field(default_factory=lambda: _Seen(time.monotonic(), 0, 0))
    _rate: tuple[float, float] = (0.0, 0.0)
    _phase: Phase | None = None
    _lag: Lag | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The picture is there as long as this lasts; its last state stays."""
        with ExitStack() as stack:
            if self.out.is_terminal:
                from rich.live import Live

                stack.enter_context(self._watched())
                stack.enter_context(Live(self, refresh_per_second=_FRAMES))
            yield

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """A thread of its own looks: a store that is down must not stop the picture."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(1 / _FRAMES):
                self._look()

        thread = threading.Thread(target=watch, name="demo-screen", daemon=True)
        thread.start()
        yield
        ended.set()
        thread.join()

    def run(self, act: Act) -> None:
        """Show that an act is under way, do it, and show what came of it."""
        title, work = act
        done = _Done(title, time.monotonic())
        self._acts.append(done)
        done.result = work()
        done.took = time.monotonic() - done.begun
        if not self.out.is_terminal:
            self.out.line(f"   {title}: {done.result} ({seconds(done.took)})")

    # -- looking --------------------------------------------------------------------------

    def _look(self) -> None:
        """Take in the present state; what cannot be asked just now stays as it was."""
        seen = _Seen(
            time.monotonic(),
            self.crew.tally("writer").calls,
            self.crew.tally("reader").calls,
        )
        if seen.at - self._seen.at >= 1.0:
            self._rate, self._seen = seen.rate_since(self._seen), seen
        try:
            self._phase = self.store.phase
            self._lag = self.store.lag()
        except PendStorageError:
            return

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Render it; rich calls this for every frame."""
        del console, options
        yield self._phases()
        yield self._figures()
        yield self._list()

    def _phases(self) -> Text:
        from rich.text import Text

        text = Text("\n")
        for phase in Phase:
            mine = phase is self._phase
            text.append(f" {phase} ", style="bold reverse green" if mine else "dim")
            if phase is not Phase.POSTGRES_ONLY:
                text.append(" > ", style="dim")
        return text

    def _figures(self) -> Table:
        from rich import box
        from rich.table import Table

        total, lag = self.crew.tally(), self._lag
        behind = "-" if lag is None else f"{lag.commits:,} commits"
        if lag is not None and not lag.secondary_up:
            behind += ", secondary down"
        figures = {
            "writes/s": f"{self._rate[0]:,.0f}",
            "reads/s": f"{self._rate[1]:,.0f}",
            "lag": behind,
            "compared reads": f"{total.compared:,}",
            "divergences": f"{total.diverged:,}",
            "failed": f"{total.failed:,}",
        }
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in figures:
            table.add_column(name, justify="right", min_width=9)
        table.add_row(*figures.values())
        return table

    def _list(self) -> Table:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for act in self._acts:
            running = act.took is None
            took = time.monotonic() - act.begun if act.took is None else act.took
            table.add_row(
                "..." if running else "done",
                act.title,
                act.result,
                seconds(took),
                style="yellow" if running else None,
            )
        return table
