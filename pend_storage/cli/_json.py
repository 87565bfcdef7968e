"""``pend-storage json``: migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._output import Output
from pend_storage.cli._session import Session, command_options, pass_session

if TYPE_CHECKING:
    from pend_storage._schema_changes import Evolution

__all__ = ["json", "show_evolution"]


@click.group(cls=CommandGroup, short_help="Bring the JSON directory to another schema.")
@command_options
def json() -> None:
    """Bring the JSON directory to another schema."""


@json.command(short_help="Make the records those of the present schema.")
@click.option(
    "--drop",
    is_flag=True,
    help="Delete what is stored in fields and collections that the schema does not have.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@pass_session
def migrate(session: Session, *, drop: bool, dry_run: bool) -> Exit:
    """Make the records those of the present schema: all of them, or none.

    New collections, and new fields with a default, need no migration: programs take them
    when they open the directory. What was renamed, and how values are converted, is
    declared in the schema by evolve=. Programs with the former schema are refused from
    then on. Harmless to repeat. Exit code 1 with --dry-run where something would be done.
    """
    from pend_storage.operations.evolve import migrate_directory

    done = migrate_directory(
        session.settings_for(dry_run=dry_run), drop=drop, dry_run=dry_run
    )
    show_evolution(session.output, done, dry_run=dry_run)
    code = Exit.FOUND if dry_run and done.changes else Exit.DONE
    return session.finish(
        code,
        {"dry_run": dry_run, "changes": done.changes, "records": dict(done.records)},
    )


def show_evolution(out: Output, done: Evolution, *, dry_run: bool) -> None:
    """Render the changes of a schema migration, made or planned."""
    if not done.changes:
        out.line(f"{done.store}: the schema is current", style="ok")
        return
    out.table(
        ["change", "needs"],
        [(change.words, change.need.value) for change in done.changes],
    )
    many = ", ".join(f"{count:,} {name}" for name, count in done.records.items())
    what = "would be changed" if dry_run else "changed"
    out.line(
        f"{done.store}: {len(done.changes)} changes of the schema; records {what}: "
        f"{many or 'none'}",
        style="warn" if dry_run else "ok",
    )
