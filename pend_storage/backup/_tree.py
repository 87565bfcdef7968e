"""Directory tree: a scan of a directory that follows no link out of it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, TypeAlias

from pend_storage._files.directory import Directory
from pend_storage._files.linked import LinkedFile
from pend_storage._files.subtree import require_relative

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
        ConfigError: the name of a single file is absolute, or has ``..`` in it.
    """
    files: dict[str, Fingerprint] = {}
    folders = {CONTENT}
    links: dict[str, str] = {}
    others: set[str] = set()
    with Directory(directory) as root:
        for entry in _walk(root, PurePosixPath(), keeps):
            name = f"{CONTENT}/{entry.path}"
            if entry.leads_to is not None:
                links[name] = entry.leads_to
            elif stat.S_ISDIR(entry.status.st_mode):
                folders.add(name)
            elif stat.S_ISREG(entry.status.st_mode):
                files[name] = fingerprint(entry.status)
            else:
                others.add(name)
    for name, place in extra.items():
        require_relative(name, Path(OUTSIDE))
        with contextlib.suppress(FileNotFoundError), LinkedFile(place) as file:
            status = file.status()
            if status is not None:
                files[f"{OUTSIDE}/{name}"] = fingerprint(status)
    return Tree(files, frozenset(folders), links, frozenset(others))


class _Entry(NamedTuple):
    """Entry of a directory."""

    path: PurePosixPath
    """Relative to the directory that is scanned."""
    status: os.stat_result
    leads_to: str | None
    """Target, if the entry is a symbolic link."""


def _walk(folder: Directory, path: PurePosixPath, keeps: Keeps) -> Iterator[_Entry]:
    for name in sorted(folder.names()):
        if not keeps(folder.path / name, path / name):
            continue
        status = folder.find(name)
        if status is None:
            continue  # removed meanwhile
        is_link = stat.S_ISLNK(status.st_mode)
        leads_to = os.readlink(name, dir_fd=folder.fd) if is_link else None
        yield _Entry(path / name, status, leads_to)
        if stat.S_ISDIR(status.st_mode):
            with folder.directory(name) as inner:
                yield from _walk(inner, path / name, keeps)
