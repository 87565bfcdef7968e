"""Directory tree: a scan of a directory that follows no link out of it."""

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
    "scan_tree",
]

Fingerprint: TypeAlias = tuple[int, int, int, int]
"""Inode, size, and the times of the last change of content and of status. Equal
fingerprints mean that the file was not written in between: some tools set the first time
back, but none can set the second."""

Keeps: TypeAlias = Callable[[Path, PurePosixPath], bool]
"""Predicate for the entries of a directory, by the path and by the relative path."""

CONTENT: Final = "data"
"""Folder of the copy for what lies in the directory."""
OUTSIDE: Final = "outside"
"""Folder of the copy for files that do not."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Result of one scan. Names are paths in the copy, with forward slashes."""

    files: Mapping[str, Fingerprint]
    folders: frozenset[str]
    links: Mapping[str, str]
    """Symbolic links and their targets; never followed."""
    others: frozenset[str]
    """Sockets, pipes and devices."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, *_ in self.files.values())


def everything(_entry: Path, _path: PurePosixPath) -> bool:
    """Keep every entry: the default predicate."""
    return True


def fingerprint(found: os.stat_result) -> Fingerprint:
    """Return the fingerprint of a file, which changes with every write."""
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def scan_tree(
    directory: Path, extra: Mapping[str, Path], keeps: Keeps = everything
) -> Tree:
    """Scan a directory, and single files outside of it.

    Args:
        directory: the directory.
        extra: the single files, by name.
        keeps: predicate for the entries of the directory; a folder that it rejects is not
            entered.

    Raises:
        OSError: a folder or a file without the permission to read it.
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
