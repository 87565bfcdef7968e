"""The emergency procedure: back to JSON alone, from whatever phase, in five steps.

Each step looks at what is before it does anything, so that the procedure can be
interrupted anywhere and called again: it then passes quickly over what is done.

JSON gets what it lacks before it takes over, and it takes over by a switch as any other,
so nothing that was acknowledged is lost, and writers wait for milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from pend_storage import crashpoints
from pend_storage.config import Settings
from pend_storage.dualwrite.replication_position import ReplicationPosition
from pend_storage.dualwrite.switch_history import current_actor
from pend_storage.errors import ConfigError, StoreUnavailable, SwitchRefused
from pend_storage.factory import ConfiguredPair, open_pair
from pend_storage.flags import FlagSource, flag_source
from pend_storage.operations.flag import change_flag, read_flag, require_changeable
from pend_storage.operations.stages import Stage, silent
from pend_storage.phases import Phase, Role

__all__ = [
    "NAMES",
    "POSTGRES_FIRST",
    "Rollback",
    "StepReport",
    "Tell",
    "require_primary",
    "roll_back",
]

NAMES: Final = (
    "stop new database writes",
    "restore JSON operation",
    "sync missing data",
    "validate",
    "resume",
)
POSTGRES_FIRST: Final = (Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY)

_STEP_DONE: Final = tuple(
    crashpoints.declare(
        f"rollback.{word}", f"step {number} is done, the next is not begun"
    )
    for number, word in enumerate(
        ("stopped", "restored", "synced", "validated", "resumed"), 1
    )
)
_CAUGHT_UP: Final = crashpoints.declare(
    "rollback.caught-up", "JSON has everything, and is not primary yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step that was made."""

    number: int
    name: str
    at: datetime
    """When it ended, UTC."""
    seconds: float
    result: str
    """What it did, in a sentence."""
    ok: bool = True


