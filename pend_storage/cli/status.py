"""``pend-storage status``."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from pend_storage.cli.exits import Exit
from pend_storage.cli.output import Cell, Output, seconds
from pend_storage.cli.session import Session, pass_session
from pend_storage.shown import moment

if TYPE_CHECKING:
    from pend_storage.operations.quarantine import BrokenFile
    from pend_storage.operations.standing import Details, SideStanding, Standing

__all__ = ["ended_by_signals", "show_broken", "show_phase", "status"]

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
    from pend_storage.operations.standing import Observer

    with Observer(session.settings) as observer:
        if watch is None:
            return _show(session, observer.look())
        with ended_by_signals() as ended:
            while True:
                if not session.as_json and sys.stdout.isatty():
                    sys.stdout.write(_CLEAR)
                session.output.line(moment(datetime.now(UTC)), style="quiet")
                code = _show(session, observer.look())
                sys.stdout.flush()
                if ended.wait(watch):
                    return code
                session.output.line()


@contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    """Within the block SIGINT and SIGTERM set an event, instead of ending the process."""
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


def _show(session: Session, standing: Standing) -> Exit:
    out = session.output
    show_phase(out, standing)
    show_broken(out, standing.broken)
    if standing.details is not None:
        _show_details(out, standing.details)
    code = Exit.DONE if standing.is_well else Exit.FOUND
    return session.finish(code, {**_summary(standing), "result": standing})


def _summary(standing: Standing) -> Mapping[str, Any]:
    """What scripts ask for most, at the top of the document."""
    details = standing.details
    return {
        "phase": standing.phase,
        "wanted": standing.flag.wanted,
        "lag": None if details is None else details.lag,
        "readiness": None if details is None else details.ahead,
    }


def show_phase(out: Output, standing: Standing) -> None:
    """Show the phase, the flag, and the roles of both stores."""
    now = "none yet" if standing.phase is None else standing.phase.value
    out.line(f"{standing.environment}: phase {now}", style="title")
    flag = standing.flag
    wanted = (
        f"nothing; it may be said by {flag.place}"
        if flag.wanted is None
        else f"{flag.wanted.value}, by {flag.place}"
    )
    rows: list[tuple[Cell, ...]] = [
        ("configuration", standing.configuration),
        ("wanted", wanted),
        ("JSON", _side(standing.json)),
        ("PostgreSQL", _side(standing.postgres)),
    ]
    if standing.json is not None and standing.json.files:
        rows.insert(3, ("legacy files", _files(standing.json)))
    out.facts(rows)
    if flag.problem is not None:
        out.line(f"the flag: {flag.problem}", style="warn")
    if standing.problem is not None:
        out.line(standing.problem, style="fail")
    elif standing.is_fresh:
        out.line("the stores were not used as a pair yet", style="quiet")
    if standing.differs and flag.wanted is not None:
        out.line(
            f"not in the wanted phase: pend-storage phase set {flag.wanted.value}",
            style="warn",
        )


def show_broken(out: Output, files: Sequence[BrokenFile]) -> None:
    """Name the legacy files that are broken as a whole, and what to do."""
    for file in files:
        rest = (
            "what rests on it is refused" if file.unread else "the store has the rest"
        )
        out.line(f"{file.file} cannot be read, {rest}: {file.reason}", style="fail")
        out.line(
            f"  repair it in its place, or: pend-storage quarantine retry {file.id} "
            f"--with FILE, or: pend-storage quarantine accept {file.id} --reason ...",
            style="fail",
        )


def _side(side: SideStanding | None) -> str:
    if side is None:
        return "not configured"
    if side.problem is not None:
        return f"cannot be asked: {side.problem}"
    if side.role is None:
        return f"no role yet; {side.place}"
    return f"{side.role.value} at epoch {side.epoch}; {side.place}"


def _files(side: SideStanding) -> str:
    """How old what the legacy files show is."""
    oldest = side.files[0]
    more = f"; {len(side.files) - 1:,} more are behind" if side.files[1:] else ""
    what = "record" if oldest.records == 1 else "records"
    age = seconds(oldest.seconds)
    return f"{oldest.file} is {age} behind, {oldest.records:,} {what}{more}"


def _show_details(out: Output, details: Details) -> None:
    lag = details.lag
    rows: list[tuple[Cell, ...]] = []
    if lag is not None:
        state = "" if lag.secondary_up else "; the secondary is down"
        rows.append(("lag", f"{lag.commits:,} commits, {seconds(lag.seconds)}{state}"))
        if lag.blocked is not None:
            rows.append(("blocked", lag.blocked))
    if details.backfill is not None:
        rows.append(("backfill", details.backfill))
        rows.append(("validation", _validation(details.validation)))
    if details.divergences:
        rows.append(("divergences", f"{details.divergences:,} open: see repair"))
    if details.waiting is not None:
        rows.append(("quarantine", f"{details.waiting:,} wait"))
    if details.history:
        last = details.history[-1]
        way = f"{last.before.value} to {last.after.value}"
        rows.append(("last switch", f"{moment(last.at)}, {way}, by {last.by}"))
    out.facts(rows)
    ahead = details.ahead
    if ahead is not None:
        from pend_storage.cli.phase import show_obstacles

        if ahead.ready:
            out.line(f"ready for {ahead.phase.value}", style="ok")
        else:
            out.line(f"not ready for {ahead.phase.value}:", style="quiet")
            show_obstacles(out, ahead.blockers)


def _validation(fact: Any) -> str:
    if not isinstance(fact, Mapping):
        return "never since the secondary began to follow"
    at, found = moment(str(fact.get("at"))), fact.get("found")
    return f"{at}: clean" if not found else f"{at}: {found:,} records differ"
