"""The command line over the directories of servers that are not Pend's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.cli.conftest import (
    Site,
    make_server,
    sample,
    server,
    site,
)

__all__ = ["OPENS", "Site", "make_server", "put", "sample", "server", "site"]

OPENS = ("purge", "--older", "999d", "--yes")
"""Command that opens the stores as a server does, and has nothing to do there."""


def put(path: Path, value: Any) -> Path:
    """Write a file as a server with plain json does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
    return path
