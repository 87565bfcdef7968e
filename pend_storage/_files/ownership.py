"""Ownership: owner and permission bits of open files, only ever set by descriptor."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final

__all__ = ["NARROW", "finish", "give_to", "set_mode", "set_owner", "sibling_mode"]

NARROW: Final = 0o600
"""Mode of every new file and, with search permission, directory until it is complete."""
_BITS: Final = 0o777
_MOST_SIBLINGS: Final = 200
"""Number of siblings that are looked at."""


def give_to(fd: int, owner: os.stat_result) -> None:
    """Change the owner of an open file to that of another one, if the system allows it.

    A command that root runs does not lock the owner of a directory out of it.
    """
    set_owner(fd, owner.st_uid, owner.st_gid)


def set_owner(fd: int, user: int, group: int) -> None:
    """Change owner and group of an open file as far as the system allows it.

    Args:
        fd: descriptor.
        user: number; -1: as it is.
        group: number; -1: as it is.
    """
    mine = os.fstat(fd)
    wanted = [(user, group), (-1, group)]  # only root may change the owner
    for uid, gid in wanted:
        if uid in {-1, mine.st_uid} and gid in {-1, mine.st_gid}:
            return
        with contextlib.suppress(PermissionError):
            os.fchown(fd, uid, gid)
            return


def set_mode(fd: int, mode: int) -> None:
    """Change the permission bits of an open file or directory."""
    os.fchmod(fd, mode)


def finish(fd: int, model: os.stat_result) -> None:
    """Give a complete new file owner, group and permission bits of another file.

    If the group cannot be kept, the group that the file has instead gets no more than
    others.
    """
    set_owner(fd, model.st_uid, model.st_gid)
    mode = stat.S_IMODE(model.st_mode) & _BITS
    if os.fstat(fd).st_gid != model.st_gid:
        mode = mode & ~0o070 | mode & (mode & 0o007) << 3
    os.fchmod(fd, mode)


def sibling_mode(directory: int, ending: str, group: int) -> int:
    """Return the mode of a new file among others: what all of them allow, others excluded.

    Args:
        directory: descriptor of the directory.
        ending: of the names of the files that count.
        group: of the new file; a file of another group allows this one nothing.

    Returns:
        0600 where there is no other file, or one of them is its owner's only.
    """
    shared, count = 0o660, 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.name.endswith(ending):
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    shared &= status.st_mode if status.st_gid == group else 0
                    count += 1
            if count == _MOST_SIBLINGS:
                break
    return NARROW | (shared if count else 0)
