"""``pend-storage doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage._shown import moment, shown
from pend_storage.cli._exits import Exit, exit_of
from pend_storage.cli._output import Output
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.dualwrite import ForcedPromotion
    from pend_storage.dualwrite._roles import Side

__all__ = ["doctor"]

_SHOWN = 20
"""Commits of the other store in the text output; the JSON document has a thousand."""
_KEYS = 20
"""Keys of one commit in the text output."""


@click.command(short_help="Check everything, and say what to do.")
@click.option(
    "--elect",
    type=click.Choice(["json", "postgres"]),
    help="Instead, let this store take over, whatever the other one holds: where a store "
    "was restored from a backup, replaced, or is lost. End every server first.",
)
@click.option("--yes", is_flag=True, help="Do not ask whether every server has ended.")
@pass_session
def doctor(session: Session, elect: Side | None, *, yes: bool) -> Exit:
    """Check configuration, JSON directory, database and pair, and say what to do.

    A switch whose process died is finished, or undone. Exit code 0 where nothing fails
    (warnings are no failures), 3 where a server cannot be reached, 2 where configuration
    or schema are wrong, else 1.
    """
    from pend_storage.operations.doctor import State, examine

    if elect is not None:
        return _elect(session, elect, sure=yes)
    result = examine(session.settings)
    out = session.output
    width = max(len(f.check) for f in result.findings)
    for f in result.findings:
        line = f"{f.state.value:<4}  {f.check:<{width}}  {f.message}"
        out.line(line, style=f.state.value)
        if f.remedy:
            out.line(f"      {'':<{width}}  -> {f.remedy}")
    failed = [f for f in result.findings if f.state is State.FAIL]
    warned = sum(f.state is State.WARN for f in result.findings)
    out.line(
        f"{len(failed)} fail, {warned} warn, of {len(result.findings)} checks",
        style=result.worst.value,
    )
    codes = [exit_of(f.error) if f.error else Exit.FOUND for f in failed]
    code = max(codes, default=Exit.DONE)
    return session.finish(code, {"worst": result.worst, "result": result})


def _elect(session: Session, side: Side, *, sure: bool) -> Exit:
    from pend_storage.operations.election import elect

    # A prompt would mix with the JSON document, and scripts cannot answer it.
    if not sure and session.as_json:
        raise click.UsageError("--elect with --json needs --yes, too.")
    if not sure:
        click.confirm(
            f"{side} takes over. What only the other store has is lost to the servers. "
            "Has every server ended?",
            abort=True,
            err=True,
        )
    result = elect(session.settings_to_change, side)
    _show_election(session.output, result)
    lost = result.missing is None or result.missing or not result.is_other_reachable
    code = Exit.FOUND if lost else Exit.DONE
    return session.finish(
        code,
        {
            "primary": result.primary,
            "epoch": result.epoch,
            "is_other_reachable": result.is_other_reachable,
            "missing": None
            if result.missing is None
            else [
                {"at": c.at, "keys": [[r.collection, r.key] for r in c.records]}
                for c in result.missing
            ],
        },
    )


def _show_election(out: Output, result: ForcedPromotion) -> None:
    """Render which store is primary, and what only the other one has."""
    out.line(f"{result.primary} is primary at epoch {result.epoch}, alone", style="ok")
    if not result.is_other_reachable:
        out.line(
            "the other store is out of reach: make sure that no server uses it, and "
            "decide again when it is back",
            style="warn",
        )
    if result.missing is None:
        out.line("what only the other store has is not known", style="warn")
    for change in (result.missing or ())[:_SHOWN]:
        keys = ", ".join(
            f"{r.collection}[{shown(r.key)}]" for r in change.records[:_KEYS]
        )
        more = len(change.records) - _KEYS
        keys += f" and {more:,} more" if more > 0 else ""
        out.line(f"only the other store has: {moment(change.at)} {keys}")
    more = len(result.missing or ()) - _SHOWN
    if more > 0:
        out.line(f"and {more:,} more commits, or still more")
