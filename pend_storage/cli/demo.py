"""``pend-storage demo``: the whole migration, on invented data and a server of its own."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pend_storage.cli.exits import Exit
from pend_storage.cli.output import Output, seconds
from pend_storage.cli.session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.config import Settings
    from pend_storage.operations.check import Check
    from pend_storage.operations.migrate_json import JsonMigration
    from pend_storage.records import QuarantinedRecord

__all__ = ["demo"]

_IRREGULAR: Final = 0.05
"""More than in real life: one should see some."""
_BROKEN: Final = "explorer-data/data-backup.json"
"""The file that a crash has left half-written."""


@click.command(short_help="See the whole migration on invented data.")
@click.option(
    "--users",
    type=click.IntRange(1, 100_000),
    default=139,
    show_default=True,
    help="How many users to invent.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Leave files and configuration in this new directory.",
)
@pass_session
def demo(session: Session, users: int, keep: Path | None) -> Exit:
    """Invent a server's JSON files, start a PostgreSQL, migrate, compare, and show.

    Everything happens in a temporary directory and is gone afterwards.
    """
    started = time.monotonic()
    out = session.output
    place = _new_directory(keep)
    try:
        with ExitStack() as stack:
            result = _run(out, place, users, stack)
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


def _run(out: Output, place: Path, users: int, stack: ExitStack) -> dict[str, object]:
    """Every step of the demo; gives what the JSON document shows."""
    from pend_storage.cli.demo_queries import compare_queries, show_queries
    from pend_storage.factory import open_json, open_postgres
    from pend_storage.operations.check import check
    from pend_storage.operations.migrate_json import migrate_json
    from pend_storage.operations.quarantine import list_quarantined
    from pend_storage.operations.seed import seed

    _invent(out, place / "data", users)
    settings = _configure(out, place, stack)
    with _step(out, "3. Make the tables (db migrate, db seed)"):
        with open_postgres(settings) as store:
            store.migrate()
        seed(settings)
    with _step(out, "4. Copy, adopt, and fill the database (migrate json)"):
        migration = migrate_json(settings)
    _show_files(out, migration)
    with _step(out, "5. Compare both sides (db validate)"):
        checked = check(settings)
    _show_check(out, checked)
    with open_json(settings) as json, open_postgres(settings) as postgres:
        waiting = list_quarantined(json)
        _show_quarantine(out, waiting)
        out.line()
        out.line("7. The same questions to both stores", style="title")
        queries = compare_queries(json, postgres)
        show_queries(out, queries)
    return {
        "ok": migration.adds_up and checked.ok and all(q.equal for q in queries),
        "files": migration.files,
        "collections": migration.backfill.collections,
        "quarantined": waiting,
        "validation": checked,
        "queries": queries,
    }


class _step:  # noqa: N801 - used as a function
    """Names a step, and says how long it took."""

    def __init__(self, out: Output, title: str) -> None:
        self._out, self._title = out, title

    def __enter__(self) -> None:
        self._out.line()
        self._out.line(self._title, style="title")
        self._started = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            took = seconds(time.monotonic() - self._started)
            self._out.line(f"   done in {took}", style="quiet")


def _invent(out: Output, directory: Path, users: int) -> None:
    from pend_storage.pend.sample import Damage, generate

    with _step(out, "1. Invent the JSON files of a server"):
        made = generate(
            directory,
            users=users,
            irregular=_IRREGULAR,
            damage={_BROKEN: Damage.HALF_WRITTEN},
        )
    out.line(
        f"   {made.total:,} records in {len(made.records)} files; "
        f"{sum(made.irregular.values()):,} of them irregular in one way or another, and "
        f"{_BROKEN} half-written"
    )


def _configure(out: Output, place: Path, stack: ExitStack) -> Settings:
    from pend_storage.config import load_settings
    from pend_storage.operations.init import write_config
    from pend_storage.testing.servers import temporary_postgres

    with _step(out, "2. Start a PostgreSQL, and write pend.toml"):
        server = stack.enter_context(temporary_postgres())
        file = place / "pend.toml"
        write_config(file, directory=place / "data", database=server.url)
    out.line(f"   PostgreSQL {server.version}")
    return load_settings(file, "development", environ={})


def _show_files(out: Output, migration: JsonMigration) -> None:
    out.table(
        ["legacy file", "read", "written", "quarantined"],
        [(f.file, f.read, f.written, f.quarantined) for f in migration.files],
    )
    tables = migration.backfill.collections
    out.table(
        ["table", "records", "written"],
        [(name, t.rows, t.written) for name, t in tables.items()],
    )


def _show_check(out: Output, checked: Check) -> None:
    same = sum(file.result == "identical" for file in checked.files)
    style = "ok" if checked.ok else "fail"
    out.line(
        f"   {checked.records.checked:,} records compared by value: "
        f"{checked.records.found} differ",
        style=style,
    )
    out.line(
        f"   {len(checked.files)} files made again from PostgreSQL: {same} are the same "
        f"to the byte, {sum(f.result == 'equal' for f in checked.files)} by value, "
        f"{sum(not f.ok for f in checked.files)} are not",
        style=style,
    )


def _show_quarantine(out: Output, waiting: list[QuarantinedRecord]) -> None:
    out.line()
    out.line(f"6. In quarantine, whole: {len(waiting):,} records", style="title")
    out.table(
        ["file", "place", "why"],
        [(r.file, _short(r.place) or "the whole file", r.reason) for r in waiting],
    )


def _short(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:17]}..."  # noqa: PLR2004 - a column
