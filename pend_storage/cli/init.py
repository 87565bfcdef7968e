"""``pend-storage init``."""

from __future__ import annotations

from pathlib import Path

import click

from pend_storage.cli.exits import Exit
from pend_storage.cli.session import Session, pass_session

__all__ = ["init"]


@click.command(short_help="Write a configuration file.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The JSON directory.  [default: found by its files, else data]",
)
@click.option("--database", metavar="URL", help="The database; a password is left out.")
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@pass_session
def init(
    session: Session, directory: Path | None, database: str | None, *, force: bool
) -> Exit:
    """Write a commented pend.toml, with the JSON directory found nearby."""
    from pend_storage.operations.init import write_config

    made = write_config(
        Path(session.config or "pend.toml"),
        environment=session.environment,
        directory=directory,
        database=database,
        replace=force,
    )
    out = session.output
    out.line(f"wrote {made.file}, environment {made.environment}", style="ok")
    if made.legacy_files:
        out.line(
            f"JSON directory: {made.directory}, with {len(made.legacy_files)} files of "
            "a Pend server"
        )
    else:
        out.line(f"JSON directory: {made.directory} (no file of a Pend server in it)")
    if made.password_left_out:
        out.line("the password was left out: set DB_PASSWORD in the environment")
    out.line("next: pend-storage doctor")
    return session.finish(Exit.DONE, {"result": made})
