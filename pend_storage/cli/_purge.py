"""``pend-storage purge``."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pend_storage._shown import shown
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.operations.purge import Purge

__all__ = ["purge"]

_SHOWN: Final = 50
"""Places in the text output; the JSON document has all."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


def _duration(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> timedelta | None:
    """Parse a duration such as ``30d``, ``12h`` or ``90m``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhdw])", value)
    if found is None:
        raise click.BadParameter(
            f"{shown(value)} is no duration: give a number with s, m, h, d or w, such "
            "as 30d",
            context,
            parameter,
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


@click.command(short_help="Erase what is kept of deleted records.")
@click.argument("collection", metavar="[COLLECTION]", required=False)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option(
    "--deleted", is_flag=True, help="All records of the collection that are deleted."
)
@click.option(
    "--older",
    callback=_duration,
    metavar="DURATION",
    help="Of all collections: what is kept and older than that, such as 30d.",
)
@click.option("--delete", is_flag=True, help="Delete records that are there, first.")
@click.option(
    "--backups",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    multiple=True,
    help="Another folder with copies of the directory, to be searched.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def purge(
    session: Session,
    collection: str | None,
    keys: tuple[str, ...],
    older: timedelta | None,
    backups: tuple[Path, ...],
    *,
    deleted: bool,
    delete: bool,
    dry_run: bool,
    yes: bool,
) -> Exit:
    """Erase what is kept of deleted records: it cannot be brought back.

    Snapshots, the change logs of both stores, tombstones, quarantine, findings and files
    that were kept for people lose them. Then records, files and copies of the directory
    are searched for what identifies them; exit code 1 where something still holds it.
    """
    from pend_storage.operations.purge import purge as by_key
    from pend_storage.operations.purge_older import purge_older

    _require_one_way(collection, keys, older, deleted=deleted)
    settings = session.settings_for(dry_run=dry_run)
    if not (dry_run or yes):
        _confirm(session)
    with session.output.progress("searching"):
        if older is not None:
            result = purge_older(settings, older, dry_run=dry_run)
        else:
            result = by_key(
                settings,
                collection or "",
                keys,
                deleted=deleted,
                delete=delete,
                dry_run=dry_run,
                backups=backups,
            )
    _show(session, result)
    code = Exit.DONE if result.ok else Exit.FOUND
    return session.finish(code, {"result": result})


def _require_one_way(
    collection: str | None,
    keys: tuple[str, ...],
    older: timedelta | None,
    *,
    deleted: bool,
) -> None:
    if older is not None:
        if collection or deleted:
            raise click.UsageError("--older goes with neither a collection nor a key.")
    elif not collection:
        raise click.UsageError("name a collection and keys, or give --older.")
    elif deleted == bool(keys):
        raise click.UsageError("name the records by key, or take --deleted.")


def _confirm(session: Session) -> None:
    if session.output.as_json or not sys.stdin.isatty():
        raise click.UsageError("what is purged is gone for good: say --yes.")
    click.confirm("what is purged cannot be brought back. Go on?", abort=True, err=True)


def _show(session: Session, result: Purge) -> None:
    out = session.output
    would = "would be " if result.dry_run else ""
    out.line(
        f"{result.keys:,} keys, {len(result.quarantined):,} quarantined records, "
        f"{result.findings:,} findings and {len(result.files):,} files {would}erased"
        + (f"; {result.deleted:,} records {would}deleted" if result.deleted else "")
    )
    if result.held:
        out.table(
            ["held by", "where"],
            [(item.kind, item.place) for item in result.held[:_SHOWN]],
        )
        out.line(f"{len(result.held):,} places still hold it", style="warn")
    elif not result.dry_run:
        out.line("nothing that was searched holds it", style="ok")
