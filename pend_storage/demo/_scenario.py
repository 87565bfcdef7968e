"""Scenario of the demo: all four phases, back and forward, under constant load."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from pend_storage.cli._output import seconds
from pend_storage.demo._workers import Workers
from pend_storage.errors import StoreUnavailable
from pend_storage.phases import Phase

if TYPE_CHECKING:
    from pend_storage.backfill import BackfillReport
    from pend_storage.dualwrite import DualWriteStore
    from pend_storage.flags import FlagSource
    from pend_storage.testing.servers import EmbeddedPostgres

__all__ = ["Act", "Scenario"]

Act: TypeAlias = tuple[str, Callable[[], str]]
"""Title of an act, and the function that performs it and returns its result."""

_WRITERS: Final = 3
_READERS: Final = 2
_TRAFFIC: Final = 2.0
"""Seconds of traffic after every change."""
_OUTAGE: Final = 3.0
_CATCHING_UP: Final = 60.0
_ACTOR: Final = "the demo"
_ACCEPTED: Final = ("quarantine", "backup")
"""Blockers that the demo accepts; a production environment should not."""


@dataclass
class Scenario:
    """Acts of the demo, in order, on one pair of stores."""

    store: DualWriteStore
    flag: FlagSource
    server: EmbeddedPostgres
    workers: Workers
    pace: float = 1.0
    """Factor for the pauses between acts: 1 for people, less for tests."""
    copied: BackfillReport | None = None

    def acts(self) -> Sequence[Act]:
        """Return all acts in order."""
        return (
            (f"{_WRITERS} writers and {_READERS} readers begin", self._begin),
            ("switch to parallel, and copy what was there before", self._attach),
            ("kill -9 one of the writers; another one begins", self._kill),
            ("the secondary, PostgreSQL, crashes and stays away", self._outage),
            ("compare every record; switch to postgres-primary", self._swap),
            ("restart PostgreSQL, which is the primary now", self._restart),
            (
                "compare every record again; switch to postgres-only",
                self._switch_to_postgres_only,
            ),
            ("roll all the way back to json-only", self._roll_back),
            ("and go forward again, to postgres-primary", self._forward),
            ("the clients end", self._end),
        )

    def _begin(self) -> str:
        for _ in range(_WRITERS):
            self.workers.start("writer")
        for _ in range(_READERS):
            self.workers.start("reader")
        self._run_traffic()
        return f"phase {self.store.phase}"

    def _attach(self) -> str:
        self._switch(Phase.PARALLEL)
        copied: BackfillReport = self.store.backfill()
        self.copied = copied
        self._run_traffic()
        return f"{copied.rows:,} records copied in {seconds(copied.seconds)}"

    def _kill(self) -> str:
        self.workers.kill_a_writer()
        self.workers.start("writer")
        self._run_traffic()
        return "no cleanup was necessary"

    def _outage(self) -> str:
        begun = time.monotonic()
        self.server.kill()
        time.sleep(_OUTAGE * self.pace)
        behind = self.store.lag().commits
        self.server.start()
        gone = time.monotonic() - begun
        self._await_secondary()
        return f"gone for {seconds(gone)}, {behind:,} commits behind, caught up"

    def _swap(self) -> str:
        return f"{self._validate()}; {self._switch(Phase.POSTGRES_PRIMARY)}"

    def _restart(self) -> str:
        begun = time.monotonic()
        self.server.restart()
        gone = time.monotonic() - begun
        self._run_traffic()
        return f"gone for {seconds(gone)}"

    def _switch_to_postgres_only(self) -> str:
        compared = self._validate()
        self._switch(Phase.POSTGRES_ONLY)
        return compared

    def _roll_back(self) -> str:
        return self._switch(Phase.JSON_ONLY)

    def _forward(self) -> str:
        self._switch(Phase.PARALLEL)
        self.store.backfill()
        return f"{self._validate()}; {self._switch(Phase.POSTGRES_PRIMARY)}"

    def _end(self) -> str:
        self.workers.stop()
        self.store.catch_up()
        return "both stores are still"

    # -- steps that acts share ----------------------------------------------------------

    def _switch(self, phase: Phase) -> str:
        # The flag first, so that it never names a phase that was left.
        self.flag.write(phase, by=_ACTOR)
        report = self.store.switch(phase, accept=_ACCEPTED, by=_ACTOR)
        self._run_traffic()
        return f"writes waited {seconds(report.pause)}"

    def _validate(self) -> str:
        self._await_secondary()
        report = self.store.validate()
        return f"{report.checked:,} compared, {report.found} differ"

    def _run_traffic(self) -> None:
        time.sleep(_TRAFFIC * self.pace)

    def _await_secondary(self) -> None:
        """Wait until the secondary is up and its lag is below 100 commits.

        Raises:
            StoreUnavailable: the secondary did not catch up within 60 s.
        """
        deadline = time.monotonic() + _CATCHING_UP
        while time.monotonic() < deadline:
            lag = self.store.lag()
            if lag.secondary_up and lag.commits < 100:  # noqa: PLR2004 - clients go on
                return
            time.sleep(0.1)
        raise StoreUnavailable("the secondary does not catch up", store="the demo")
