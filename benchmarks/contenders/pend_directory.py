"""The JSON directory of an invented Pend server, generated once for all contenders."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.workbench import Workbench
from pend_storage.sample_data import generate

__all__ = ["copy_of", "legacy_files", "pend_directory"]

_EVENTS_PER_USER = 100


def pend_directory(bench: Workbench, events: int) -> Path:
    """A directory with so many events in its log; do not change it.

    One record in a hundred is irregular, as in the directories that it stands for.
    """
    name = f"pend-{events}"
    path, filled = bench.kept(name)
    if not filled:
        users = max(1, events // _EVENTS_PER_USER)
        generate(path, users=users, events=events, irregular=0.01)
        bench.fill(name)
    return path


def copy_of(bench: Workbench, source: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(source, bench.directory("copy"), dirs_exist_ok=True)


def legacy_files(directory: Path) -> list[Path]:
    """Every legacy file of a directory."""
    return sorted(
        path
        for path in directory.rglob("*.json")
        if ".pend-storage" not in path.relative_to(directory).parts
    )
