"""``pend-storage phase``: show, set, advance, rollback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._render import show_obstacles, show_phase
from pend_storage.cli._session import Session, command_options, pass_session
from pend_storage.phases import Phase, parse_phase

if TYPE_CHECKING:
    from pend_storage.operations.phase import PhaseChange

__all__ = ["phase"]


@click.group(cls=CommandGroup, short_help="Show the phase, and move to another one.")
@command_options
def phase() -> None:
    """Show the phase, and move to another one, under live traffic."""


def _phase(_context: click.Context, _parameter: click.Parameter, value: str) -> Phase:
    """Parse the name of a phase, in upper or lower case."""
    return parse_phase(value.lower(), place="PHASE")


def _phases(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Complete the name of a phase, for a shell."""
    names = [phase.value for phase in Phase]
    return [name for name in names if name.startswith(incomplete.lower())]


def _change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the commands that change the phase."""
    for option in (
        click.option(
            "--accept",
            multiple=True,
            metavar="CODE",
            help="Let a blocker pass, by its code; it is recorded. May be repeated.",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Say what would happen; change nothing."
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="When to give up. Nothing is lost then.",
        ),
    ):
        function = option(function)
    return function


@phase.command("show", short_help="What is wanted, and what is.")
@pass_session
def show(session: Session) -> Exit:
    """Show the phase that the stores are in, and the one that the flag wants.

    Exit code 1 where they differ.
    """
    from pend_storage.operations.status import StatusProbe

    with StatusProbe(session.settings) as probe:
        found = probe.status(details=False)
    show_phase(session.output, found)
    code = Exit.FOUND if found.differs or found.problem else Exit.DONE
    return session.finish(
        code,
        {
            "phase": found.phase,
            "wanted": found.flag.wanted,
            "flag": found.flag,
            "json": found.json,
            "postgres": found.postgres,
            "problem": found.problem,
        },
    )


@phase.command("set", short_help="Move to a phase, through those between.")
@click.argument("wanted", metavar="PHASE", callback=_phase, shell_complete=_phases)
@_change_options
@pass_session
def set_command(
    session: Session,
    *,
    wanted: Phase,
    accept: tuple[str, ...],
    dry_run: bool,
    timeout: float,
) -> Exit:
    """Move to PHASE: json-only, parallel, postgres-primary or postgres-only.

    Looks first whether anything is in the way, then writes the flag, then makes the
    switch. Exit code 1 where something is in the way; nothing was changed then.
    """
    from pend_storage.operations.phase import change_phase

    result = change_phase(
        session.settings_for(dry_run=dry_run),
        wanted,
        accept=accept,
        dry_run=dry_run,
        timeout=timeout,
    )
    return _finish(session, result)


@phase.command("advance", short_help="One phase forward.")
@_change_options
@pass_session
def advance(
    session: Session, *, accept: tuple[str, ...], dry_run: bool, timeout: float
) -> Exit:
    """Move one phase forward. As `phase set`."""
    from pend_storage.operations.phase import advance as run

    result = run(
        session.settings_for(dry_run=dry_run),
        accept=accept,
        dry_run=dry_run,
        timeout=timeout,
    )
    return _finish(session, result)


@phase.command("rollback", short_help="One phase back.")
@_change_options
@pass_session
def rollback(
    session: Session, *, accept: tuple[str, ...], dry_run: bool, timeout: float
) -> Exit:
    """Move one phase back, after saying what would be lost: normally nothing."""
    from pend_storage.operations.phase import go_back

    result = go_back(
        session.settings_for(dry_run=dry_run),
        accept=accept,
        dry_run=dry_run,
        timeout=timeout,
    )
    return _finish(session, result)


def _finish(session: Session, result: PhaseChange) -> Exit:
    out = session.output
    if result.before is result.wanted:
        out.line(f"the phase is {result.wanted.value} already", style="ok")
    elif not result.is_forward and not result.blockers:
        out.line("nothing would be lost" if result.dry_run else "nothing is lost")
    show_obstacles(out, result.refused)
    for obstacle in result.blockers:
        if obstacle not in result.refused:
            out.line(f"{obstacle.code}: {obstacle.sentence}: accepted", style="warn")
    if result.refused:
        out.line(
            f"refused, nothing was changed: the phase stays {result.before.value}",
            style="fail",
        )
        if len(result.steps) > 1 and result.is_forward:
            out.line(
                f"the phases between can be passed at once only where all is ready for "
                f"{result.wanted.value}. First: pend-storage phase set "
                f"{result.steps[0].value}; then do what stands above, and call this again"
            )
    elif result.dry_run:
        path = ", ".join(step.value for step in result.steps) or "nothing to do"
        out.line(f"would go from {result.before.value} to: {path}", style="ok")
    else:
        _show_switch(out, result)
    code = Exit.FOUND if result.refused else Exit.DONE
    return session.finish(
        code,
        {
            "phase": result.after,
            "blockers": result.blockers,
            "refused": [obstacle.code for obstacle in result.refused],
            "result": result,
        },
    )


def _show_switch(out: Output, result: PhaseChange) -> None:
    switch, flag = result.switch, result.flag
    if switch is not None and switch.steps:
        out.line(
            f"from {switch.before.value} to {switch.after.value}, epoch {switch.epoch}, "
            f"in {seconds(switch.seconds)}; writes waited {seconds(switch.pause)}",
            style="ok",
        )
    elif switch is not None:
        out.line(f"the phase is {result.after.value}: a server was quicker", style="ok")
    if flag is not None and flag.written:
        out.line(f"{flag.place}: {result.wanted.value}")
    if flag is not None and flag.note:
        out.line(flag.note, style="warn")
    if result.ahead:
        out.line("before the next phase:", style="quiet")
        for obstacle in result.ahead:
            out.line(f"    {obstacle.code}: {obstacle.remedy}")
