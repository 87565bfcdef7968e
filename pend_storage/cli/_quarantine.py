"""``pend-storage quarantine``: list, show, retry, accept."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pend_storage._shown import MOST_SHOWN, bounded, clause, cut, moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._output import Output
from pend_storage.cli._session import Session, command_options, pass_session

if TYPE_CHECKING:
    from pend_storage._model.records import QuarantinedRecord
    from pend_storage.operations.quarantine import Retried
    from pend_storage.store import Store

__all__ = ["quarantine"]

_ID = 8
"""Characters of an id in a table: enough to distinguish records."""
_RAW = 4_000
"""Characters of a record's text in the text output."""


@click.group(cls=CommandGroup, short_help="Records that could not be placed.")
@command_options
def quarantine() -> None:
    """Legacy records that could not be placed: whole, each with the reason."""


@contextlib.contextmanager
def _looking(session: Session) -> Iterator[Store]:
    """Open the primary for reading: looking at quarantine changes nothing."""
    from pend_storage.factory import open_passive
    from pend_storage.operations.quarantine import looked_at

    with open_passive(session.settings) as environment:
        if environment.is_unopened:
            directory = session.settings.require_json().directory
            session.output.note(
                f"note: no server has opened {clause(str(directory))} yet, so nothing is in "
                "quarantine; what would be: pend-storage migrate json --dry-run"
            )
        yield looked_at(environment)


def _open(session: Session) -> Store:
    from pend_storage.factory import open_primary

    return open_primary(session.settings_to_change)


@quarantine.command("list", short_help="List them; exit code 1 where any wait.")
@click.option("--file", metavar="FILE", help="Only those of one legacy file.")
@click.option("--all", "everything", is_flag=True, help="Accepted ones, too.")
@click.option("--full", is_flag=True, help="With --json: their texts, not cut.")
@pass_session
def list_command(
    session: Session, file: str | None, *, everything: bool, full: bool
) -> Exit:
    """List quarantined records; exit code 1 where any wait.

    Long places and texts are cut, and their length is said; `show ID --full` has all.
    """
    from pend_storage.operations.quarantine import list_quarantined, require_file

    with _looking(session) as store:
        if file is not None:
            require_file(store, file)
        status = None if everything else "waiting"
        found = list_quarantined(store, file=file, status=status)
    out = session.output
    if found:
        out.table(
            ["id", "file", "place", "status", "code", "reason"],
            [
                (r.id[:_ID], r.file, r.place or "(whole)", r.status, r.code, r.reason)
                for r in found
            ],
        )
    waiting = sum(record.is_waiting for record in found)
    out.line(f"{waiting:,} wait", style="warn" if waiting else "ok")
    code = Exit.FOUND if waiting else Exit.DONE
    return session.finish(
        code,
        {"waiting": waiting, "records": found if full else [*map(_abridged, found)]},
    )


def _abridged(record: QuarantinedRecord) -> dict[str, Any]:
    """Cut the long texts of a record."""
    text = record.raw[: 4 * MOST_SHOWN].decode("utf-8", "backslashreplace")
    if len(text) > MOST_SHOWN:
        size = f"... ({len(record.raw):,} bytes)"
        text = text[: MOST_SHOWN - len(size)] + size
    members = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {name: bounded(value) for name, value in members.items()} | {"raw": text}


@quarantine.command("show", short_help="Show one, whole.")
@click.argument("identity", metavar="ID")
@click.option("--full", is_flag=True, help="Every character of its text.")
@click.option(
    "--raw", is_flag=True, help="Its bytes alone, as they are: into a file or a pipe."
)
@pass_session
def show(session: Session, identity: str, *, full: bool, raw: bool) -> Exit:
    """Show a quarantined record. The beginning of its ID is enough.

    Its text is cut after 4,000 characters, unless --full or --json is given. Hidden
    characters of it are escaped; --raw gives the bytes that stood in the file.
    """
    from pend_storage.operations.quarantine import find

    if raw:
        _check_raw(session)
    with _looking(session) as store:
        record = find(store, identity)
    out = session.output
    if raw:
        sys.stdout.buffer.write(record.raw)
        return Exit.DONE
    out.facts(
        [
            ("id", record.id),
            ("file", record.file),
            ("place", record.place or "the whole file"),
            ("status", record.status),
            ("note", record.note),
            ("seen", moment(record.seen_at)),
            ("reason", f"{record.code}: {record.reason}"),
        ],
        whole=True,
    )
    text = record.raw.decode("utf-8", "backslashreplace")
    out.text(text if full else cut(text, _RAW))
    return session.finish(Exit.DONE, {"record": record})


