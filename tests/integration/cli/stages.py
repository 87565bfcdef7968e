"""Bringing a site into a phase quickly, and servers that use it meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pend_storage.config import Settings, load_settings
from pend_storage.dualwrite import CODES
from pend_storage.factory import open_pair
from pend_storage.operations.migrate_json import migrate_json
from pend_storage.operations.phase import change_phase
from pend_storage.phases import Phase

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site

__all__ = [
    "DOWN",
    "Server",
    "bring_to",
    "eventually",
    "phase_of",
    "roles_of",
    "serving",
    "settings_of",
    "without_jobs",
]

DOWN = "postgresql://127.0.0.1:1/none"
"""An unreachable database."""

_SERVER = """
import itertools, pathlib, sys, time
import pend_storage as ps

stop, log = pathlib.Path(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
with ps.open_store("pend.toml") as store:
    wallets = store.legacy("wallet-db.json")
    print("up", flush=True)
    for n in itertools.count():
        if stop.exists():
            break
        key = f"0x{n:064x}"
        wallets[key] = f"0x{n:040x}"
        assert wallets[key] == f"0x{n:040x}"  # it reads its own writes
        log.write(f"{key}\\n")
        time.sleep(0.01)
"""


def settings_of(site: Site, **environ: str) -> Settings:
    return load_settings(site.config, environ=environ)


def bring_to(site: Site, phase: Phase) -> None:
    """Migrate, and move to a phase; in this process, which is quicker than commands."""
    settings = settings_of(site)
    migrate_json(settings, backup=False)
    change_phase(settings, Phase.PARALLEL)
    if phase is not Phase.PARALLEL:
        result = change_phase(settings, phase, accept=CODES)
        assert result.after is phase, result


def phase_of(site: Site, **environ: str) -> Phase:
    with open_pair(settings_of(site, **environ)) as pair:
        return pair.phase


def roles_of(site: Site) -> tuple[Any, Any]:
    with open_pair(settings_of(site)) as pair:
        view = pair.roles()
        return view.json, view.postgres


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.05)


class Server:
    """A process that writes wallets without a pause, and reads them."""

    def __init__(self, site: Site, process: subprocess.Popen[str], log: Path) -> None:
        self._site = site
        self._log = log
        self.process = process

    def acknowledged(self) -> list[str]:
        """Keys whose writes have returned."""
        return self._log.read_text().split() if self._log.exists() else []

    def goes_on(self) -> None:
        """See that it writes now."""
        before = len(self.acknowledged())
        eventually(lambda: len(self.acknowledged()) > before + 3)

    def lost(self) -> set[str]:
        """Acknowledged keys that plain old code does not find in the file."""
        wallets = json.loads((self._site.data / "wallet-db.json").read_bytes())
        return set(self.acknowledged()) - set(wallets)


@contextmanager
def serving(site: Site, **environ: str) -> Iterator[Server]:
    """A server at work; it must end well."""
    stop, log = site.path / "stop", site.path / "acknowledged"
    stop.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(stop), str(log)],
        cwd=site.path,
        env=site.environment(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", process.stderr
        yield Server(site, process, log)
        stop.touch()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()


def without_jobs(tables: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows of all tables but for what the record of the jobs writes.

    That is its meta entry, and the place of the database, which the first write records.
    """
    written = ("(jobs,", "(postgres.home,")
    return {
        table: [row for row in rows if not str(row[0]).startswith(written)]
        for table, rows in tables.items()
    }
