"""``pend-storage divergences``: list, show, accept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pend_storage._shown import moment, path_text, shown
from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._session import Session, command_options, pass_session

if TYPE_CHECKING:
    from pend_storage.cli._output import Output
    from pend_storage.dualwrite._divergence_check import Kind
    from pend_storage.operations.divergences import Divergence

__all__ = ["divergences"]

_ID: Final = 8
"""Characters of an id in a table: enough to distinguish findings."""
_KINDS: Final[tuple[Kind, ...]] = ("missing", "extra", "different", "answer")


@click.group(cls=CommandGroup, short_help="Confirmed differences between the stores.")
@command_options
def divergences() -> None:
    """Confirmed differences between the stores, found by any process.

    Compared reads and validations find them. A repair makes the secondary equal to the
    primary: pend-storage repair.
    """


@divergences.command("list", short_help="List them; exit code 1 where any is open.")
@click.option("--all", "everything", is_flag=True, help="Closed ones, too.")
@click.option("--collection", metavar="NAME", help="Only those of one collection.")
@click.option("--kind", type=click.Choice(_KINDS), help="Only those of one kind.")
@pass_session
def list_command(
    session: Session, *, everything: bool, collection: str | None, kind: str | None
) -> Exit:
    """List the divergences that are open; exit code 1 where there are any.

    Missing: only the primary has the record. Extra: only the secondary has it. Answer: a
    query is answered otherwise, though its records are equal.
    """
    from pend_storage.operations.divergences import list_divergences, open_findings

    wanted = next((each for each in _KINDS if each == kind), None)
    with open_findings(session.settings_to_open) as pair:
        if collection is not None:
            collection = pair.schema[collection].name
        found = list_divergences(
            pair, closed=everything, collection=collection, kind=wanted
        )
    out = session.output
    if found:
        out.table(
            ["id", "collection", "key", "kind", "source", "state", "last seen"],
            [
                (
                    each.id[:_ID],
                    each.collection,
                    each.key,
                    each.kind,
                    each.source,
                    each.state,
                    moment(each.last_seen),
                )
                for each in found
            ],
        )
    count = sum(each.is_open for each in found)
    out.line(f"{count:,} open", style="warn" if count else "ok")
    code = Exit.FOUND if count else Exit.DONE
    return session.finish(code, {"open": count, "divergences": found})


@divergences.command("show", short_help="Show one, field by field.")
@click.argument("identity", metavar="ID")
@click.option(
    "--show-values",
    is_flag=True,
    help="The values that both stores have now, personal ones included.",
)
@pass_session
def show(session: Session, identity: str, *, show_values: bool) -> Exit:
    """Show a divergence. The beginning of its ID is enough.

    Of a different record each field that differs is shown, the primary on the left: by
    type and size, unless --show-values is given. Exit code 1 where it is open.
    """
    from pend_storage.operations.divergences import open_findings
    from pend_storage.operations.divergences import show as run

    with open_findings(session.settings_to_open) as pair:
        found = run(pair, identity, values=show_values)
    _show(session.output, found)
    code = Exit.FOUND if found.is_open else Exit.DONE
    return session.finish(code, {"divergence": found})


def _show(out: Output, found: Divergence) -> None:
    rows = [
        ("id", found.id),
        ("collection", found.collection),
        ("key", found.key),
        ("kind", found.kind),
        ("found by", found.source),
        ("state", found.state),
        ("versions", f"{found.versions[0]} in the primary, {found.versions[1]}"),
        ("seen", f"{moment(found.first_seen)} to {moment(found.last_seen)}"),
        ("quarantined", found.quarantined or ""),
    ]
    if found.accepted is not None:
        decision = found.accepted
        what = f"by {decision.by}, {moment(decision.at)}: {decision.reason}"
        rows.append(("earlier accepted" if found.is_open else "accepted", what))
    out.facts([row for row in rows if row[1]], whole=True)
    if found.differences:
        out.table(
            ["field", "primary", "secondary"],
            [
                (path_text(d.path), shown(d.left), shown(d.right))
                for d in found.differences
            ],
        )


@divergences.command("accept", short_help="Let the stores differ there.")
@click.argument("identities", metavar="ID...", nargs=-1, required=True)
@pass_session
def accept(session: Session, identities: tuple[str, ...]) -> Exit:
    """Let the stores differ there, as they do now; --reason is needed, and kept.

    A record that is written again, or that differs in another way, is a divergence again.
    A validation goes on counting it.
    """
    from pend_storage.operations.divergences import accept as run
    from pend_storage.operations.divergences import open_findings

    reason = session.require_reason()
    with open_findings(session.settings_to_change) as pair:
        done = run(pair, identities, reason=reason)
    for each in done:
        session.output.line(
            f"{each.collection}[{shown(each.key)}]: accepted", style="ok"
        )
    return session.finish(Exit.DONE, {"divergences": done})
