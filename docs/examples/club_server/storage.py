"""Storage of the club: JSON files in one directory."""

from __future__ import annotations

import json
import os
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("CLUB_DATA", "data"))
LOCK = threading.RLock()


def load(name: str, default: Any) -> Any:
    path = DATA / name
    return json.loads(path.read_text()) if path.exists() else default


def save(name: str, value: Any) -> None:
    (DATA / name).write_text(json.dumps(value, indent=2))


def one_at_a_time(name: str) -> AbstractContextManager[Any]:  # noqa: ARG001 - one lock
    return LOCK
