"""``pend-storage audit``: list, show, export, verify, seal, prune."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from pend_storage._shown import moment, shown
from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._session import Session, command_options, pass_session

if TYPE_CHECKING:
    from pend_storage.operations.audit import AuditFilter, AuditLine, AuditReport
    from pend_storage.store import Store

__all__ = ["audit"]

_ANCHOR: Final = re.compile(r"(\d{1,12}):([0-9a-f]{64})")
_SHOWN: Final = 50
"""Problems in the text output; the JSON document has more."""


@click.group(cls=CommandGroup, short_help="Who did what, and the proof of it.")
@command_options
def audit() -> None:
    """Audit entries: who did what and when, in a chain that shows any change of them."""


def _time(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> datetime | None:
    """Parse a date or a time of ISO 8601; without an offset it is UTC."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{shown(value)} is no time: give 2026-01-31 or 2026-01-31T12:00:00Z",
            context,
            parameter,
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose entries."""
    options = (
        click.option("--by", metavar="NAME", help="Of this author."),
        click.option("--action", metavar="NAME", help="put, delete, switch, ..."),
        click.option("--collection", metavar="NAME", help="Of this collection."),
        click.option("--key", metavar="KEY", help="Of the record with this key."),
        click.option("--request", metavar="ID", help="Of this request."),
        click.option(
            "--from", "since", callback=_time, metavar="TIME", help="Not before this."
        ),
        click.option(
            "--to", "until", callback=_time, metavar="TIME", help="Before this."
        ),
        click.option("--seals", is_flag=True, help="Seals, too."),
        click.option(
            "--show-values",
            is_flag=True,
            help="Personal keys and values, too; an audit entry tells who saw them.",
        ),
        click.option("--reason", metavar="TEXT", help="Why they are shown."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _open(session: Session, *, to_change: bool) -> Store:
    from pend_storage.factory import open_primary

    return open_primary(session.settings_for(dry_run=not to_change))


def _chosen(
    store: Store, chosen: dict[str, Any], *, show_values: bool, reason: str | None
) -> Iterable[AuditLine]:
    from pend_storage._model.attribution import current_actor
    from pend_storage.operations.audit import AuditFilter, entries, reveal_entries

    wanted: AuditFilter = AuditFilter(**chosen)
    if show_values:
        return reveal_entries(store, wanted, by=current_actor(), reason=reason)
    return entries(store, wanted)


@audit.command("list", short_help="List entries, the oldest first.")
@_filters
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=100_000),
    default=100,
    show_default=True,
    help="Entries at most.",
)
@pass_session
def list_command(
    session: Session,
    limit: int,
    *,
    show_values: bool,
    reason: str | None,
    **chosen: Any,
) -> Exit:
    """List audit entries by time. Of personal keys the beginning is shown."""
    with _open(session, to_change=show_values) as store:
        lines = _chosen(store, chosen, show_values=show_values, reason=reason)
        found = list(islice(lines, limit + 1))
    more, found = len(found) > limit, found[:limit]
    out = session.output
    if found:
        out.table(
            ["time", "action", "by", "record", "reason", "id"],
            [
                (
                    moment(line.at),
                    line.action,
                    line.by or "-",
                    _place(line),
                    line.reason or "-",
                    line.id,
                )
                for line in found
            ],
        )
    out.line(f"{len(found):,} entries" + (", and more: see --limit" if more else ""))
    return session.finish(
        Exit.DONE, {"more": more, "entries": [line.to_json() for line in found]}
    )


def _place(line: AuditLine) -> str:
    if line.collection is None:
        return "-"
    return f"{line.collection}[{line.key if line.erased_at is None else 'erased'}]"


@audit.command("show", short_help="Show one, whole.")
@click.argument("identity", metavar="ID")
@click.option(
    "--show-values",
    is_flag=True,
    help="Personal key and values, too; an audit entry tells who saw them.",
)
@click.option("--reason", metavar="TEXT", help="Why they are shown.")
@pass_session
def show(
    session: Session, identity: str, *, show_values: bool, reason: str | None
) -> Exit:
    """Show an audit entry. The beginning of its ID is enough."""
    from pend_storage._model.attribution import current_actor
    from pend_storage.codec import dump_json
    from pend_storage.operations.audit import find, reveal

    with _open(session, to_change=show_values) as store:
        if show_values:
            line = reveal(store, identity, by=current_actor(), reason=reason)
        else:
            line = find(store, identity)
    out = session.output
    facts = [
        ("id", line.id),
        ("time", moment(line.at)),
        ("action", line.action),
        ("by", line.by),
        ("reason", line.reason),
        ("request", line.request),
        ("record", _place(line)),
        ("position", str(line.position)),
        ("erased", None if line.erased_at is None else moment(line.erased_at)),
    ]
    out.facts(facts, whole=True)
    out.text(dump_json(dict(line.values)).decode())
    return session.finish(Exit.DONE, {"entry": line.to_json()})


@audit.command("export", short_help="Write entries as CSV or JSON lines.")
@_filters
@click.option(
    "--as",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    default="jsonl",
    show_default=True,
    help="Form of the lines.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File to write, which must not exist.  [default: the standard output]",
)
@pass_session
def export(
    session: Session,
    form: Literal["csv", "jsonl"],
    output: Path | None,
    *,
    show_values: bool,
    reason: str | None,
    **chosen: Any,
) -> Exit:
    """Write audit entries, one a line, in bounded memory however many there are."""
    from pend_storage.operations.audit import export as lines_of
    from pend_storage.operations.new_file import write_new_lines

    if output is None and (session.output.as_json or session.form is not None):
        raise click.UsageError("the lines are the output: name a file with --output.")
    with _open(session, to_change=show_values) as store:
        lines = _chosen(store, chosen, show_values=show_values, reason=reason)
        counted = _Counted(lines)
        texts = lines_of(counted, form)
        if output is None:
            sys.stdout.writelines(texts)
        else:
            write_new_lines(output, texts)
    count = counted.count
    if output is not None:
        session.output.line(f"{count:,} entries written to {output}", style="ok")
    if session.output.as_json:
        return session.finish(Exit.DONE, {"entries": count, "file": str(output)})
    return Exit.DONE


class _Counted:
    """Entries, counted on their way."""

    def __init__(self, lines: Iterable[AuditLine]) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[AuditLine]:
        for line in self._lines:
            self.count += 1
            yield line


def _anchor(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> Any:
    from pend_storage._audit_chain import Anchor

    if value is None:
        return None
    found = _ANCHOR.fullmatch(value)
    if found is None:
        raise click.BadParameter(
            f"{shown(value)} is no anchor: give NUMBER:DIGEST, as audit verify shows it",
            context,
            parameter,
        )
    return Anchor(int(found[1]), found[2])


@audit.command("verify", short_help="Verify that no entry was changed.")
@click.option(
    "--anchor",
    callback=_anchor,
    metavar="NUMBER:DIGEST",
    help="A seal that was noted elsewhere.",
)
@pass_session
def verify(session: Session, anchor: Any) -> Exit:
    """Verify that no entry was edited, deleted, inserted or moved; exit code 1 if one was.

    Note the anchor that it shows in another place: with it, a chain that was made anew as
    a whole is found, too.
    """
    from pend_storage.operations.audit import verify as run

    out = session.output
    with _open(session, to_change=False) as store, out.progress("verifying"):
        report = run(store, anchor=anchor)
    if report.problems:
        out.table(
            ["what", "id", "problem"],
            [(p.kind, p.id, p.sentence) for p in report.problems[:_SHOWN]],
        )
    _tell(session, report)
    code = Exit.DONE if report.ok else Exit.FOUND
    return session.finish(code, {"result": report})


def _tell(session: Session, report: AuditReport) -> None:
    out = session.output
    out.line(
        f"{report.entries:,} entries: {report.sealed:,} sealed, {report.unsealed:,} in the "
        f"change log, {report.unproven:,} that wait for their seal; {report.erased:,} erased"
    )
    if report.newest is not None:
        out.line(f"anchor {report.newest.number}:{report.newest.digest}")
    if report.ok:
        out.line("no entry was changed", style="ok")
    else:
        out.line(f"{report.found:,} problems", style="warn")


@audit.command("seal", short_help="Seal what is not sealed yet.")
@pass_session
def seal(session: Session) -> Exit:
    """Seal the entries that are not sealed yet; a running server does so every minute."""
    from pend_storage.operations.audit import seal as run

    with _open(session, to_change=True) as store:
        count = run(store)
    session.output.line(f"{count:,} entries sealed", style="ok")
    return session.finish(Exit.DONE, {"sealed": count})


@audit.command("prune", short_help="Let entries go after their retention.")
@click.option("--dry-run", is_flag=True, help="Say what would go; change nothing.")
@click.option("--reason", metavar="TEXT", help="Why; it is kept.")
@pass_session
def prune(session: Session, reason: str | None, *, dry_run: bool) -> Exit:
    """Delete the entries that are older than audit.keep_days, from the oldest on."""
    from pend_storage._model.attribution import current_actor
    from pend_storage.operations.audit import prune_old

    settings = session.settings_for(dry_run=dry_run)
    with _open(session, to_change=not dry_run) as store:
        done = prune_old(
            store,
            keep_days=settings.audit.keep_days,
            by=current_actor(),
            reason=reason,
            dry_run=dry_run,
        )
    would = "would be " if dry_run else ""
    out = session.output
    out.line(f"{done.entries:,} entries {would}deleted", style="ok")
    if not done.is_clean:
        out.line(
            "a change log still holds some of them; call it again later", style="warn"
        )
    return session.finish(Exit.DONE, {"dry_run": dry_run, "result": done})
