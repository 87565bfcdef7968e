"""``pend-storage repair``."""

from __future__ import annotations

import click

from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

__all__ = ["repair"]

_SHOWN = 50
"""Repairs in the text output; the JSON document has all."""


@click.command(short_help="Make the secondary equal to the primary.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@pass_session
def repair(session: Session, *, dry_run: bool) -> Exit:
    """Compare every record, and make the secondary equal to the live primary.

    Exit code 1 where something cannot be repaired, and with --dry-run where something
    would be.
    """
    from pend_storage.operations.repair import repair as run

    out = session.output
    settings = session.settings_for(dry_run=dry_run)
    with out.progress("comparing records"):
        result = run(settings, dry_run=dry_run)
    found, refused, side = result.found, result.refused, result.primary
    if found:
        out.table(
            ["collection", "key", "what"],
            [(item.collection, item.key, item.action) for item in found[:_SHOWN]],
        )
    if len(found) > _SHOWN:
        out.line(f"and {len(found) - _SHOWN:,} more")
    done = "would be repaired" if dry_run else "repaired"
    out.line(
        f"{len(found) - len(refused):,} records {done}, {len(refused):,} cannot be; "
        f"{side} is primary",
        style="warn" if refused or (dry_run and found) else "ok",
    )
    if refused:
        out.line(
            "they are ahead of everything that the primary knows: detach the secondary, "
            "empty it, attach it again, and run: pend-storage migrate json"
        )
    code = Exit.FOUND if refused or (dry_run and found) else Exit.DONE
    return session.finish(
        code,
        {
            "primary": side,
            "dry_run": dry_run,
            "repaired": 0 if dry_run else len(found) - len(refused),
            "refused": len(refused),
            "repairs": found,
        },
    )
