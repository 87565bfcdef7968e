"""``pend-storage backup restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage._secrets import may_be_address
from pend_storage._shown import moment, one_line, shown
from pend_storage.cli._backup._physical import restore_server
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._session import Session, pass_session
from pend_storage.errors import ConfigError

if TYPE_CHECKING:
    from pend_storage.backup._losses import Losses
    from pend_storage.operations.backup.restore import Restored

__all__ = ["restore", "show_losses"]


@click.command(short_help="Restore to a store beside the live one.")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="TARGET",
    help="latest, the ID of a backup, a time with its zone (2026-01-31T12:00:00Z), a "
    "sequence number, before:SEQUENCE, before:COLLECTION/KEY@VERSION, or point:NAME.",
)
@click.option(
    "--into",
    required=True,
    metavar="DIR|URL",
    help="A new directory, or an empty database.",
)
@click.option(
    "--schema-name",
    metavar="NAME",
    help="Schema of the database, where one database has to hold both.  [default: public]",
)
@click.option(
    "--kind",
    type=click.Choice(["snapshot", "physical"]),
    default="snapshot",
    show_default=True,
    help="What to begin with: a snapshot, or a copy of the server's files, which becomes a "
    "server of its own in DIR.",
)
@click.option(
    "--backup",
    metavar="ID",
    help="Physical backup to begin with.  [default: the newest before the target]",
)
@click.option(
    "--timeline",
    type=click.IntRange(min=1),
    metavar="N",
    help="Timeline to follow, of a physical backup.  [default: the newest]",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what it would be, and what is lost; no more."
)
@pass_session
def restore(
    session: Session,
    target: str,
    into: str,
    *,
    kind: str,
    schema_name: str | None,
    backup: str | None,
    timeline: int | None,
    dry_run: bool,
) -> Exit:
    """Restore to a position of the past, into a store beside the live one.

    The live stores are never changed, and what is restored is sealed: no process opens it
    before it is promoted. A time means all commits that carry it or an earlier one; the
    position that it leads to is shown. What a backup of JSON holds can be restored into
    PostgreSQL, and the other way round. After an interruption, call it again.
    """
    from pend_storage.operations.backup.restore import restore as run

    if kind == "physical":
        if may_be_address(into) or schema_name is not None:
            raise ConfigError(
                "a physical backup becomes a server of its own: name a new directory by "
                "--into, without --schema-name."
            )
        return restore_server(
            session,
            target,
            into,
            backup=backup,
            timeline=timeline,
            dry_run=dry_run,
        )
    if backup is not None or timeline is not None:
        raise ConfigError("--backup and --timeline go with --kind physical only.")
    out = session.output
    result = run(
        session.settings,
        target,
        into,
        schema_name=schema_name,
        dry_run=dry_run,
        stage=out.progress,
    )
    _show(out, result)
    return session.finish(Exit.DONE, {"dry_run": dry_run, "result": result})


def _show(out: Output, result: Restored) -> None:
    """Render position, counts, losses and what comes next."""
    out.facts(
        [
            ("position", f"sequence {result.sequence}, epoch {result.epoch}"),
            ("last commit", f"{result.commit} at {moment(result.at)}"),
            ("from", f"{result.backup} and {result.segments:,} segments"),
            ("into", result.into),
        ]
    )
    if result.out_of_order:
        out.line(
            f"{result.out_of_order:,} of the commits are later than that time by the clocks "
            "that wrote them: they stand before others that are not",
            style="warn",
        )
    out.table(["collection", "records"], list(result.records.items()))
    show_losses(out, result.lost)
    if result.files_left_out:
        out.line(
            f"{result.files_left_out:,} files of no layout are in the backup, and not in a "
            "database",
            style="warn",
        )
    report = result.report
    if report is None:
        out.line("a dry run: nothing was restored")
        return
    again = " (continued)" if report.resumed else ""
    files = f", {result.files:,} files" if result.files else ""
    out.line(
        f"restored{again}: {report.rows:,} rows and {report.changes:,} commits{files} in "
        f"{seconds(result.seconds)}, {report.rate:,.0f}/s; sealed, so that nothing opens it",
        style="ok",
    )
    out.line(
        "Compare it: pend-storage backup diff; use it: pend-storage backup promote"
    )


def show_losses(out: Output, lost: Losses) -> None:
    """Render the commits that a restored store lacks."""
    least = "at least " if lost.is_partial else ""
    if lost.commits:
        out.line(
            f"not in it: {lost.commits:,} later commits, which changed {least}{lost.keys:,} "
            "records; "
            f"{lost.archived:,} of them are in the archive",
            style="warn",
        )
        for collection, key in lost.first:
            out.line(f"    {one_line(collection)}[{shown(key)}]")
        if lost.keys > len(lost.first):
            out.line(f"    and {least}{lost.keys - len(lost.first):,} more")
    elif lost.unknown is None:
        out.line("nothing is lost: there is no later commit")
    if lost.unknown is not None:
        out.line(f"there may be more later commits: {lost.unknown}", style="warn")
