"""Setup of the demo: a server's legacy files, a PostgreSQL, tables, configuration."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pend_storage.cli._output import Output, seconds

if TYPE_CHECKING:
    from pend_storage.config import Settings
    from pend_storage.testing.servers import EmbeddedPostgres

__all__ = ["configure", "create_tables", "invent", "step"]

_IRREGULAR: Final = 0.05
"""Share of irregular records: higher than in production, so that some are seen."""
_DUAL_WRITE: Final = "compare = 0.2  # more than in real life"
_BROKEN: Final = "explorer-data/data-backup.json"
"""Legacy file that is generated as a crash leaves it: half-written."""


class step:  # noqa: N801 - used as a function
    """Context manager that prints the title of a step, and its duration at the end."""

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


def invent(out: Output, directory: Path, users: int) -> None:
    """Generate the legacy files: some records irregular, and one file half-written."""
    from pend_storage.sample_data import Damage, generate

    with step(out, "1. Invent the JSON files of a server"):
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


def configure(
    out: Output, place: Path, stack: ExitStack
) -> tuple[Settings, EmbeddedPostgres]:
    """Start a PostgreSQL server and write the configuration for it.

    Args:
        out: where the step is printed.
        place: directory of the demo.
        stack: stops the server when it is closed.

    Returns:
        The loaded settings, and the server.
    """
    from pend_storage.config import load_settings
    from pend_storage.operations.init import write_config
    from pend_storage.testing.servers import temporary_postgres

    with step(out, "2. Start a PostgreSQL, and write pend.toml"):
        server = stack.enter_context(temporary_postgres())
        file = place / "pend.toml"
        write_config(file, directory=place / "data", database=server.url)
        with file.open("a", encoding="utf-8") as more:
            more.write(f"\n[environments.development.dual_write]\n{_DUAL_WRITE}\n")
    out.line(f"   PostgreSQL {server.version}")
    return load_settings(file, "development", environ={}), server


def create_tables(out: Output, settings: Settings) -> None:
    """Create and seed the tables, as an operator does while the server uses files."""
    from pend_storage.factory import open_postgres
    from pend_storage.operations.seed import seed

    with step(out, "3. Make the tables (db migrate, db seed)"):
        with open_postgres(settings) as store:
            store.migrate()
        seed(settings)
