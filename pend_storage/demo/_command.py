"""``pend-storage demo``: a whole migration and back, with clients that never stop."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pend_storage._extras import require_packages
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import Output, seconds
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.config import Settings
    from pend_storage.demo._scenario import Scenario
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
@click.option(
    "--console",
    "in_browser",
    is_flag=True,
    help="Show it in a browser as well: prints the address of a console that only looks.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="PORT",
    help="Port of the console on 127.0.0.1; a free one by default.",
)
@click.option(
    "--no-wait",
    is_flag=True,
    help="With --console: end with the demo, and not at Ctrl-C.",
)
@pass_session
def demo(
    session: Session,
    users: int,
    pace: float,
    keep: Path | None,
    port: int,
    *,
    in_browser: bool,
    no_wait: bool,
) -> Exit:
    """Move a busy server from JSON files to PostgreSQL, all the way back, and forward.

    Writers and readers work in processes of their own, and never stop: while phases
    change, while one of them is killed, while PostgreSQL crashes and is restarted. At
    the end everything that was acknowledged is looked for. All of it happens in a
    temporary directory, on a server of its own, and is gone afterwards. With --console,
    the same environment is shown in a browser.
    """
    started = time.monotonic()
    out = session.output
    require_packages(
        "psycopg", "sqlalchemy", "alembic", "rich", "tomlkit", extra="demo"
    )
    if in_browser:
        require_packages("starlette", "uvicorn", extra="demo")
    directory = _new_directory(keep)
    try:
        with ExitStack() as stack:
            shown = _Shown(port, waits=not no_wait) if in_browser else None
            result = _run(out, directory, users, pace, stack, shown=shown)
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    ok: bool = result["ok"] is True
    took = time.monotonic() - started
    out.line()
    out.line(
        f"{'All is well' if ok else 'Something is not right'}; {seconds(took)} in all. "
        + ("Everything is cleaned up." if keep is None else f"See {directory}."),
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


class _Shown(NamedTuple):
    """Console that is wanted beside the output."""

    port: int
    waits: bool
    """Whether it stays open after the demo, until Ctrl-C."""

    def open(self, out: Output, settings: Settings, stack: ExitStack) -> None:
        """Serve it until the stack is closed, and print its address."""
        from pend_storage.demo._console import console_of

        url = stack.enter_context(console_of(settings, self.port))
        out.note(f"Open {url} in a browser, to watch it there.")

    def wait(self, out: Output) -> None:
        """Keep it open until SIGINT or SIGTERM, if that is wanted."""
        from pend_storage.cli._status import ended_by_signals

        if self.waits:
            out.note("The demo has ended; the console stays open until Ctrl-C.")
            with ended_by_signals() as ended:
                ended.wait()


def _run(
    out: Output,
    directory: Path,
    users: int,
    pace: float,
    stack: ExitStack,
    *,
    shown: _Shown | None,
) -> dict[str, Any]:
    """Run every step of the demo; return the members of its JSON document."""
    from pend_storage.demo._proof import prove
    from pend_storage.demo._report import show_proof
    from pend_storage.demo._scenario import Scenario
    from pend_storage.demo._setup import configure, create_tables, invent
    from pend_storage.demo._workers import Workers
    from pend_storage.factory import open_pair
    from pend_storage.flags import FileFlag

    invent(out, directory / "data", users)
    settings, server = configure(out, directory, stack)
    create_tables(out, settings)
    if shown is not None:
        shown.open(out, settings, stack)
    assert settings.file is not None  # noqa: S101 - configure() loaded it from a file
    workers = Workers(settings.file, directory)
    flag = FileFlag(settings.file, settings.environment)
    reported: list[Event] = []
    with open_pair(settings, hook=reported.append) as store:
        answer = _migrate(out, settings, Scenario(store, flag, server, workers, pace))
        history = store.history()
        proof, checked = prove(settings, store, workers)
    show_proof(out, proof, checked, history)
    if shown is not None:
        shown.wait(out)
    answer["ok"] = answer["ok"] and proof.ok
    return answer | {
        "switches": history,
        "proof": proof,
        "validation": checked,
        "events": [event.message for event in reported],
    }


def _migrate(
    out: Output,
    settings: Settings,
    scenario: Scenario,
) -> dict[str, Any]:
    """Run the scenario, then print the backfill, the quarantine and the queries.

    Returns:
        The members of the JSON document that describe the migration.
    """
    from pend_storage.demo._dashboard import Dashboard
    from pend_storage.demo._queries import compare_queries, show_queries
    from pend_storage.demo._report import show_backfill, show_quarantine
    from pend_storage.factory import open_json, open_postgres
    from pend_storage.operations.quarantine import list_quarantined

    dashboard = Dashboard(out, scenario.store, scenario.workers)
    out.line()
    out.line("4. Migrate, while clients write and read all the time", style="title")
    try:
        with dashboard.shown():
            for act in scenario.acts():
                dashboard.run(act)
    finally:
        scenario.workers.stop()
    assert scenario.copied is not None  # noqa: S101 - one of the acts
    show_backfill(out, scenario.copied)
    waiting = list_quarantined(scenario.store)
    show_quarantine(out, waiting)
    out.line()
    out.line("7. The same questions to both stores", style="title")
    with open_json(settings) as json, open_postgres(settings) as postgres:
        queries = compare_queries(json, postgres)
    show_queries(out, queries)
    return {
        "ok": all(q.equal for q in queries),
        "files": scenario.copied.files,
        "collections": scenario.copied.collections,
        "quarantined": waiting,
        "queries": queries,
    }