Tell: TypeAlias = Callable[[StepReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """The whole procedure."""

    before: Phase
    after: Phase
    steps: tuple[StepReport, ...]
    divergences: int | None
    """Records that the validation found to differ; None: nothing was compared."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it came to its end."""
        return self.after is Phase.JSON_ONLY and all(step.ok for step in self.steps)


class _Stopped(Exception):
    """A step found a reason not to go on."""


def roll_back(
    settings: Settings,
    *,
    quick: bool = False,
    timeout: float = 300.0,
    tell: Tell = lambda _: None,
    stage: Stage = silent,
) -> Rollback:
    """Go back to JSON alone.

    Args:
        settings: of the environment; both sides must be configured.
        quick: without the two comparisons of all records.
        timeout: seconds that one change of phase may take.
        tell: told about each step that is done.
        stage: told about the work within a step.

    Raises:
        ConfigError: the servers follow a flag that cannot be changed from here.
        StoreUnavailable: PostgreSQL is primary and out of reach, so that going on would
            lose what only it has; nothing was changed.
        SwitchTimeout: a switch did not finish in time; nothing is lost, call it again.
    """
    started = time.monotonic()
    source = flag_source(settings)
    try:
        with open_pair(settings) as pair:
            work = _Procedure(
                settings,
                pair,
                source.remembering(pair),
                stage,
                quick=quick,
                timeout=timeout,
            )
            before = work.before
            steps = work.run(tell)
            return Rollback(
                before=before,
                after=pair.phase,
                steps=steps,
                divergences=work.divergences,
                seconds=time.monotonic() - started,
            )
    finally:
        source.close()


class _Procedure:
    """The five steps."""

    def __init__(
        self,
        settings: Settings,
        pair: ConfiguredPair,
        source: FlagSource,
        stage: Stage,
        *,
        quick: bool,
        timeout: float,
    ) -> None:
        self._pair = pair
        self._source = source
        self._stage = stage
        self._is_quick = quick
        self._timeout = timeout
        self._by = f"rollback by {current_actor()}"
        self.divergences: int | None = None
        require_primary(pair)
        pair.recover()
        self.before = pair.phase
        self._flag = read_flag(source)
        require_changeable(settings, self._flag, Phase.JSON_ONLY)

    def run(self, tell: Tell) -> tuple[StepReport, ...]:
        """All of them, or as many as can be made."""
        done: list[StepReport] = []
        steps = (
            self._stop,
            self._restore,
            self._sync,
            self._validate,
            self._resume,
        )
        for number, step in enumerate(steps, 1):
            started, ok = time.monotonic(), True
            try:
                result = step()
            except _Stopped as reason:
                result, ok = str(reason), False
            report = StepReport(
                number=number,
                name=NAMES[number - 1],
                at=datetime.now(UTC),
                seconds=time.monotonic() - started,
                result=result,
                ok=ok,
            )
            tell(report)
            done.append(report)
            if not ok:
                break
            _STEP_DONE[number - 1]()
        return tuple(done)

    def _stop(self) -> str:
        """From now on everybody heads for JSON."""
        changed = change_flag(
            self._pair, self._source, self._flag, Phase.JSON_ONLY, by=self._by
        )
        if changed.note:
            said = changed.note
        elif changed.written:
            said = f"{changed.place} says {Phase.JSON_ONLY.value} now"
        else:
            said = f"{changed.place} says {Phase.JSON_ONLY.value} already"
        if self._pair.phase in POSTGRES_FIRST:
            return (
                f"{said}; PostgreSQL takes its last writes until JSON has all (step 3)"
            )
        return f"{said}; PostgreSQL takes no writes of its own"

    def _restore(self) -> str:
        """Have JSON take part again."""
        if self._pair.phase is Phase.POSTGRES_ONLY:
            with self._stage("bringing JSON up to date"):
                self._go_back(Phase.POSTGRES_PRIMARY)
            return "JSON follows PostgreSQL again"
        if self._pair.phase is Phase.POSTGRES_PRIMARY:
            return "JSON follows PostgreSQL already"
        return "JSON is primary already"

    def _sync(self) -> str:
        """Bring to JSON what it lacks; then it takes over."""
        if self._pair.phase not in POSTGRES_FIRST:
            return "JSON was primary, and has everything"
        with self._stage("bringing missing data to JSON"):
            commits = self._pair.catch_up()
            repaired = 0 if self._is_quick else self._repair()
        _CAUGHT_UP()
        pause = self._go_back(Phase.PARALLEL)
        return (
            f"{commits:,} commits and {repaired:,} repaired records were brought to JSON; "
            f"JSON is primary now; writes waited {pause * 1000:.0f} ms"
        )

    def _repair(self) -> int:
        """Make JSON equal to PostgreSQL, which is still primary."""
        try:
            found = self._pair.repair().repairs
        except ConfigError:
            if not self._is_alone():
                raise
            return 0  # a server that follows the flag has made all the switches already
        return sum(repair.action in {"write", "delete"} for repair in found)

    def _validate(self) -> str:
        """Compare both stores while PostgreSQL still follows."""
        self._pair.json.checkpoint()
        written = "the legacy files have every record"
        if self._is_quick:
            return f"{written}; nothing was compared (--quick)"
        if self._is_alone():
            return f"{written}; PostgreSQL is detached, and was not compared"
        if not self._pair.roles().is_whole:
            return f"{written}; PostgreSQL is out of reach, and was not compared"
        try:
            with self._stage("comparing records") as progress:
                report = self._pair.validate(progress=progress)
        except ConfigError:
            if not self._is_alone():
                raise
            return f"{written}; PostgreSQL was detached meanwhile, and was not compared"
        self.divergences = report.found
        if report.found:
            raise _Stopped(
                f"{report.found:,} of {report.checked:,} records differ. JSON is primary, "
                "and PostgreSQL stays attached so that you can look: pend-storage repair "
                "--dry-run. To finish all the same: pend-storage rollback --quick"
            )
        return f"{written}; {report.checked:,} records compared, all equal"

    def _resume(self) -> str:
        """PostgreSQL takes no part any more."""
        self._go_back(Phase.JSON_ONLY)
        if self._pair.roles().is_whole:
            return "JSON works alone; PostgreSQL is detached"
        return "JSON works alone; PostgreSQL is detached as soon as it is back"

    def _go_back(self, phase: Phase) -> float:
        """Go back to a phase; gives the seconds for which writes waited.

        Servers that follow the flag are on the same way, and may be ahead: a switch
        forward to that phase is none of ours.
        """
        if not self._is_after(phase):
            return 0.0
        try:
            done = self._pair.switch(phase, timeout=self._timeout, by=self._by)
        except SwitchRefused:
            if self._is_after(phase):
                raise
            return 0.0
        return done.pause

    def _is_alone(self) -> bool:
        return self._pair.phase is Phase.JSON_ONLY

    def _is_after(self, phase: Phase) -> bool:
        return self._pair.phase.position > phase.position


def require_primary(pair: ConfiguredPair) -> None:
    """See that the store that holds the truth is there.

    Raises:
        StoreUnavailable: it is not.
    """
    view = pair.roles()
    if view.is_whole or (view.json is not None and view.json.role is Role.PRIMARY):
        return
    mark = None if view.json is None else ReplicationPosition.load(pair.json)
    known = "what JSON has of it is not known"
    if mark is not None:
        known = f"JSON has what it acknowledged until {mark.committed_at or 'JSON began to follow'}"
    raise StoreUnavailable(
        f"it is primary, or may be, and cannot be reached; {known}, and whatever came "
        "after that would be lost. Bring it back and call this again. If it is lost for "
        "good, end every server, and let JSON take over with what it has: "
        "pend-storage doctor --elect json",
        store="PostgreSQL",
    )
