"""``pend-storage init``."""

from __future__ import annotations

from pathlib import Path

import click

from pend_storage._shown import listed
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

__all__ = ["init"]


@click.command(short_help="Write a configuration file.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The JSON directory; it must exist.  [default: found by its files, else data]",
)
@click.option(
    "--database",
    metavar="URL",
    help="The database; a password is left out.  [default: url_env, where "
    "PEND_DATABASE_URL is set]",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@pass_session
def init(
    session: Session,
    directory: Path | None,
    database: str | None,
    *,
    force: bool,
) -> Exit:
    """Write a commented pend.toml, with the JSON directory found nearby.

    Of the directory of a server that is not Pend's the records must be declared first:
    pend-storage inspect DIR --out schema.py; then name that module by --schema.
    """
    from pend_storage.operations.init import write_config

    file = Path(session.config or "pend.toml").absolute()
    session.act_as_owner(file.parent, file)
    made = write_config(
        file,
        environment=session.environment,
        directory=directory,
        database=database,
        schema=session.schema,
        replace=force,
    )
    out = session.output
    out.line(f"wrote {made.file}, environment {made.environment}", style="ok")
    out.line(
        f"JSON directory: {made.directory}; {len(made.legacy_files)} of its files are "
        f"declared in {made.schema}"
    )
    if made.unclaimed:
        out.line(
            f"claimed by no layout: {listed(made.unclaimed)}. Declare them, or inspect them: "
            f"pend-storage inspect {made.directory}",
            style="warn",
        )
    if made.url_from is not None:
        out.line(f"database: the environment variable {made.url_from}")
    if made.password_left_out:
        out.line("the password was left out: set DB_PASSWORD in the environment")
    out.line("next: pend-storage doctor")
    return session.finish(Exit.DONE, {"result": made})
