"""``pend-storage doctor``."""

from __future__ import annotations

import click

from pend_storage.cli.exits import Exit, exit_of
from pend_storage.cli.session import Session, pass_session

__all__ = ["doctor"]


@click.command(short_help="Check everything, and say what to do.")
@pass_session
def doctor(session: Session) -> Exit:
    """Check configuration, JSON directory and database, and say what to do.

    Exit code 0 where nothing fails (warnings are no failures), 3 where a server cannot be
    reached, 2 where configuration or schema are wrong, else 1.
    """
    from pend_storage.operations.doctor import State, examine

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
