"""``pend-storage backup diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage._shown import shown
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.operations.backup.diff import Diff

__all__ = ["diff"]


@click.command(short_help="Compare a restored store by value.")
@click.argument("left", metavar="LEFT")
@click.argument("right", metavar="[RIGHT]", default="live")
@click.option("--collection", metavar="NAME", help="Compare this collection only.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="N",
    help="Show the fields of this many records.",
)
@click.option(
    "--schema-name", metavar="NAME", help="Schema of a database.  [default: public]"
)
@pass_session
def diff(
    session: Session,
    left: str,
    right: str,
    *,
    collection: str | None,
    limit: int,
    schema_name: str | None,
) -> Exit:
    """Compare two stores by value, every record in both directions; exit code 1 where any differs.

    LEFT and RIGHT are each live, a directory, the URL of a database, or what backup restore
    takes as its target: then that is restored into a directory that is removed afterwards.
    Values of personal fields are not shown.
    """
    from pend_storage.operations.backup.diff import diff as run

    result = run(
        session.settings,
        left,
        right,
        collection=collection,
        limit=limit,
        schema_name=schema_name,
        stage=session.output.progress,
    )
    _show(session.output, result)
    code = Exit.DONE if result.ok else Exit.FOUND
    return session.finish(code, {"result": result})


def _show(out: Output, result: Diff) -> None:
    """Render the counts by collection, and the records that differ."""
    report = result.report
    out.table(
        ["collection", "compared", "only left", "only right", "different"],
        [
            (name, c.checked, c.missing, c.extra, c.different)
            for name, c in report.collections.items()
        ],
        styles=[None if c.ok else "fail" for c in report.collections.values()],
    )
    words = {"missing": "only left", "extra": "only right", "different": "different"}
    for item in report.divergences:
        out.line(
            f"{item.collection}[{shown(item.key)}] {words[item.kind]}", style="fail"
        )
        for difference in item.differences:
            out.line(f"    {difference}")
        if item.more_differences:
            out.line(f"    and {item.more_differences:,} more places")
    more = report.found - len(report.divergences)
    if more > 0:
        out.line(f"and {more:,} more")
    moving = f", {report.unsettled:,} went on changing" if report.unsettled else ""
    took = seconds(report.seconds)
    if result.ok:
        out.line(f"equal: {report.checked:,} records compared in {took}", style="ok")
    else:
        out.line(
            f"not equal: {report.found:,} of {report.checked:,} records differ{moving} "
            f"({took}). Left is {result.left}, right is {result.right}",
            style="fail",
        )
