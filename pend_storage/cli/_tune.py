"""``pend-storage tune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pend_storage._shown import moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.operations.tuning import Knob

__all__ = ["tune"]

_COLUMNS: Final = ["knob", "value", "configured", "set by", "at", "reason"]


@click.command(short_help="Settings of running servers, without a restart.")
@click.argument("name", metavar="[NAME]", required=False)
@click.argument("value", metavar="[VALUE]", type=float, required=False)
@click.option("--reset", is_flag=True, help="Let the configuration decide again.")
@click.option("--by", metavar="NAME", help="Who sets it; this user, if not given.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the record.")
@pass_session
def tune(
    session: Session,
    name: str | None,
    value: float | None,
    by: str | None,
    reason: str,
    *,
    reset: bool,
) -> Exit:
    """Show the knobs of the environment, or set one for all of its running processes.

    They follow within 2 seconds. A knob survives restarts and switches, and counts before
    pend.toml until it is reset.
    """
    _require_one_way(name, value, reset=reset)
    if value is None and not reset:
        return _show(session, name)
    return _set(session, name or "", value, by=by, reason=reason)


def _require_one_way(name: str | None, value: float | None, *, reset: bool) -> None:
    if reset and (name is None or value is not None):
        raise click.UsageError("--reset takes the name of a knob, and no value.")


def _show(session: Session, name: str | None) -> Exit:
    from pend_storage.factory import load_schema
    from pend_storage.operations.tuning import find_knob, read_knobs

    settings = session.settings
    found = read_knobs(settings)
    if name is not None:
        found = (find_knob(load_schema(settings).schema, found, name),)
    session.output.table(_COLUMNS, [_row(knob) for knob in found])
    if name is not None:
        session.output.line(found[0].meaning, style="quiet")
    return session.finish(Exit.DONE, {"knobs": found})


def _set(
    session: Session, name: str, value: float | None, *, by: str | None, reason: str
) -> Exit:
    from pend_storage._model.attribution import current_actor
    from pend_storage.factory import open_pair
    from pend_storage.operations.tuning import reset_knob, set_knob

    settings = session.settings_to_change
    actor = by or current_actor()
    with open_pair(settings) as pair:
        if value is None:
            knob = reset_knob(pair, name, by=actor, reason=reason, settings=settings)
            text = f"{knob.name} is reset: the configuration decides"
        else:
            knob = set_knob(
                pair, name, value, by=actor, reason=reason, settings=settings
            )
            text = f"{knob.name} is {value:g}"
    session.output.line(f"{text}; running processes follow within 2 s", style="ok")
    return session.finish(Exit.DONE, {"knob": knob})


def _row(knob: Knob) -> tuple[str, ...]:
    return (
        knob.name,
        _number(knob.value),
        _number(knob.configured),
        knob.by or "",
        "" if knob.at is None else moment(knob.at),
        knob.reason or "",
    )


def _number(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g}"
