"""Through all four phases, back, and forward again, while clients never stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from pend_storage.cli._output import seconds
from pend_storage.demo._workers import Crew
from pend_storage.errors import StoreUnavailable
from pend_storage.phases import Phase

if TYPE_CHECKING:
    from pend_storage.backfill import BackfillReport
    from pend_storage.dualwrite import DualWriteStore
    from pend_storage.flags import FlagSource
    from pend_storage.testing.servers import EmbeddedPostgres

__all__ = ["Act", "Walk"]

Act: TypeAlias = tuple[str, Callable[[], str]]
"""What happens, and what does it: gives what came of it."""

_WRITERS: Final = 3
_READERS: Final = 2
_A_WHILE: Final = 2.0
"""Seconds of traffic after every change."""
_OUTAGE: Final = 3.0
_CATCHING_UP: Final = 60.0
_WHO: Final = "the demo"
_ACCEPTED: Final = ("quarantine", "backup")
"""Blockers that a demo lets pass; a production should not."""


@dataclass
class Walk:
    """The play, act by act."""

    store: DualWriteStore
    flag: FlagSource
    server: EmbeddedPostgres
    crew: Crew
    pace: float = 1.0
    """How long the pauses between the acts are: 1 for people, less for tests."""
    copied: BackfillReport | None = None

    def acts(self) -> Sequence[Act]:
        """All of them, in order."""
        return (
            (f"{_WRITERS} writers and {_READERS} readers begin", self._begin),
            ("switch to parallel, and copy what was there before", self._attach),
            ("kill -9 one of the writers; another one begins", self._kill),
            ("the secondary, PostgreSQL, crashes and stays away", self._outage),
            ("compare every record; switch to postgres-primary", self._swap),
            ("restart PostgreSQL, which is the primary now", self._restart),
            ("compare every record again; switch to postgres-only", self._leave_json),
            ("roll all the way back to json-only", self._roll_back),
            ("and go forward again, to postgres-primary", self._forward),
            ("the clients end", self._end),
        )

    def _begin(self) -> str:
        for _ in range(_WRITERS):
            self.crew.start("writer")
        for _ in range(_READERS):
            self.crew.start("reader")
        self._let_them_work()
        return f"phase {self.store.phase}"

    def _attach(self) -> str:
        self._switch(Phase.PARALLEL)
        copied: BackfillReport = self.store.backfill()
        self.copied = copied
        self._let_them_work()
        return f"{copied.rows:,} records copied in {seconds(copied.seconds)}"

    def _kill(self) -> str:
        self.crew.kill_a_writer()
        self.crew.start("writer")
        self._let_them_work()
        return "nobody had to clean up"

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
        self._let_them_work()
        return f"gone for {seconds(gone)}"

    def _leave_json(self) -> str:
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
        self.crew.stop()
        self.store.catch_up()
        return "both stores are still"

    # -- what acts are made of ----------------------------------------------------------

    def _switch(self, phase: Phase) -> str:
        self.flag.write(phase, by=_WHO)
        report = self.store.switch(phase, accept=_ACCEPTED, by=_WHO)
        self._let_them_work()
        return f"writes waited {seconds(report.pause)}"

    def _validate(self) -> str:
        self._await_secondary()
        report = self.store.validate()
        return f"{report.checked:,} compared, {report.found} differ"

    def _let_them_work(self) -> None:
        time.sleep(_A_WHILE * self.pace)

    def _await_secondary(self) -> None:
        """Wait until the secondary is there, and has nearly everything.

        Raises:
            StoreUnavailable: it does not come so far.
        """
        deadline = time.monotonic() + _CATCHING_UP
        while time.monotonic() < deadline:
            lag = self.store.lag()
            if lag.secondary_up and lag.commits < 100:  # noqa: PLR2004 - clients go on
                return
            time.sleep(0.1)
        raise StoreUnavailable("the secondary does not catch up", store="the demo")
