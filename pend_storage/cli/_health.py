"""``pend-storage health``."""

from __future__ import annotations

import click

from pend_storage.cli._exits import Exit
from pend_storage.cli._output import seconds
from pend_storage.cli._session import Session, pass_session

__all__ = ["health"]


@click.command(short_help="Whether the primary answers, for probes.")
@click.option(
    "--ready",
    is_flag=True,
    help="Only the primary counts: a secondary that is away is no failure.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0.1, max=60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time in which a store must answer.",
)
@pass_session
def health(session: Session, *, ready: bool, deadline: float) -> Exit:
    """Ask every store for its role; changes nothing, and opens the stores for reading only.

    Exit code 3 where the primary does not answer in time; 1 where another store does not,
    unless --ready is given.
    """
    from pend_storage.operations.health import check_health

    found = check_health(session.settings, deadline=deadline)
    out = session.output
    for check in found.checks:
        style = "ok" if check.ok else "fail" if check.required else "warn"
        out.line(
            f"{check.name}: {check.sentence} ({seconds(check.seconds)})", style=style
        )
    if not found.ready:
        code = Exit.UNREACHABLE
    else:
        code = Exit.DONE if ready or all(c.ok for c in found.checks) else Exit.FOUND
    return session.finish(
        code,
        {"ready": found.ready, "at": found.at, "checks": found.checks},
    )
