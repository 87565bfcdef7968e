"""Trust in files: which file and which symbolic link may be used, by kind, names and owner.

A directory may belong to another user, who can put anything into it at any time: a link to a
file of root, a second name of it, a pipe. What another user may have planted is refused
rather than opened for that user with the rights of this process.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from pend_storage.errors import ConfigError

__all__ = [
    "LARGEST_FILE",
    "Check",
    "Fault",
    "fault_of_kind",
    "fault_of_legacy",
    "fault_of_links",
    "fault_of_own",
    "fault_of_size",
    "names_of",
    "require",
]

LARGEST_FILE: Final = 16 << 30
"""Bytes that are read of one file at most: 16 GiB."""

_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}
_CORRECT: Final = "Put a regular file in its place, or remove it."
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Fault(NamedTuple):
    """Reason why a file is not used."""

    message: str
    """Predicate of a sentence that begins with the path."""
    remedy: str


Check: TypeAlias = Callable[[os.stat_result, os.stat_result], Fault | None]
"""Returns the fault of a file, given its status and that of its directory."""


def require(path: str | os.PathLike[str], fault: Fault | None) -> None:
    """Require that there is no fault.

    Raises:
        ConfigError: there is one.
    """
    if fault is not None:
        message, remedy = fault
        raise ConfigError(f"{os.fspath(path)} {message}. {remedy}")


def fault_of_kind(file: os.stat_result) -> Fault | None:
    """Return the fault of what is not a regular file."""
    if stat.S_ISREG(file.st_mode):
        return None
    kind = _KINDS.get(stat.S_IFMT(file.st_mode), "of an unknown kind")
    return Fault(f"is {kind}, not a regular file", _CORRECT)


def fault_of_size(file: os.stat_result, limit: int = LARGEST_FILE) -> Fault | None:
    """Return the fault of a file that is too large to be read."""
    if file.st_size <= limit:
        return None
    return Fault(
        f"has {file.st_size:,} bytes, and at most {limit:,} are read",
        "Divide it, or move it away.",
    )


def fault_of_own(file: os.stat_result, directory: os.stat_result) -> Fault | None:
    """Return the fault of a file of the library itself.

    It is regular, has one name, and belongs to this user or to the owner of its directory.
    Where a group shares the directory, its members make files too; but root trusts no
    third user.
    """
    if (fault := fault_of_kind(file)) is not None:
        return fault
    if names_of(file) > 1:
        return _many_names(file)
    me = os.geteuid()
    if file.st_uid in {me, directory.st_uid}:
        return None
    if me != 0 and (file.st_uid == 0 or directory.st_mode & _OTHERS_WRITE):
        return None
    return _other_owner(file, directory)


def fault_of_legacy(file: os.stat_result, directory: os.stat_result) -> Fault | None:
    """Return the fault of a file that other programs write, too.

    Such a file may belong to another user than its directory does. It is refused if the
    owner of the directory could have this process read, for him, what he may not read.
    """
    if (fault := fault_of_kind(file)) is not None:
        return fault
    me, owner = os.geteuid(), directory.st_uid
    if file.st_uid == owner:
        return None
    if names_of(file) > 1:
        if owner in {0, me} and not directory.st_mode & _OTHERS_WRITE:
            return None  # only this user or root can have made the other names
        return _many_names(file)
    if me == 0 and owner != 0 and not file.st_mode & stat.S_IROTH:
        return _other_owner(file, directory)
    return None


def fault_of_links(owners: Iterable[int], target: int) -> Fault | None:
    """Return the fault of symbolic links on the way to a file or directory.

    A link of root or of this user is followed. A link of another user is followed only to
    what belongs to that user: he may not choose which of our files is read or written.

    Args:
        owners: of the links.
        target: owner of what they lead to.
    """
    trusted = {0, os.geteuid(), target}
    for owner in owners:
        if owner not in trusted:
            return Fault(
                f"is or passes a symbolic link of user {owner}, to what belongs to user "
                f"{target}",
                "Replace the link by the file itself, or give both to one user (chown -h "
                "changes the owner of a link).",
            )
    return None


def names_of(file: os.stat_result) -> int:
    """Return the number of names (hard links)."""
    return file.st_nlink


def _many_names(file: os.stat_result) -> Fault:
    return Fault(
        f"has {file.st_nlink} names (hard links), and the others may be elsewhere",
        "Replace it by a copy: cp -p it to another name, and mv that onto it.",
    )


def _other_owner(file: os.stat_result, directory: os.stat_result) -> Fault:
    return Fault(
        f"belongs to user {file.st_uid}, and its directory to user {directory.st_uid}",
        f"Give it to that user (chown {directory.st_uid}), or remove it.",
    )
