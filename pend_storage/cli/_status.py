"""``pend-storage status``."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from pend_storage._shown import moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._render import (
    show_backup,
    show_broken,
    show_details,
    show_jobs,
    show_phase,
)
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.operations.status import EnvironmentStatus

__all__ = ["ended_by_signals", "status"]

_CLEAR = "\x1b[H\x1b[2J"


@click.command(short_help="Phase, roles, lag, what is left to do.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Look again and again, until Ctrl-C; every 2 seconds if no number is given.",
)
@pass_session
def status(session: Session, watch: float | None) -> Exit:
    """Show where the environment stands; works with one of the stores out of reach.

    Exit code 1 where the phase is not the one that is wanted, a store is out of reach, the
    last comparison found differences, or a legacy file is broken as a whole. With --watch and --json: a document each time,
    one a line.
    """
    from pend_storage.operations.status import StatusProbe

    with StatusProbe(session.settings) as probe:
        if watch is None:
            return _show(session, probe.status())
        with ended_by_signals() as ended:
            while True:
                if not session.as_json and sys.stdout.isatty():
                    sys.stdout.write(_CLEAR)  # a log file keeps every status instead
                session.output.line(moment(datetime.now(UTC)), style="quiet")
                code = _show(session, probe.status())
                sys.stdout.flush()
                if ended.wait(watch):
                    return code
                session.output.line()


@contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    """Set an event at SIGINT and SIGTERM within the block, in place of ending the process.

    The command then closes its stores, and writes its result.
    """
    event = threading.Event()
    known = {
        number: signal.signal(number, lambda *_: event.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield event
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


def _show(session: Session, found: EnvironmentStatus) -> Exit:
    from pend_storage.operations.documents import status_document

    out = session.output
    show_phase(out, found)
    show_broken(out, found.broken)
    if found.details is not None:
        show_details(out, found.details, found.compared)
    show_jobs(out, found.jobs)
    show_backup(out, found.backup)
    code = Exit.DONE if found.is_well else Exit.FOUND
    return session.finish(code, status_document(found))
