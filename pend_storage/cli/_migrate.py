"""``pend-storage migrate json``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pend_storage._shown import cut, listed
from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._render import show_broken
from pend_storage.cli._session import Session, command_options, pass_session

if TYPE_CHECKING:
    from pend_storage.config import JsonSettings
    from pend_storage.operations.migrate_json import JsonMigration
    from pend_storage.operations.migrate_trial import JsonTrial

__all__ = ["migrate", "show_migration"]


@click.group(cls=CommandGroup, short_help="Bring a JSON directory into the database.")
@command_options
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
@click.option(
    "--dry-run",
    is_flag=True,
    help="Try it on a copy, say what would wait in quarantine, and change nothing.",
)
@pass_session
def migrate_json(
    session: Session,
    *,
    dry_run: bool,
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
    PostgreSQL does not become primary until it is repaired or accepted. It is 1 as well
    where nothing was there to be moved.
    """
    if dry_run:
        return _dry_run(session, backup_to, strict=strict)
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
        wanted = session.settings_to_change.require_json()
        _show_nothing(out, wanted, claims=not result.unclaimed)
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


def _show_nothing(out: Output, wanted: JsonSettings, *, claims: bool) -> None:
    """Render that there is no record to move, and the likely reason."""
    why = (
        "it has no file that a layout claims. Correct json.directory; a new server "
        "needs no migration: it may begin as it is"
        if claims
        else "none of its JSON files is claimed by a layout. Declare them in the schema "
        f"module: pend-storage inspect {wanted.directory}"
    )
    out.line(
        f"nothing was moved: {wanted.directory} has 0 records, since {why}",
        style="fail",
    )


def _dry_run(session: Session, work_in: Path | None, *, strict: bool) -> Exit:
    from pend_storage.operations.migrate_trial import try_migration

    out = session.output
    result = try_migration(session.settings, work_in=work_in, stage=out.progress)
    _show_trial(out, result)
    waiting = len(result.quarantined)
    if result.moves_nothing:
        _show_nothing(
            session.output,
            session.settings.require_json(),
            claims=not result.unclaimed,
        )
    code = Exit.DONE if result.ok and not (strict and waiting) else Exit.FOUND
    return session.finish(code, {"dry_run": True, "waiting": waiting, "result": result})


def _show_trial(out: Output, result: JsonTrial) -> None:
    """Render the dry run: every file, and the reasons for quarantine."""
    out.table(
        ["legacy file", "read", "placed", "quarantined"],
        [(f.file, f.read, f.placed, f.quarantined) for f in result.files],
        styles=["fail" if f.is_broken else None for f in result.files],
    )
    for file in result.files:
        for reason, count in sorted(file.reasons.items(), key=lambda item: -item[1]):
            out.line(f"{file.file}: {count:,} would wait: {cut(reason)}", style="warn")
    if result.unclaimed:
        names = listed(map(str, result.unclaimed))
        out.line(f"left alone, no layout knows them: {names}", style="warn")
    if result.problem is not None:
        out.line(f"the database cannot be filled now: {result.problem}", style="fail")
    placed = sum(file.placed for file in result.files)
    out.line(
        f"{placed:,} records would be placed, {len(result.quarantined):,} would wait in "
        f"quarantine; tried in {seconds(result.seconds)}, and nothing was changed"
    )


def show_migration(out: Output, result: JsonMigration) -> None:
    """Render the report: every file and collection."""
    _show_copy(out, result)
    files = result.files
    out.table(
        ["legacy file", "read", "written", "unchanged", "quarantined"],
        [(f.file, f.read, f.written, f.unchanged, f.quarantined) for f in files],
        styles=[None if f.adds_up else "fail" for f in files],
    )
    done = result.collections
    out.table(
        ["collection", "records", "written", "unchanged", "deleted"],
        [(name, t.rows, t.written, t.unchanged, t.deleted) for name, t in done.items()],
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
    written = sum(tally.written for tally in done.values())
    unchanged = sum(tally.unchanged for tally in done.values())
    out.line(
        f"{written:,} written, {unchanged:,} unchanged, in {seconds(result.seconds)}",
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
