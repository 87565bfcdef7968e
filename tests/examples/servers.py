"""The example servers as processes of their own, started as their pages say."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from tests.integration.cli.conftest import clean_environment

__all__ = [
    "ADMINS",
    "EXAMPLES",
    "FASTAPI",
    "FLASK",
    "STEPS",
    "as_admin",
    "everything",
    "legacy_files",
    "running",
]

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"
FLASK: Final = EXAMPLES / "flask_server"
STEPS: Final = tuple(sorted(FLASK.glob("step_*.py")))
FASTAPI: Final = EXAMPLES / "fastapi_server"

ADMINS: Final = ("ada", "bob", *(path.name for path in STEPS))
"""Administrators whose tokens the servers know."""
_FILES: Final = (
    "wallet-db.json",
    "uploads/kyc/metadata.json",
    "admin-logs.json",
    "explorer-data/transactions-log.json",
)


def as_admin(name: str = "ada") -> dict[str, str]:
    """Headers of a request of an administrator."""
    return {"Authorization": f"Bearer {_token(name)}"}


def _token(name: str) -> str:
    return f"{name:-<40}"


@contextmanager
def running(
    script: Path,
    config: Path | None = None,
    *options: str,
    admins: Sequence[str] = ADMINS,
) -> Iterator[httpx.Client]:
    """A client of a server, as the administrator ada; invented data is removed at the end.

    Args:
        script: what is started, on a free port.
        config: ``pend.toml``; None: the server invents its data.
        options: further ones of the command.
        admins: whose tokens the server knows.
    """
    tokens = " ".join(f"{name}:{_token(name)}" for name in admins)
    with TemporaryDirectory() as scratch:
        extra = {"TMPDIR": scratch, "ADMIN_TOKENS": tokens}
        with _running(script, config, options, extra) as client:
            yield client


@contextmanager
def _running(
    script: Path, config: Path | None, options: Sequence[str], extra: dict[str, str]
) -> Iterator[httpx.Client]:
    """The same; the server must end well on SIGTERM."""
    given = [*options] if config is None else ["--config", str(config), *options]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script), "--port", "0", *given],
        env={**clean_environment(), **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        found = re.fullmatch(r"serving (.+) on (http://127\.0\.0\.1:\d+)\n", told)
        assert found is not None, told + process.communicate()[1]
        with httpx.Client(base_url=found[2], timeout=60, headers=as_admin()) as client:
            client.headers["X-Place"] = found[1]
            yield client
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in {0, -signal.SIGTERM}, errors
        assert "Traceback" not in errors, errors
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def everything(client: httpx.Client, path: str, *, limit: int = 7) -> list[Any]:
    """The items of all pages, as a client finds them that follows the cursor."""
    items: list[Any] = []
    params: dict[str, Any] = {"limit": limit}
    while True:
        answer = client.get(path, params=params)
        assert answer.status_code == httpx.codes.OK, answer.text
        page = answer.json()
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        params["after"] = page["next"]


def legacy_files(directory: Path) -> dict[str, Any]:
    """Content of the server's files, as old code reads it."""
    return {name: json.loads((directory / name).read_bytes()) for name in _FILES}
