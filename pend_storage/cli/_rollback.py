"""``pend-storage rollback``: the emergency procedure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage._shown import moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import seconds
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.operations.emergency import StepReport

__all__ = ["rollback"]


@click.command(short_help="Emergency: back to JSON alone, in five steps.")
@click.option(
    "--quick", is_flag=True, help="Leave out the two comparisons of all records."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="When to give up a single change of phase. Nothing is lost then.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what each step would do; change nothing."
)
@pass_session
def rollback(session: Session, *, quick: bool, timeout: float, dry_run: bool) -> Exit:
    """Go back to JSON alone from any phase, under live traffic, with nothing lost.

    1 stop new database writes, 2 restore JSON operation, 3 sync missing data, 4 validate,
    5 resume. May be interrupted anywhere and called again. One phase back, without an
    emergency: pend-storage phase rollback.
    """
    from pend_storage.operations.emergency import NAMES, roll_back

    if dry_run:
        return _plan(session, quick=quick)
    out = session.output

    def on_step(step: StepReport) -> None:
        out.line(
            f"{step.number}/{len(NAMES)} {step.name}: {step.result}  "
            f"[{moment(step.at)}, {seconds(step.seconds)}]",
            style="ok" if step.ok else "fail",
        )

    result = roll_back(
        session.settings_to_change,
        quick=quick,
        timeout=timeout,
        on_step=on_step,
        stage=out.progress,
    )
    if result.ok:
        out.line(
            f"from {result.before.value} to {result.after.value} in "
            f"{seconds(result.seconds)}",
            style="ok",
        )
    else:
        out.line(f"not finished: the phase is {result.after.value}", style="fail")
    code = Exit.DONE if result.ok else Exit.FOUND
    return session.finish(
        code, {"phase": result.after, "steps": result.steps, "result": result}
    )


def _plan(session: Session, *, quick: bool) -> Exit:
    from pend_storage.operations.emergency import plan_rollback

    out = session.output
    plan = plan_rollback(session.settings_to_open, quick=quick)
    for step in plan.steps:
        out.line(f"{step.number}/{len(plan.steps)} {step.name}: {step.what}")
    out.line(f"the phase is {plan.before.value}, and nothing was changed", style="ok")
    return session.finish(
        Exit.DONE,
        {"dry_run": True, "phase": plan.before, "steps": plan.steps, "result": plan},
    )
