"""``pend-storage alerts``."""

from __future__ import annotations

import sys

import click

from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

__all__ = ["alerts"]


@click.command(short_help="Alerts for Prometheus: the rules.")
@click.option(
    "--runbook",
    metavar="URL",
    help="Page that the alerts name.  [default: the how-to of this library]",
)
@pass_session
def alerts(session: Session, runbook: str | None) -> Exit:
    r"""Print the rules of the alerts, for a file that a Prometheus server reads.

    \b
    pend-storage alerts > rules.yml
    promtool check rules rules.yml
    """
    from pend_storage.operations.alerts import ALERTS, RUNBOOK, rules

    page = RUNBOOK if runbook is None else runbook
    text = rules(page)
    if not session.output.as_json:
        sys.stdout.write(text)
    return session.finish(Exit.DONE, {"runbook": page, "alerts": ALERTS, "rules": text})
