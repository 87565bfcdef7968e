"""``pend-storage migrate json``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pend_storage.cli.exits import Exit
from pend_storage.cli.output import Output, seconds
from pend_storage.cli.session import Session, pass_session
from pend_storage.cli.status import show_broken
from pend_storage.shown import listed

if TYPE_CHECKING:
    from pend_storage.operations.migrate_json import JsonMigration

__all__ = ["migrate", "show_migration"]


@click.group(short_help="Bring a JSON directory into the database.")
def migrate() -> None:
    """Bring a JSON directory into the database."""


@migrate.command("json", short_help="Copy, adopt, fill the database, account for all.")
@click.option(
    "--backup/--no-backup",
    default=None,
    help="First make a complete, verified copy of the JSON directory.  [default: yes; of "
    "a directory in use, if it holds still]",
)
@click.option(
    "--backup-to",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Make the copy in this folder.  [default: beside the JSON directory]",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Write at most N records per second.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 1 where records wait in quarantine."
)
@pass_session
def migrate_json(
    session: Session,
    *,
    backup: bool | None,
    backup_to: Path | None,
    rate: float | None,
    strict: bool,
) -> Exit:
    """Bring the JSON directory into the database. May be killed and repeated.

    For a fresh database before the servers use it, and in the phase parallel, under live
    traffic, for everything that was there before.

    Quarantined records are a normal result: they are counted, and the exit code is 0
    (with --strict: 1). It is 1 where a record is not accounted for, and where a legacy file
    is broken as a whole: what is in it is in no store, so the rest of them is migrated, and
    PostgreSQL does not become primary until it is repaired or accepted.
    """
    from pend_storage.operations.migrate_json import migrate_json as run

    out = session.output
    result = run(
        session.settings_to_change,
        backup=backup,
        backup_into=backup_to,
        rate=rate,
        stage=out.progress,
    )
    show_migration(out, result)
    nothing = result.moved_nothing
    if nothing:
        _tell_nothing(session, result)
    found = (
        nothing
        or not result.adds_up
        or bool(result.broken)
        or (strict and result.waiting > 0)
    )
    code = Exit.FOUND if found else Exit.DONE
    return session.finish(
        code,
        {
            "adds_up": result.adds_up,
            "moved_nothing": nothing,
            "waiting": result.waiting,
            "result": result,
        },
    )


def _tell_nothing(session: Session, result: JsonMigration) -> None:
    """Say that no record was moved, and why that may be."""
    wanted = session.settings_to_change.require_json()
    why = (
        "none of its JSON files is claimed by a layout. Declare them in the schema "
        f"module: pend-storage inspect {wanted.directory}"
        if result.unclaimed
        else "it has no file that a layout claims. Correct json.directory; a new server "
        "needs no migration: it may begin as it is"
    )
    session.output.line(
        f"nothing was moved, and 0 records of {wanted.directory} are in the database: "
        f"{why}",
        style="fail",
    )


def show_migration(out: Output, result: JsonMigration) -> None:
    """Show what became of every file."""
    _show_copy(out, result)
    files = result.files
    out.table(
        ["legacy file", "read", "written", "unchanged", "quarantined"],
        [(f.file, f.read, f.written, f.unchanged, f.quarantined) for f in files],
        styles=[None if f.adds_up else "fail" for f in files],
    )
    done = result.backfill
    out.table(
        ["collection", "records", "written", "unchanged", "deleted"],
        [
            (name, t.rows, t.written, t.unchanged, t.deleted)
            for name, t in done.collections.items()
        ],
    )
    for file in files:
        if not file.adds_up:
            out.line(f"{file.file}: the numbers do not add up", style="fail")
    if result.unclaimed:
        names = listed(map(str, result.unclaimed))
        out.line(f"left alone, no layout knows them: {names}", style="warn")
    show_broken(out, result.broken)
    if result.waiting:
        out.line(
            f"{result.waiting:,} records wait in quarantine: pend-storage quarantine "
            "list",
            style="warn",
        )
    out.line(
        f"{done.written:,} written, {done.unchanged:,} unchanged, in "
        f"{seconds(result.seconds)}",
        style="ok" if result.adds_up else "fail",
    )


def _show_copy(out: Output, result: JsonMigration) -> None:
    copy = result.backup
    if result.no_backup is not None:
        out.line(f"no copy of the directory was made: {result.no_backup}", style="warn")
    if copy is not None:
        out.line(
            f"copied {copy.files:,} files, {copy.bytes:,} bytes, and verified them: "
            f"{copy.path}"
        )
    if copy is not None and copy.links:
        names = listed(copy.links)
        out.line(f"symbolic links were copied as links: {names}", style="warn")
    if result.reused_backup is not None:
        out.line(f"continued; the copy is the one made before: {result.reused_backup}")
