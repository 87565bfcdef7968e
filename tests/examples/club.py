"""The club's server: a copy of it, before and after it was moved."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.examples.servers import EXAMPLES
from tests.integration.cli.conftest import clean_environment

__all__ = ["FILES", "PAGE", "Club", "blocks"]

PAGE: Final = EXAMPLES.parent / "how-to" / "move-any-server.md"
SOURCE: Final = EXAMPLES / "club_server"
FILES: Final = (
    "economy.json",
    "products.json",
    "orders.json",
    "warnings.json",
    "todos.json",
    "db.json",
    "settings.json",
    "prefixes.json",
    "blocked.json",
    "counter.json",
)
_SERVE: Final = """
import signal, sys, threading
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
import storage
from shop import app
WSGIRequestHandler.log_request = lambda *_: None
server = ThreadedWSGIServer("127.0.0.1", 0, app)
server.daemon_threads = False
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print(server.port, flush=True)
server.serve_forever()
server.server_close()
getattr(storage, "STORE", sys.stdin).close()
"""


def blocks(language: str) -> list[str]:
    """The code blocks of the page in a language."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Club:
    """A copy of the server in a directory of its own."""

    path: Path
    url: str
    """Of its database."""

    @classmethod
    def new(cls, path: Path, url: str) -> Club:
        """Copy the server, and invent its data."""
        shutil.copytree(SOURCE, path, ignore=shutil.ignore_patterns("__pycache__"))
        club = cls(path, url)
        club.run(sys.executable, "sample_data.py", "data")
        return club

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes: the commands are found, and the database."""
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**clean_environment(), "PATH": programs, "PEND_DATABASE_URL": self.url}

    def run(self, *command: str, given: str = "") -> str:
        """Run a command in the directory, which must succeed."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def shell(self, script: str) -> str:
        """Run a block of the page."""
        return self.run("bash", "-euo", "pipefail", "-c", script)

    def apply_diff(self, *, back: bool = False) -> None:
        """Change ``storage.py`` as the page says, or back."""
        (diff,) = blocks("diff")
        options = ["--reverse"] if back else []
        self.run("git", "apply", *options, "-", given=diff)

    def say(self, messages: Sequence[str]) -> list[str]:
        """Answers of the bot, a process of its own, to messages."""
        given = "".join(f"{message}\n" for message in messages)
        return self.run(sys.executable, "bot.py", given=given).splitlines()

    @contextmanager
    def serving(self) -> Iterator[httpx.Client]:
        """A client of the shop, on a free port; the shop must end well."""
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, process.communicate()[1]
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=60
            ) as client:
                yield client
            process.terminate()
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            assert "Traceback" not in errors, errors
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def contents(self) -> dict[str, Any]:
        """Content of the ten files, as old code reads it."""
        return {n: json.loads((self.path / "data" / n).read_bytes()) for n in FILES}