def _check_raw(session: Session) -> None:
    """Refuse to write the bytes of a record where they would do harm.

    Raises:
        click.UsageError: to a terminal, which obeys control sequences in them, or with
            --json or --format, which write a document of their own.
    """
    if session.output.as_json or session.form is not None:
        raise click.UsageError(
            "--raw writes the bytes alone: leave --json, --format out."
        )
    if sys.stdout.isatty():
        raise click.UsageError(
            "--raw writes bytes that a terminal may obey. Write them to a file: > FILE; or "
            "leave --raw out to see them escaped."
        )


@quarantine.command("retry", short_help="Try again to place them.")
@click.argument("identities", metavar="[ID]...", nargs=-1)
@click.option("--file", metavar="FILE", help="All of one legacy file.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option(
    "--with",
    "repaired",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Repaired text to use instead, for a single ID.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what would be placed; change nothing."
)
@pass_session
def retry(
    session: Session,
    identities: tuple[str, ...],
    file: str | None,
    repaired: Path | None,
    *,
    everything: bool,
    dry_run: bool,
) -> Exit:
    """Try again to place quarantined records; exit code 1 where any stays.

    A value that lost against an edit of its file, or against a commit, replaces what the
    store holds instead of it. So such values are taken by their ID only.

    After the layout or the library was improved, or with text that was repaired by hand:
    a record as it stands in its file (in a map with its name), or the whole file.
    """
    from pend_storage.operations.quarantine import rehearsal_of
    from pend_storage.operations.quarantine import retry as run

    if repaired is not None and (len(identities) != 1 or file or everything):
        raise click.UsageError("--with goes with exactly one ID.")
    _require_one_way(identities, file, everything=everything)
    with _looking(session) if dry_run else _open(session) as store:
        # Once the process has become the owner of the directory: a link may be there.
        text = None if repaired is None else repaired.read_bytes()
        chosen = _chosen(store, identities, file, everything=everything)
        # A dry run retries in a copy in memory, so that refusals of a commit are found.
        place_in = rehearsal_of(store) if dry_run and chosen else store
        results = [run(place_in, record, text=text) for record in chosen]
    placed = _show_retried(session.output, results, dry_run=dry_run)
    staying = sum(not result.placed or result.quarantined > 0 for result in results)
    code = Exit.FOUND if staying else Exit.DONE
    return session.finish(
        code, {"dry_run": dry_run, "placed": placed, "results": results}
    )


def _show_retried(out: Output, results: Sequence[Retried], *, dry_run: bool) -> int:
    """Render the result of each; returns how many were placed."""
    placed, stays = (
        ("would be placed", "would stay") if dry_run else ("placed", "stays")
    )
    for result in results:
        place = f"{result.file} {cut(result.place)}".strip()
        if result.placed:
            out.line(f"{place}: {placed}, {result.records:,} records", style="ok")
        else:
            out.line(f"{place}: {stays}: {result.reason}", style="warn")
    count = sum(result.placed for result in results)
    rest = len(results) - count
    if dry_run:
        out.line(f"{count:,} would be placed, {rest:,} would stay; nothing was changed")
    else:
        out.line(f"{count:,} placed, {rest:,} stay")
    return count


@quarantine.command("accept", short_help="Let one stay as it is.")
@click.argument("identities", metavar="ID...", nargs=-1, required=True)
@pass_session
def accept(session: Session, identities: tuple[str, ...]) -> Exit:
    """Let quarantined records stay as they are, and where they are in their file.

    --reason is needed, and kept with the record.
    """
    from pend_storage.operations.quarantine import accept as run
    from pend_storage.operations.quarantine import find

    reason = session.require_reason()
    with _open(session) as store:
        records = [run(store, find(store, text), reason) for text in identities]
    for record in records:
        session.output.line(f"{record.file} {cut(record.place)}: accepted", style="ok")
    return session.finish(Exit.DONE, {"records": records})


def _require_one_way(
    identities: Sequence[str], file: str | None, *, everything: bool
) -> None:
    if sum(map(bool, (identities, file, everything))) != 1:
        raise click.UsageError("name the records by ID, or by --file, or take --all.")


def _chosen(
    store: Store, identities: Sequence[str], file: str | None, *, everything: bool
) -> list[QuarantinedRecord]:
    from pend_storage.operations.quarantine import (
        find,
        is_lost_edit,
        list_quarantined,
        require_file,
    )

    _require_one_way(identities, file, everything=everything)
    if identities:
        return [find(store, text) for text in identities]
    if file is not None:
        require_file(store, file)
    found = list_quarantined(store, file=file, status="waiting")
    # A value that lost an edit would replace what the store holds now: one is retried
    # only where it is named by its id.
    return [record for record in found if not is_lost_edit(record)]
