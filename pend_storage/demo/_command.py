"""``pend-storage demo``: a whole migration and back, with clients that never stop."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pend_storage._extras import require_packages
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.config import Settings
    from pend_storage.demo._scenario import Walk
    from pend_storage.events import Event

__all__ = ["demo"]


@click.command(short_help="See a whole migration, and back, on invented data.")
@click.option(
    "--users",
    type=click.IntRange(1, 100_000),
    default=139,
    show_default=True,
    help="How many users to invent.",
)
@click.option(
    "--pace",
    type=click.FloatRange(0, 10),
    default=1.0,
    show_default=True,
    help="How long to let the clients work between two events.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Leave files and configuration in this new directory.",
)
@pass_session
def demo(session: Session, users: int, pace: float, keep: Path | None) -> Exit:
    """Move a busy server from JSON files to PostgreSQL, all the way back, and forward.

    Writers and readers work in processes of their own, and never stop: while phases
    change, while one of them is killed, while PostgreSQL crashes and is restarted. At
    the end everything that was acknowledged is looked for. All of it happens in a
    temporary directory, on a server of its own, and is gone afterwards.
    """
    started = time.monotonic()
    out = session.output
    require_packages(
        "psycopg", "sqlalchemy", "alembic", "rich", "tomlkit", extra="demo"
    )
    place = _new_directory(keep)
    try:
        with ExitStack() as stack:
            result = _run(out, place, users, pace, stack)
    finally:
        if keep is None:
            shutil.rmtree(place, ignore_errors=True)
    ok: bool = result["ok"] is True
    took = time.monotonic() - started
    out.line()
    out.line(
        f"{'All is well' if ok else 'Something is not right'}; {seconds(took)} in all. "
        + ("Everything is cleaned up." if keep is None else f"See {place}."),
        style="ok" if ok else "fail",
    )
    return session.finish(
        Exit.DONE if ok else Exit.FOUND, {"result": result, "seconds": took}
    )


def _new_directory(keep: Path | None) -> Path:
    from pend_storage.errors import ConfigError

    if keep is None:
        return Path(tempfile.mkdtemp(prefix="pend-demo-"))
    if keep.exists() and any(keep.iterdir()):
        raise ConfigError(f"{keep} is not empty. Name a new directory.")
    keep.mkdir(parents=True, exist_ok=True)
    return keep


def _run(
    out: Output, place: Path, users: int, pace: float, stack: ExitStack
) -> dict[str, Any]:
    """Every step of the demo; gives what the JSON document shows."""
    from pend_storage.demo._proof import prove
    from pend_storage.demo._report import show_proof
    from pend_storage.demo._scenario import Walk
    from pend_storage.demo._setup import configure, invent, make_tables
    from pend_storage.demo._workers import Crew
    from pend_storage.factory import open_pair
    from pend_storage.flags import FileFlag

    invent(out, place / "data", users)
    settings, server = configure(out, place, stack)
    make_tables(out, settings)
    assert settings.file is not None  # noqa: S101 - it has just been written
    crew = Crew(settings.file, place)
    flag = FileFlag(settings.file, settings.environment)
    told: list[Event] = []
    with open_pair(settings, hook=told.append) as store:
        answer = _migrate(out, settings, Walk(store, flag, server, crew, pace))
        history = store.history()
        proof, checked = prove(settings, store, crew)
    show_proof(out, proof, checked, history)
    answer["ok"] = answer["ok"] and proof.ok
    return answer | {
        "switches": history,
        "proof": proof,
        "validation": checked,
        "events": [event.message for event in told],
    }


def _migrate(
    out: Output,
    settings: Settings,
    walk: Walk,
) -> dict[str, Any]:
    """The walk through the phases, and what it brought over."""
    from pend_storage.demo._dashboard import Screen
    from pend_storage.demo._queries import compare_queries, show_queries
    from pend_storage.demo._report import show_copied, show_quarantine
    from pend_storage.factory import open_json, open_postgres
    from pend_storage.operations.quarantine import list_quarantined

    screen = Screen(out, walk.store, walk.crew)
    out.line()
    out.line("4. Migrate, while clients write and read all the time", style="title")
    try:
        with screen.shown():
            for act in walk.acts():
                screen.run(act)
    finally:
        walk.crew.stop()
    assert walk.copied is not None  # noqa: S101 - one of the acts
    show_copied(out, walk.copied)
    waiting = list_quarantined(walk.store)
    show_quarantine(out, waiting)
    out.line()
    out.line("7. The same questions to both stores", style="title")
    with open_json(settings) as json, open_postgres(settings) as postgres:
        queries = compare_queries(json, postgres)
    show_queries(out, queries)
    return {
        "ok": all(q.equal for q in queries),
        "files": walk.copied.files,
        "collections": walk.copied.collections,
        "quarantined": waiting,
        "queries": queries,
    }
