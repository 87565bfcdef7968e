"""Sample environment for the console: ``python -m pend_storage.console.sample``.

It has a PostgreSQL of its own, invented records, quarantined ones, a divergence, a backup,
and some traffic, so that every screen has something to show. For trying the page and for
tests in a browser; it is gone when the process ends.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg

from pend_storage.config import Settings, load_settings
from pend_storage.console._serving import Logins, parse_listen, serve
from pend_storage.factory import open_pair, open_postgres
from pend_storage.operations.migrate_json import migrate_json
from pend_storage.operations.seed import seed
from pend_storage.pend import User
from pend_storage.phases import Phase
from pend_storage.sample_data import generate
from pend_storage.testing.servers import temporary_postgres

__all__ = ["build", "main"]

_TOML: Final = """\
[environments.{environment}]
phase = "parallel"
schema = "pend_storage.pend"
[environments.{environment}.json]
directory = "data"
[environments.{environment}.postgres]
url = {url!r}
[environments.{environment}.backup]
repository = {repository!r}
"""
_USERS: Final = 40
_IRREGULAR: Final = 0.05
_PAUSE: Final = 0.5
"""Seconds between two writes of the sample's server."""


@contextmanager
def build(
    folder: Path,
    *,
    environment: str = "production",
    url: str | None = None,
    phase: Phase = Phase.PARALLEL,
    users: int = _USERS,
    backed_up: bool = True,
) -> Iterator[Settings]:
    """Build an environment in a folder, and give its settings.

    Args:
        folder: empty; it gets ``pend.toml``, the JSON directory and the backups.
        environment: its name.
        url: of an empty database; None: a server of its own is started.
        phase: the phase that it is brought to.
        users: number of the invented users.
        backed_up: make a backup, and verify it.
    """
    with ExitStack() as stack:
        if url is None:
            url = stack.enter_context(temporary_postgres()).url
        generate(folder / "data", users=users, irregular=_IRREGULAR)
        file = folder / "pend.toml"
        repository = str(folder / "backups")
        file.write_text(
            _TOML.format(environment=environment, url=url, repository=repository)
        )
        settings = load_settings(file, environment, environ={})
        _fill(settings, phase, backed_up=backed_up)
        yield settings


def _fill(settings: Settings, phase: Phase, *, backed_up: bool) -> None:
    """Bring the environment to a phase, as an operator does, and damage a record."""
    with open_postgres(settings) as database:
        database.migrate()
    seed(settings)
    migrate_json(settings, backup=False)
    with open_pair(settings) as pair:
        for step in (Phase.PARALLEL, phase):
            if step.position > pair.phase.position:
                if step is not Phase.PARALLEL:
                    pair.backfill()
                    pair.validate()
                pair.switch(step, accept=("quarantine", "backup"), by="the sample")
        pair.backfill()
        if phase is Phase.PARALLEL:
            _diverge(settings)
            pair.validate()
    if backed_up:
        from pend_storage.operations.backup.create import (  # noqa: PLC0415 - slow
            create_backup,
        )

        create_backup(settings, label="sample")


def _diverge(settings: Settings) -> None:
    """Change a row of the database by hand, as no server does: so there is a divergence."""
    with psycopg.connect(settings.require_postgres().full_url) as connection:
        connection.execute(
            "update users set tier = coalesce(tier, 0) + 1 where id in "
            "(select id from users order by id limit 1)"
        )


class Traffic:
    """Traffic of an invented server: one write now and then."""

    def __init__(self, settings: Settings) -> None:
        """Args: settings: of the environment."""
        self._settings = settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        with open_pair(self._settings, serving=True) as pair:
            users = pair.collection(User)
            keys = [user.id for user in users.find(limit=20).items]
            for turn in range(10**9):
                if self._ended.wait(_PAUSE):
                    return
                user = users.get(keys[turn % len(keys)])
                if user is not None:
                    with pair.acting(by="the sample's server"):
                        users.put(replace(user, tier=(user.tier or 0) % 3 + 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the sample, and serve its console until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m pend_storage.console.sample",
        description="Serve the console of an invented environment.",
    )
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--environment", default="production", metavar="NAME")
    parser.add_argument("--phase", default="parallel", choices=[*map(str, Phase)])
    parser.add_argument("--database", metavar="URL", help="an empty database")
    parser.add_argument("--users", type=int, default=_USERS)
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--quiet-server", action="store_true", help="without traffic")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = stack.enter_context(
            build(
                folder,
                environment=options.environment,
                url=options.database,
                phase=Phase(options.phase),
                users=options.users,
            )
        )
        if not options.quiet_server:
            stack.enter_context(Traffic(settings))
        serve(
            settings,
            parse_listen(options.listen),
            Logins(),
            read_only=options.read_only,
            headless=False,
            hosts=(),
            runbook=None,
            on_ready=lambda url: print(url, file=sys.stdout, flush=True),  # noqa: T201
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
