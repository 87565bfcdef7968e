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
_BESIDE = 2**20 * 2 // 5
"""Bytes beside it."""


def _record(n: int) -> dict[str, Any]:
    return {"id": n, "name": f"user {n}", "at": "2025-01-20T10:23:20.888Z", "n": [n]}


_FILES: dict[str, Callable[[int], Any]] = {
    "records": lambda times: [_record(n) for n in range(300 * times)],
    "map": lambda times: {str(10**16 + n): {"coins": n} for n in range(600 * times)},
    "integers": lambda times: list(range(4_000 * times)),
    "wrapped": lambda times: {"logs": [_record(n) for n in range(300 * times)], "n": 1},
    "one long text": lambda times: ["x" * (30_000 * times)],
    "long records": lambda times: [
        {"id": n, "text": "x" * (3_000 * times)} for n in range(10)
    ],
}
"""Contents of a file by its size: as many times 30,000 bytes, about."""
_LARGE = 40


@pytest.mark.parametrize("kind", _FILES)
def test_the_peak_is_a_few_times_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.json"
    path.parent.mkdir()
    path.write_text(json.dumps(_FILES[kind](1)))
    inspect_directory(tmp_path / "data")  # what is imported and compiled is no matter
    path.write_text(json.dumps(_FILES[kind](_LARGE)))
    gc.collect()

    tracemalloc.start()
    try:
        (file,) = inspect_directory(tmp_path / "data").files
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert file.size == path.stat().st_size
    assert peak <= _TIMES * file.size + _BESIDE, peak / file.size
