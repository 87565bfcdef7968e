"""Emergency rollback: back to JSON alone, from any phase, in five steps.

Each step checks the present state first, so that the procedure can be interrupted
anywhere and called again: steps that are done already end at once.

JSON is caught up before it becomes primary, and it becomes primary by an ordinary switch,
so no acknowledged commit is lost, and writers wait for milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from pend_storage import crashpoints
from pend_storage._audit_record import record_done
from pend_storage._model.attribution import actor, current_actor
from pend_storage._model.records import JSON
from pend_storage.config import Settings
from pend_storage.dualwrite import PassivePair
from pend_storage.errors import ConfigError, SwitchRefused
from pend_storage.factory import ConfiguredPair, open_pair, open_passive
from pend_storage.flags import FlagSource, flag_source
from pend_storage.operations.facts import Flag, read_flag
from pend_storage.operations.jobs import running_job, staged
from pend_storage.operations.phase import (
    change_flag,
    pair_of,
    require_changeable,
    require_primary,
)
from pend_storage.operations.progress import Stage, silent
from pend_storage.phases import Phase

__all__ = [
    "NAMES",
    "PlannedStep",
    "Rollback",
    "RollbackPlan",
    "StepCallback",
    "StepReport",
    "plan_rollback",
    "roll_back",
]

NAMES: Final = (
    "stop new database writes",
    "restore JSON operation",
    "sync missing data",
    "validate",
    "resume",
)
_AGAIN: Final = "Steps that are done stay done: call it again to finish the rollback."
_POSTGRES_FIRST: Final = (Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY)

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
    """Report of one step."""

    number: int
    name: str
    at: datetime
    """Time of its end, UTC."""
    seconds: float
    result: str
    """Result of the step, in a sentence."""
    ok: bool = True


StepCallback: TypeAlias = Callable[[StepReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Report of the whole procedure."""

    before: Phase
    after: Phase
    steps: tuple[StepReport, ...]
    divergences: int | None
    """Records that differ by the validation; None: nothing was compared."""
    seconds: float

    @property
    def ok(self) -> bool:
        """True where the procedure was completed."""
        return self.after is Phase.JSON_ONLY and all(step.ok for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step of a dry run."""

    number: int
    name: str
    what: str
    """Effect of the step, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPlan:
    """Dry run of the procedure, from the present phase."""

    before: Phase
    steps: tuple[PlannedStep, ...]


class _Stopped(Exception):
    """Stop of the procedure in a step; the message is the reason."""


def roll_back(
    settings: Settings,
    *,
    quick: bool = False,
    timeout: float = 300.0,
    on_step: StepCallback = lambda _: None,
    stage: Stage = silent,
    by: str | None = None,
    reason: str | None = None,
) -> Rollback:
    """Roll back to JSON alone; the report is not ``ok`` where a step has stopped it.

    Args:
        settings: of the environment; both stores must be configured.
        quick: without the two comparisons of all records.
        timeout: seconds that one change of phase may take.
        on_step: called with the report of each completed step.
        stage: gets the progress within a step.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; it is in the history of switches.

    Raises:
        ConfigError: the servers follow a flag that cannot be changed from here.
        StoreUnavailable: PostgreSQL is primary and unreachable, so that commits which
            only it has would be lost; nothing was changed.
        SwitchTimeout: a switch did not finish in time; nothing is lost, call it again.
    """
    started = time.monotonic()
    source = flag_source(settings)
    try:
        with (
            open_pair(settings) as pair,
            running_job(pair, "rollback", by=by, reason=reason, again=_AGAIN) as job,
        ):
            # What is written then gets a version above all that the pair has followed.
            flag = source.remembering(pair)
            stages = staged(job, stage)
            work = _Procedure(
                settings, pair, flag, stages, quick=quick, timeout=timeout
            )
            before = work.before
            steps = work.run(on_step)
            job.finish(f"{steps[-1].name}: {steps[-1].result}")
            details: dict[str, JSON] = {
                "before": before.value,
                "after": pair.phase.value,
                "quick": quick,
                "steps": [f"{step.name}: {step.result}" for step in steps],
            }
            record_done(pair, "rollback", by=work.by, reason=None, details=details)
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
    """Run of the five steps."""

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
        self.by = f"rollback by {actor().by or current_actor()}"
        self.divergences: int | None = None
        require_primary(pair)
        # A switch whose process died may have left no store that takes writes.
        pair.recover()
        self.before = pair.phase
        self._flag = read_flag(source)
        require_changeable(settings, self._flag, Phase.JSON_ONLY)

    def run(self, on_step: StepCallback) -> tuple[StepReport, ...]:
        """Execute the steps, until one stops the procedure."""
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
            on_step(report)
            done.append(report)
            if not ok:
                break
            _STEP_DONE[number - 1]()
        return tuple(done)

    def _stop(self) -> str:
        """Set the flag, so that every server moves towards JSON."""
        changed = change_flag(
            self._pair, self._source, self._flag, Phase.JSON_ONLY, by=self.by
        )
        if changed.note:
            result = changed.note
        elif changed.written:
            result = f"{changed.place} says {Phase.JSON_ONLY.value} now"
        else:
            result = f"{changed.place} says {Phase.JSON_ONLY.value} already"
        # The writes of a primary cannot be stopped before JSON is caught up: there would
        # be no store that takes them.
        if self._pair.phase in _POSTGRES_FIRST:
            return f"{result}; PostgreSQL takes its last writes until JSON has all (step 3)"
        return f"{result}; PostgreSQL takes no writes of its own"

    def _restore(self) -> str:
        """Attach JSON as secondary, where it was detached."""
        if self._pair.phase is Phase.POSTGRES_ONLY:
            with self._stage("bringing JSON up to date"):
                self._switch_back(Phase.POSTGRES_PRIMARY)
            return "JSON follows PostgreSQL again"
        if self._pair.phase is Phase.POSTGRES_PRIMARY:
            return "JSON follows PostgreSQL already"
        return "JSON is primary already"

    def _sync(self) -> str:
        """Catch JSON up with the change log and repair it; then make it primary."""
        if self._pair.phase not in _POSTGRES_FIRST:
            return "JSON was primary, and has everything"
        with self._stage("bringing missing data to JSON"):
            # Before the switch: writers wait only for the commits that come after this.
            # The repair needs PostgreSQL as primary; later JSON's divergences would count.
            commits = self._pair.catch_up()
            repaired = 0 if self._is_quick else self._repair()
        _CAUGHT_UP()
        pause = self._switch_back(Phase.PARALLEL)
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
            return (
                0  # a server that follows the flag has completed the rollback already
            )
        return sum(repair.action in {"write", "delete"} for repair in found)

    def _validate(self) -> str:
        """Compare both stores while PostgreSQL is still secondary."""
        # Programs without this library read the legacy files from now on.
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
        """Detach PostgreSQL."""
        self._switch_back(Phase.JSON_ONLY)
        if self._pair.roles().is_whole:
            return "JSON works alone; PostgreSQL is detached"
        return "JSON works alone; PostgreSQL is detached as soon as it is back"

    def _switch_back(self, phase: Phase) -> float:
        """Switch back to a phase; returns the seconds for which writes waited."""
        # Servers that follow the flag make the same switches, and may be ahead of this
        # process. Then the phase would be a step forward, which the procedure never makes.
        if not self._is_after(phase):
            return 0.0
        try:
            done = self._pair.switch(phase, timeout=self._timeout, by=self.by)
        except SwitchRefused:  # also where a server was quicker in the meantime
            if self._is_after(phase):
                raise
            return 0.0
        return done.pause

    def _is_alone(self) -> bool:
        return self._pair.phase is Phase.JSON_ONLY

    def _is_after(self, phase: Phase) -> bool:
        return self._pair.phase.position > phase.position


# -- the dry run --------------------------------------------------------------------------


def plan_rollback(settings: Settings, *, quick: bool = False) -> RollbackPlan:
    """Plan :func:`roll_back` from the present phase; arguments and errors are the same.

    The stores are only read.
    """
    source = flag_source(settings)
    try:
        with open_passive(settings) as environment:
            pair = pair_of(environment)
            require_primary(pair)
            flag = read_flag(source.remembering(pair))
            require_changeable(settings, flag, Phase.JSON_ONLY)
            described = _descriptions(pair, flag, quick=quick)
            steps = tuple(
                PlannedStep(number=number, name=name, what=what)
                for number, (name, what) in enumerate(
                    zip(NAMES, described, strict=True), 1
                )
            )
            return RollbackPlan(before=pair.phase, steps=steps)
    finally:
        source.close()


def _descriptions(pair: PassivePair, flag: Flag, *, quick: bool) -> Iterator[str]:
    """Describe each of the five steps."""
    phase = pair.phase
    yield _flag_description(flag)
    if phase is Phase.POSTGRES_ONLY:
        yield "JSON follows PostgreSQL again, once it has what it missed"
    elif phase is Phase.POSTGRES_PRIMARY:
        yield "JSON follows PostgreSQL already"
    else:
        yield "JSON is primary already"
    if phase in _POSTGRES_FIRST:
        yield f"{_backlog(pair, phase)} brought to JSON; then JSON takes over"
    else:
        yield "JSON is primary, and has everything"
    if quick:
        yield "nothing is compared (--quick)"
    elif phase is Phase.JSON_ONLY:
        yield "PostgreSQL is detached, and is not compared"
    else:
        yield "every record is compared; the procedure stops where one differs"
    yield "PostgreSQL is detached; JSON works alone"


def _flag_description(flag: Flag) -> str:
    word = Phase.JSON_ONLY.value
    if flag.wanted is Phase.JSON_ONLY:
        return f"{flag.place} says {word} already"
    if flag.writable:
        return f"{flag.place} is made to say {word}"
    return f"{flag.place} cannot be changed from here: set it to {word} by hand"


def _backlog(pair: PassivePair, phase: Phase) -> str:
    if phase is Phase.POSTGRES_ONLY:
        return "what JSON missed is"
    count = pair.lag().commits
    return "1 commit is" if count == 1 else f"{count:,} commits are"
