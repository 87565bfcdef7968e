"""``pend-storage backup drill``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage._shown import moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.backup._drill import Drill
    from pend_storage.operations.backup.drill import To

__all__ = ["drill"]


@click.command(short_help="Restore for trial, and measure it.")
@click.option(
    "--to",
    type=click.Choice(["random", "latest"]),
    default="random",
    show_default=True,
    help="Point that is restored.",
)
@click.option(
    "--into",
    metavar="FOLDER|URL",
    help="Folder or database for the throw-away store.  [default: temporary files]",
)
@click.option(
    "--budget",
    metavar="DURATION",
    help="Time after which it ends, such as 1h.  [default: backup.rto, or 1h]",
)
@click.option("--seed", type=int, help="Of a random point: choose the same again.")
@pass_session
def drill(
    session: Session, *, to: To, into: str | None, budget: str | None, seed: int | None
) -> Exit:
    """Restore to a throw-away store, compare it, read all of it, write once, remove it.

    Exit code 1 where the backup cannot be restored, or RTO or RPO missed backup.rto or
    backup.rpo; 3 where the drill has no result.
    """
    from pend_storage.config import parse_duration
    from pend_storage.operations.backup.drill import drill as run

    limit = None if budget is None else parse_duration(budget, place="--budget")
    result = run(
        session.settings_to_open,
        to=to,
        into=into,
        budget=None if limit is None else limit.total_seconds(),
        seed=seed,
        stage=session.output.progress,
    )
    _show(session.output, result)
    code = {"ok": Exit.DONE, "failed": Exit.FOUND}.get(result.outcome)
    return session.finish(
        Exit.UNREACHABLE if code is None else code,
        {
            "outcome": result.outcome,
            "bottleneck": result.bottleneck,
            "result": result,
        },
    )


def _show(out: Output, result: Drill) -> None:
    style = "ok" if result.outcome == "ok" else "fail"
    reason = "" if result.reason is None else f": {result.reason}"
    out.line(f"{result.outcome}{reason}", style=style)
    rows: list[tuple[str, str]] = []
    if result.target is not None:
        seed = "" if result.seed is None else f" (seed {result.seed})"
        rows.append(("target", f"{result.target}{seed}"))
    if result.backup is not None and result.at is not None:
        state = f"up to {result.sequence}, {moment(result.at)}"
        rows += [("backup", result.backup), ("state", state)]
    for name, value in (
        ("RTO", result.rto_seconds),
        ("RPO", result.rpo_seconds),
        ("everything, estimated", result.estimate_seconds),
        ("10 million rows, estimated", result.estimate_large_seconds),
    ):
        rows.append((name, "not known" if value is None else seconds(value)))
    if result.rate is not None:
        total = result.rows + result.changes
        rows.append(("restored", f"{total:,} rows and commits, {result.rate:,.0f}/s"))
    if result.bottleneck is not None:
        took = seconds(result.stages[result.bottleneck])
        rows.append(("bottleneck", f"{result.bottleneck}, {took}"))
    out.facts(rows)
