"""Backups of pgBackRest on the command line, for those who have it: by option ``--pgbackrest``."""

from __future__ import annotations

from typing import Final

import click

from pend_storage._shown import moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session
from pend_storage.errors import ConfigError

__all__ = ["create_in_stanza", "list_stanza", "pgbackrest_option", "verify_stanza"]

pgbackrest_option = click.option(
    "--pgbackrest",
    "stanza",
    metavar="STANZA",
    help="Do it by pgBackRest, in its own repository of this stanza.",
)
_KINDS: Final = frozenset({"physical", "incremental"})


def create_in_stanza(session: Session, stanza: str, *, kind: str) -> Exit:
    """Make a full or incremental backup by pgBackRest."""
    from pend_storage.operations.backup.pgbackrest import back_up_stanza

    if kind not in _KINDS:
        raise ConfigError(
            "pgBackRest makes no snapshots. Say --kind physical, or --kind incremental."
        )
    made = back_up_stanza(stanza, incremental=kind == "incremental")
    session.output.line(
        f"{made.label}: {made.kind}, {made.stored:,} bytes, ended "
        f"{moment(made.finished_at)}",
        style="ok",
    )
    return session.finish(Exit.DONE, {"stanza": stanza, "backup": made})


def list_stanza(session: Session, stanza: str) -> Exit:
    """List the backups of pgBackRest; exit code 1 where one has found wrong pages."""
    from pend_storage.operations.backup.pgbackrest import stanza_backups

    found = stanza_backups(stanza)
    session.output.table(
        ["backup", "kind", "ended", "bytes", "state"],
        [
            (
                each.label,
                each.kind,
                moment(each.finished_at),
                f"{each.stored:,}",
                "wrong pages" if each.has_error else "",
            )
            for each in found
        ],
    )
    wrong = any(each.has_error for each in found)
    return session.finish(
        Exit.FOUND if wrong else Exit.DONE, {"stanza": stanza, "backups": found}
    )


def verify_stanza(session: Session, stanza: str) -> Exit:
    """Verify by pgBackRest; exit code 1 for damage, whatever its own exit code is."""
    from pend_storage.operations.backup.pgbackrest import verify_stanza as verify

    out = session.output
    found = verify(stanza)
    for line in found:
        out.line(line, style="fail")
    if not found:
        out.line(f"stanza {stanza}: whole", style="ok")
    return session.finish(
        Exit.FOUND if found else Exit.DONE, {"stanza": stanza, "damaged": found}
    )
