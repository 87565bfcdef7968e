"""Unclaimed files: data files below a directory that no layout claims."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from pend_storage._layouts.folders import files_in, is_pattern, matches
from pend_storage.stores.json._store_directory import OWN_DIRECTORY

__all__ = ["DATA", "is_included", "keeper_of", "unclaimed"]

DATA: Final = ("*.json", "*.jsonl", "*.ndjson")
"""Default patterns of data files."""
_OF_TOOLS: Final = frozenset({"node_modules", "__pycache__", "site-packages"})
_COPY: Final = re.compile(r"-backup-\d{8}T\d{6}Z")
"""Part of the name of a backup that this library made."""
_VIRTUAL: Final = "pyvenv.cfg"
"""Marker file at the top of a Python virtual environment."""


def is_included(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    """Return True if patterns include a file; the last one that matches decides.

    Args:
        path: relative to the directory.
        patterns: ``*.json`` matches in every folder, ``/*.json`` in the directory itself
            only; ``!package.json`` excludes what a pattern before it includes. The
            suffix may be in capitals: ``*.json`` matches ``DATA.JSON``.
    """
    spelled, included = PurePosixPath("/", path), False
    usual = spelled.with_suffix(spelled.suffix.lower())
    for pattern in patterns:
        if any(name.match(pattern.removeprefix("!")) for name in (spelled, usual)):
            included = not pattern.startswith("!")
    return included


def unclaimed(
    directory: Path, claimed: Collection[Path], patterns: Sequence[str] = DATA
) -> Iterator[Path]:
    """Walk a directory: yield the data files that no layout claims.

    Skipped: hidden files and folders, packages of Node and Python, virtual environments,
    backups that this library made.

    Args:
        directory: the directory of the legacy files.
        claimed: absolute paths of those that are claimed, or of patterns
            (:func:`~pend_storage._layouts.folders.is_pattern`).
        patterns: of the files that are data.
    """
    if not patterns:
        return
    stars = [p for p in claimed if is_pattern(p.name) and p.parent.is_dir()]
    taken = {*claimed, *(file.path for star in stars for file in files_in(star))}
    for path in _files(directory):
        relative = PurePosixPath(path.relative_to(directory).as_posix())
        if is_included(relative, patterns) and path not in taken:
            yield path


def _files(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(n for n in folders if not _is_skipped(Path(folder, n)))
        yield from (Path(folder, n) for n in sorted(names) if not n.startswith("."))


def _is_skipped(folder: Path) -> bool:
    name = folder.name
    return (
        name.startswith(".")
        or name in _OF_TOOLS
        or _COPY.search(name) is not None
        or (folder / _VIRTUAL).exists()
    )


def keeper_of(
    claimed: Collection[str], patterns: Sequence[str] = DATA
) -> Callable[[Path, PurePosixPath], bool]:
    """Return the filter of a backup: True for a file or folder that is copied.

    Copied are the store's own directory, the claimed files, and data files.

    Args:
        claimed: paths of the claimed files, or patterns, relative to the directory.
        patterns: of the files that are data.

    Returns:
        A function of an entry and its path relative to the directory.
    """
    ways = {parent for name in claimed for parent in PurePosixPath(name).parents}
    files = {PurePosixPath(name) for name in claimed}
    stars = [PurePosixPath(name) for name in claimed if is_pattern(name)]

    def keeps(entry: Path, path: PurePosixPath) -> bool:
        if path.parts[0] == OWN_DIRECTORY or path in files or path in ways:
            return True
        if any(matches(path, star) for star in stars):
            return True
        if entry.is_dir() and not entry.is_symlink():
            return not _is_skipped(entry)
        return not path.name.startswith(".") and is_included(path, patterns)

    return keeps
