"""Access by path: opens the directory of a path, and does one thing in it.

For rare work. A caller with several files in a directory holds a
:class:`~pend_storage._files.directory.Directory`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pend_storage._files.directory import Directory
from pend_storage._files.linked import LinkedFile
from pend_storage._files.trust import LARGEST_FILE

__all__ = [
    "make_directories",
    "open_file",
    "read_file",
    "read_linked",
    "read_system_file",
    "replace_file",
    "sync_directory",
    "unlink",
]


def open_file(path: Path, *, write: bool = False) -> int:
    """Open an own file as :meth:`Directory.open_file`; return the descriptor."""
    with Directory(path.parent) as directory:
        return directory.open_file(path.name, write=write)


def read_file(path: Path, *, limit: int = LARGEST_FILE) -> bytes:
    """Return the content of an own file.

    Args:
        path: of the file; the last name must not be a link.
        limit: bytes to read at most.

    Raises:
        ConfigError: it is a link or no regular file, has several names, belongs to
            another user, or is larger.
        FileNotFoundError: it is missing.
    """
    with Directory(path.parent) as directory:
        return directory.read(path.name, limit=limit)


def read_linked(path: Path, *, limit: int = LARGEST_FILE) -> bytes:
    """Return the content of a file of other programs, at the end of a path with links.

    Args:
        path: of the file.
        limit: bytes to read at most.

    Raises:
        ConfigError: it is no regular file, is larger, or another user may have planted it.
        FileNotFoundError: it is missing.
    """
    with LinkedFile(path) as file:
        return file.read(limit)


def replace_file(
    path: Path, chunks: Iterable[bytes], *, model: os.stat_result | None = None
) -> None:
    """Replace an own file atomically and durably, as :meth:`Directory.replace`."""
    with Directory(path.parent) as directory:
        directory.replace(path.name, chunks, model=model)


def unlink(path: Path) -> None:
    """Delete a file, or a link, if it exists."""
    with contextlib.suppress(FileNotFoundError), Directory(path.parent) as directory:
        directory.unlink(path.name)


def sync_directory(path: Path) -> None:
    """Sync the names in a directory to the disk."""
    with Directory(path) as directory:
        directory.sync()


def read_system_file(path: Path) -> bytes:
    """Return the content of a file of the kernel, in ``/proc`` or ``/sys``."""
    return path.read_bytes()


def _for_owner_only(made: Directory, parent: Directory) -> None:
    made.adopt_folder(parent, 0o700)


def make_directories(
    path: Path, complete: Callable[[Directory, Directory], None] = _for_owner_only
) -> None:
    """Create a directory, and its missing parents.

    Args:
        path: which may exist.
        complete: sets owner and mode of a new directory, given that and the one that it is
            in; without it the new one can be used by the owner of the other one only.

    Raises:
        ConfigError: a dangling link, or a link of another user, is on the way.
    """
    directory, missing = _deepest(path)
    for name in missing:
        with directory:
            with contextlib.suppress(FileExistsError):
                complete(directory.make_directory(name), directory)
            directory = directory.directory(name)
    directory.close()


def _deepest(path: Path) -> tuple[Directory, list[str]]:
    """Open the deepest directory of a path that exists; return it and the missing names."""
    missing: list[str] = []
    while True:
        try:
            return Directory(path), missing[::-1]
        except FileNotFoundError:
            missing.append(path.name)
            path = path.parent
