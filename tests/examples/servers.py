"""The example servers as processes of their own, started as their pages say."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from tests.integration.cli.conftest import clean_environment

__all__ = [
    "EXAMPLES",
    "FASTAPI",
    "FLASK",
    "STEPS",
    "everything",
    "legacy_files",
    "running",
]

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"
FLASK: Final = EXAMPLES / "flask_server"
STEPS: Final = tuple(sorted(FLASK.glob("step_*.py")))
FASTAPI: Final = EXAMPLES / "fastapi_server"

_FILES: Final = (
    "wallet-db.json",
    "uploads/kyc/metadata.json",
    "admin-logs.json",
    "explorer-data/transactions-log.json",
)


@contextmanager
def running(script: Path, config: Path | None = None) -> Iterator[httpx.Client]:
    """A client of a server on a free port; what data it invents is removed afterwards.

    Args:
        script: what is started.
        config: ``pend.toml``; None: the server invents its data.
    """
    with TemporaryDirectory() as scratch, _running(script, config, scratch) as client:
        yield client


@contextmanager
def _running(script: Path, config: Path | None, scratch: str) -> Iterator[httpx.Client]:
    """The same; the server must end well on SIGTERM."""
    given = [] if config is None else ["--config", str(config)]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script), "--port", "0", *given],
        env={**clean_environment(), "TMPDIR": scratch},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        found = re.fullmatch(r"serving (.+) on (http://127\.0\.0\.1:\d+)\n", told)
        assert found is not None, told + process.communicate()[1]
        with httpx.Client(base_url=found[2], timeout=60) as client:
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
