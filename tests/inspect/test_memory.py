"""Memory: a large file is inspected in little memory, however small its records are."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pend_storage.inspect import inspect_directory

_TIMES = 6
"""Of the size of the largest file."""


def _record(n: int) -> dict[str, Any]:
    return {"id": n, "name": f"user {n}", "at": "2025-01-20T10:23:20.888Z", "n": [n]}


_FILES: dict[str, Callable[[], Any]] = {
    "records": lambda: [_record(n) for n in range(30_000)],
    "map": lambda: {str(10**16 + n): {"coins": n} for n in range(60_000)},
    "integers": lambda: list(range(400_000)),
    "wrapped": lambda: {"logs": [_record(n) for n in range(30_000)], "n": 1},
    "one long text": lambda: ["x" * 3_000_000],
    "long records": lambda: [{"id": n, "text": "x" * 300_000} for n in range(10)],
}


@pytest.mark.parametrize("kind", _FILES)
def test_the_peak_is_a_few_times_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.json"
    path.parent.mkdir()
    path.write_text(json.dumps(_FILES[kind]()))
    inspect_directory(tmp_path / "data")  # what is imported and compiled is no matter
    gc.collect()

    tracemalloc.start()
    try:
        (file,) = inspect_directory(tmp_path / "data").files
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert file.size == path.stat().st_size
    assert peak <= _TIMES * file.size + 2**20, peak / file.size
