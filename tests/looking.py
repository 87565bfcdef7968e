"""What a directory and a database are, byte by byte: for tests of readers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["FileState", "only_readable", "state_of"]


class FileState(NamedTuple):
    """One name in a directory: what a change of any kind would show."""

    mode: int
    inode: int
    size: int
    mtime: int
    ctime: int
    digest: str


def state_of(directory: Path) -> dict[str, FileState]:
    """Every name below a directory, itself included, with its content and its times."""
    found = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        status = path.lstat()
        raw = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = FileState(
            status.st_mode,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            hashlib.sha256(raw).hexdigest(),
        )
    return found


def _chmod(directory: Path, take: int, give: int) -> None:
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~take | give)


@contextmanager
def only_readable(directory: Path, user: int | None = None) -> Iterator[None]:
    """Take the right to write away from everybody within the block, as ``chmod -R a-w``.

    Args:
        directory: with all that is in it.
        user: to whom the files are given, for root, whom no mode keeps from writing.
    """
    _chmod(directory, 0o222, 0)
    if user is not None:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)
    try:
        yield
    finally:
        _chmod(directory, 0, 0o200)


def raises_alike(one: Any, other: Any) -> bool:
    """Return whether two calls raise the same error, with the same words."""
    errors = []
    for call in (one, other):
        try:
            call()
        except Exception as error:  # noqa: BLE001 - it is compared
            errors.append((type(error), str(error)))
        else:
            return False
    return errors[0] == errors[1]
