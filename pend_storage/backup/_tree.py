"""What is in a directory, without leaving it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

__all__ = [
    "CONTENT",
    "OUTSIDE",
    "Fingerprint",
    "Keeps",
    "Tree",
    "everything",
    "fingerprint",
    "look_at",
]

Fingerprint: TypeAlias = tuple[int, int, int, int]
"""Inode, size, and the times of the last change of content and of status: equal means not
written in between. The last of them cannot be put back, as some tools do with the other."""

Keeps: TypeAlias = Callable[[Path, PurePosixPath], bool]
"""Says of an entry, by its path and by that relative to the directory, whether it counts."""

CONTENT: Final = "data"
"""Folder of the copy for what lies in the directory."""
OUTSIDE: Final = "outside"
"""Folder of the copy for files that do not."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One look at a directory. Names are paths in the copy, with forward slashes."""

    files: Mapping[str, Fingerprint]
    folders: frozenset[str]
    links: Mapping[str, str]
    """Symbolic links and where they lead; never followed."""
    others: frozenset[str]
    """Sockets, pipes and devices."""

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(size for _, size, *_ in self.files.values())


def everything(_entry: Path, _path: PurePosixPath) -> bool:
    """Keeps every entry."""
    return True


def fingerprint(found: os.stat_result) -> Fingerprint:
    """What tells whether a file was written."""
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def look_at(
    directory: Path, extra: Mapping[str, Path], keeps: Keeps = everything
) -> Tree:
    """Look through a directory and at some single files outside of it.

    Args:
        directory: where to look.
        extra: the single files, by name.
        keeps: which entries of the directory to look at.

    Raises:
        OSError: a folder or a file that may not be looked at.
    """
    files: dict[str, Fingerprint] = {}
    folders = {CONTENT}
    links: dict[str, str] = {}
    others: set[str] = set()
    for entry, path in _walk(directory, PurePosixPath(), keeps):
        name = f"{CONTENT}/{path}"
        if entry.is_symlink():
            links[name] = str(Path(entry.path).readlink())
        elif entry.is_dir():
            folders.add(name)
        elif entry.is_file():
            files[name] = fingerprint(entry.stat())
        else:
            others.add(name)
    for name, place in extra.items():
        if place.exists():
            files[f"{OUTSIDE}/{name}"] = fingerprint(place.stat())
    return Tree(files, frozenset(folders), links, frozenset(others))


def _walk(
    directory: Path, path: PurePosixPath, keeps: Keeps
) -> Iterator[tuple[os.DirEntry[str], PurePosixPath]]:
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if not keeps(Path(entry.path), path / entry.name):
                continue
            yield entry, path / entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), path / entry.name, keeps)
