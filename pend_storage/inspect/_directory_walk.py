"""Directory walk: find the JSON files to inspect, without a link out of the directory."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pend_storage._shown import listed
from pend_storage.inspect._model import Hazard, Severity
from pend_storage.inspect._name_heuristics import name_text

__all__ = ["Found", "find_files"]

_ENDINGS: Final = (".json", ".jsonl", ".ndjson")
_SKIPPED: Final = frozenset({"node_modules", "__pycache__"})
_TOOLS: Final = frozenset(
    {
        "composer.json",
        "deno.json",
        "jsconfig.json",
        "package-lock.json",
        "package.json",
        "tsconfig.json",
    }
)
"""Files of build tools. They are data only where ``--files`` names them."""


@dataclass(frozen=True, slots=True)
class Found:
    """Regular file to inspect."""

    path: Path
    name: str
    """Path relative to the directory, with ``/``."""
    size: int


@dataclass(slots=True)
class _Walk:
    """Walk through a directory, with the paths that were skipped, by hazard code."""

    root: Path
    patterns: Sequence[str]
    visited: set[tuple[int, int]] = field(default_factory=set)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, code: str, path: Path) -> None:
        self.skipped.setdefault(code, []).append(self.name(path))

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


_SENTENCES: Final = {
    "link-loop": (
        Severity.NOTE,
        "a link leads to a folder above it, and was not followed",
    ),
    "link-outside": (
        Severity.NOTE,
        "a link leads out of the directory, and was not followed: inspect its target",
    ),
    "broken-link": (Severity.NOTE, "a link leads nowhere"),
    "no-permission": (
        Severity.FILE,
        "it may not be read: give the right to the user who inspects and runs the server",
    ),
    "not-a-file": (Severity.NOTE, "it is no regular file, and was not opened"),
}


def find_files(
    directory: Path, patterns: Sequence[str] = ()
) -> tuple[list[Found], list[Hazard]]:
    """Find the JSON files below a directory.

    Returns:
        The files, by name, and a hazard for each reason why paths were skipped.

    Args:
        directory: the root of the walk.
        patterns: only files whose name or path below the directory matches one of
            these; if empty, files that end with ``.json``, ``.jsonl`` or ``.ndjson``
            and do not belong to a build tool.
    """
    walk = _Walk(directory, patterns)
    found = sorted(_files(walk, directory), key=lambda file: file.name)
    hazards = [
        Hazard(
            code,
            severity,
            len(names),
            f"{sentence}: {listed(map(name_text, sorted(names)))}",
        )
        for code, (severity, sentence) in _SENTENCES.items()
        if (names := walk.skipped.get(code))
    ]
    return found, hazards


def _files(walk: _Walk, folder: Path) -> Iterator[Found]:
    folders = [folder]
    while folders:
        here = folders.pop()
        try:
            status = here.stat()
            # Two links may lead to one folder; its files are one.
            if (status.st_dev, status.st_ino) in walk.visited:
                continue
            walk.visited.add((status.st_dev, status.st_ino))
            entries = sorted(here.iterdir())
        except OSError:
            walk.skip("no-permission", here)
            continue
        for path in entries:
            if _is_folder(path):
                if not _is_skipped(path) and _may_be_followed(walk, path):
                    folders.append(path)
            elif _is_wanted(walk, path) and (file := _regular(walk, path)):
                yield file


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _is_skipped(path: Path) -> bool:
    name = path.name
    return (
        name.startswith(".")
        or name in _SKIPPED
        or "-backup-" in name
        or (path / "pyvenv.cfg").exists()
    )


def _may_be_followed(walk: _Walk, path: Path) -> bool:
    if not path.is_symlink():
        return True
    target, root = path.resolve(), walk.root.resolve()
    if path.parent.resolve().is_relative_to(target):
        walk.skip("link-loop", path)
        return False
    if not target.is_relative_to(root):
        walk.skip("link-outside", path)
        return False
    return True


def _is_wanted(walk: _Walk, path: Path) -> bool:
    if walk.patterns:
        name = walk.name(path)
        return any(
            fnmatch.fnmatchcase(name, pattern)
            or fnmatch.fnmatchcase(path.name, pattern)
            for pattern in walk.patterns
        )
    return (
        path.suffix.lower() in _ENDINGS
        and path.name not in _TOOLS
        and not path.name.startswith(".")
    )


def _regular(walk: _Walk, path: Path) -> Found | None:
    try:
        status = path.stat()
    except OSError as error:
        loop = isinstance(error, RuntimeError) or "loop" in str(error.strerror or "")
        code = "link-loop" if loop or "symbolic" in str(error) else "broken-link"
        walk.skip("no-permission" if isinstance(error, PermissionError) else code, path)
        return None
    if path.is_symlink() and not path.resolve().is_relative_to(walk.root.resolve()):
        walk.skip("link-outside", path)
        return None
    if not stat.S_ISREG(status.st_mode):
        walk.skip("not-a-file", path)
        return None
    if not os.access(path, os.R_OK):
        walk.skip("no-permission", path)
        return None
    return Found(path, walk.name(path), status.st_size)
