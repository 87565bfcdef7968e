"""Reading: opens directories in others, and reads open files as far as a limit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pend_storage._files.trust import LARGEST_FILE, fault_of_size, require

__all__ = ["open_directory_at", "read_all"]

_FLAGS: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SEARCH: Final = getattr(os, "O_PATH", os.O_RDONLY)
_REST: Final = 1 << 16


def open_directory_at(at: int, name: str) -> int:
    """Open a directory in another one, without following a link.

    Where its names may not be listed, the descriptor is good for those that are known.
    """
    try:
        return os.open(name, os.O_RDONLY | _FLAGS, dir_fd=at)
    except PermissionError:
        return os.open(name, _SEARCH | _FLAGS, dir_fd=at)


def read_all(fd: int, path: Path, limit: int = LARGEST_FILE) -> bytes:
    """Return the content of an open file from its beginning.

    Raises:
        ConfigError: it is larger than the limit.
    """
    status = os.fstat(fd)
    require(path, fault_of_size(status, limit))
    pieces: list[bytes] = []
    place, wanted = 0, status.st_size + 1  # one more: a file of that size ends there
    while place <= limit and (piece := os.pread(fd, wanted, place)):
        pieces.append(piece)
        place += len(piece)
        wanted = max(status.st_size + 1 - place, _REST)
    if place > limit:
        require(path, fault_of_size(os.fstat(fd), limit))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
