"""``pend-storage backup undo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage._shown import shown
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session
from pend_storage.errors import Conflict, ReferenceViolation, UniqueViolation

if TYPE_CHECKING:
    from pend_storage.cli._output import Output
    from pend_storage.operations.backup.undo import Undone

__all__ = ["undo"]


@click.command(short_help="Write an earlier value of a record again.")
@click.argument("collection", metavar="COLLECTION")
@click.argument("key", metavar="KEY")
@click.option(
    "--to",
    metavar="VERSION",
    help="Version whose value is wanted, 0 for none; or before:SEQUENCE, the value before "
    "a commit.  [default: the version before the present one]",
)
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@pass_session
def undo(
    session: Session,
    collection: str,
    key: str,
    *,
    to: str | None,
    dry_run: bool,
) -> Exit:
    """Write an earlier value of one record again, as a new commit.

    It is read from the change log, or from the archive where that does not reach back. A
    deleted record is made again; one that was made by the present version is deleted. The
    undo of an undo works alike. --reason is kept in the change log. Exit code 1 where the
    value is the same.
    """
    from pend_storage.operations.backup.undo import undo as run

    settings = session.settings_for(dry_run=dry_run)
    try:
        with session.output.progress("searching"):
            result = run(settings, collection, key, to=to, dry_run=dry_run)
    except (UniqueViolation, ReferenceViolation, Conflict):
        session.output.note(
            "the earlier value does not fit what is there now: undo the other change "
            "first, or take another version by --to"
        )
        raise
    _show(session.output, result)
    code = Exit.DONE if result.undo.is_needed else Exit.FOUND
    return session.finish(code, {"dry_run": dry_run, "result": _document(result)})


def _show(out: Output, result: Undone) -> None:
    plan = result.undo
    place = f"{plan.collection}[{shown(plan.key)}]"
    if not plan.is_needed:
        out.line(f"{place}: nothing to undo, the value is the same", style="warn")
        return
    if plan.differences:
        out.table(
            ["field", "now", "then"],
            [
                (".".join(map(str, d.path)), shown(d.left), shown(d.right))
                for d in plan.differences
            ],
        )
    would = "would be " if result.dry_run else ""
    if plan.action == "delete":
        out.line(f"{place}: {would}deleted, as before it was made", style="ok")
        return
    again = "" if plan.is_there else ", which is deleted now"
    now = "" if result.version is None else f" as version {result.version}"
    out.line(
        f"{place}: version {plan.earlier.version} from {plan.earlier.source} {would}"
        f"written again{now}{again}",
        style="ok",
    )


def _document(result: Undone) -> dict[str, object]:
    """Return the result without the record: only what differs is shown, redacted."""
    plan = result.undo
    return {
        "collection": plan.collection,
        "key": plan.key,
        "action": plan.action,
        "present": str(plan.present),
        "earlier": str(plan.earlier.version),
        "source": plan.earlier.source,
        "differences": [
            {"path": d.path, "now": shown(d.left), "then": shown(d.right)}
            for d in plan.differences
        ],
        "version": None if result.version is None else str(result.version),
    }
