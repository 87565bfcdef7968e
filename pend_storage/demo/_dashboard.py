"""Dashboard of the running demo: live on a terminal, else one line for each act."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from pend_storage.cli._output import Output, seconds, visible
from pend_storage.demo._workers import Workers
from pend_storage.errors import PendStorageError
from pend_storage.phases import Phase

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

    from pend_storage.demo._scenario import Act
    from pend_storage.dualwrite import DualWriteStore, Lag

__all__ = ["Dashboard"]

_FRAMES: Final = 4
"""Pictures a second."""


@dataclass
class _ActProgress:
    """Progress of one act of the scenario, finished or still running."""

    title: str
    begun: float
    """Monotonic time in seconds."""
    took: float | None = None
    """Seconds; None while the act runs."""
    result: str = ""


class _CallCounts(NamedTuple):
    """Calls of all clients up to one moment, from which rates are computed."""

    at: float
    """Monotonic time in seconds."""
    writes: int
    reads: int

    def rate_since(self, before: _CallCounts) -> tuple[float, float]:
        """Return writes and reads per second since an earlier sample."""
        span = self.at - before.at
        return (self.writes - before.writes) / span, (self.reads - before.reads) / span


@dataclass
class Dashboard:
    """Live dashboard of clients and stores: phase, rates, lag, divergences, acts."""

    out: Output
    store: DualWriteStore
    workers: Workers
    _acts: list[_ActProgress] = field(default_factory=list)
    _last_counts: _CallCounts = field(
        default_factory=lambda: _CallCounts(time.monotonic(), 0, 0)
    )
    _rate: tuple[float, float] = (0.0, 0.0)
    _phase: Phase | None = None
    _lag: Lag | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Display the dashboard during the block; its last state stays visible."""
        with ExitStack() as stack:
            if self.out.is_terminal:
                from rich.live import Live

                stack.enter_context(self._refreshed())
                stack.enter_context(Live(self, refresh_per_second=_FRAMES))
            yield

    @contextmanager
    def _refreshed(self) -> Iterator[None]:
        """Refresh the figures in a background thread during the block."""
        # Not in the thread that renders: a store that is down blocks its caller, and
        # must not stop the picture.
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(1 / _FRAMES):
                self._refresh()

        thread = threading.Thread(target=watch, name="demo-screen", daemon=True)
        thread.start()
        yield
        ended.set()
        thread.join()

    def run(self, act: Act) -> None:
        """Run an act, and show that it is under way, then its result and duration."""
        title, work = act
        done = _ActProgress(title, time.monotonic())
        self._acts.append(done)
        done.result = work()
        done.took = time.monotonic() - done.begun
        if not self.out.is_terminal:
            self.out.line(f"   {title}: {done.result} ({seconds(done.took)})")

    # -- observation ----------------------------------------------------------------

    def _refresh(self) -> None:
        """Refresh phase, lag and rates; a figure that cannot be read stays as it was."""
        counts = _CallCounts(
            time.monotonic(),
            self.workers.tally("writer").calls,
            self.workers.tally("reader").calls,
        )
        # Rates over less than a second jump too much to be read.
        if counts.at - self._last_counts.at >= 1.0:
            self._rate, self._last_counts = counts.rate_since(self._last_counts), counts
        try:
            self._phase = self.store.phase
            self._lag = self.store.lag()
        except PendStorageError:
            return

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Render one frame; called by rich."""
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

        total, lag = self.workers.tally(), self._lag
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
                visible(act.title),
                visible(act.result),
                seconds(took),
                style="yellow" if running else None,
            )
        return table
