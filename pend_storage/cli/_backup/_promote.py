"""``pend-storage backup promote``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from pend_storage._shown import moment, shortened
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.backup._lineage import Losses
    from pend_storage.cli._output import Output
    from pend_storage.operations.backup.promote import PromotionReport

__all__ = ["promote"]

_SHOWN: Final = 20


@click.command(short_help="Make a restored store primary.")
@click.argument("side", metavar="SIDE")
@click.option(
    "--schema-name", metavar="NAME", help="Schema of the database with its tables."
)
@click.option(
    "--roll-forward",
    type=click.Choice(["json", "postgres"]),
    help="Bring over what this other store has beyond the restored position.",
)
@click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def promote(
    session: Session,
    *,
    side: str,
    schema_name: str | None,
    roll_forward: str | None,
    dry_run: bool,
    yes: bool,
) -> Exit:
    """Make SIDE, the directory or the URL of a restored store, the primary.

    The store that it replaces is detached first, and the other store of the pair, so that
    no process writes any more: servers that run go on once their configuration leads to
    the restored store. May be interrupted anywhere and called again. Exit code 1 where a
    store could not be reached, and is not detached.
    """
    from pend_storage.dualwrite._roles import SIDES
    from pend_storage.operations.backup.promote import promote as run

    settings = session.settings_for(dry_run=dry_run)
    other = next((name for name in SIDES if name == roll_forward), None)
    with session.output.progress("comparing"):
        result = run(
            settings, side, schema_name=schema_name, roll_forward=other, dry_run=True
        )
    _show_plan(session.output, result)
    if not dry_run:
        if not (yes or result.plan.is_done):
            _confirm(session)
        with session.output.progress("promoting"):
            result = run(settings, side, schema_name=schema_name, roll_forward=other)
        _show_done(session.output, result)
    _show_rest(session.output, result)
    is_whole = result.done is None or not result.done.unreachable
    code = Exit.DONE if is_whole else Exit.FOUND
    return session.finish(code, {"dry_run": dry_run, "result": result})


def _confirm(session: Session) -> None:
    if session.output.as_json or not sys.stdin.isatty():
        raise click.UsageError(
            "a promotion replaces the primary, as the plan says: say --yes."
        )
    click.confirm("Go on?", abort=True, err=True)


def _show_plan(out: Output, result: PromotionReport) -> None:
    plan, note = result.plan, result.plan.note
    out.line(f"{result.place}", style="title")
    out.facts(
        [
            ("restored from", f"{note.backup} to {note.target} ({moment(note.at)})"),
            ("position", f"sequence {note.sequence} at epoch {note.epoch}"),
            ("becomes", f"primary at epoch {plan.epoch}: phase {result.phase.value}"),
            *((f"{name} now", role) for name, role in plan.roles.items()),
        ]
    )
    _show_losses(out, plan.lost)


def _show_losses(out: Output, lost: Losses) -> None:
    if lost.commits is None:
        out.line("what is lost is not known: no log shows it", style="warn")
    elif lost.commits:
        least = "at least " if lost.is_at_least else ""
        out.line(f"{least}{lost.commits:,} later commits are lost", style="warn")
    else:
        out.line("no later commit is lost", style="ok")
    if lost.keys:
        out.table(
            ["collection", "key"],
            [(name, shortened(key)) for name, key in lost.keys[:_SHOWN]],
        )


def _show_done(out: Output, result: PromotionReport) -> None:
    done = result.done
    if done is None:
        return
    if done.brought:
        out.line(f"{done.brought:,} rows were brought over from the other store")
    out.line(
        f"primary at epoch {done.epoch}, its commits are numbered above {done.above}",
        style="ok",
    )


def _show_rest(out: Output, result: PromotionReport) -> None:
    if result.configuration is not None:
        out.line(f"configuration: {result.configuration}")
    if result.flag is not None and result.flag.written:
        out.line(f"the flag in {result.flag.place} says {result.phase.value}")
    for note in result.notes:
        out.line(note, style="warn")
