"""File attributes: mode, owner, extended attributes and ACL, kept when a file is replaced.

A legacy file is written under a name of its own and renamed, so its attributes are read from
the old file and applied to the new one. Permissions never widen: the new file is created for
its owner only, and if owner or group cannot be kept, no user gains access.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["FileAttributes", "apply", "read"]

_ACL: Final = "system.posix_acl_access"
_OF_CONTENT: Final = frozenset({"security.ima", "security.evm"})
"""Attributes that sign the old content, and would be invalid on the new one."""
_HAS_XATTRS: Final = hasattr(os, "listxattr")

_OWNING_GROUP, _MASK, _OTHERS = 0x04, 0x10, 0x20  # linux/posix_acl.h


@dataclass(frozen=True, slots=True)
class FileAttributes:
    """Attributes of one file."""

    mode: int
    """Permission bits, without the file type."""
    uid: int
    gid: int
    links: int = 1
    """Number of hard links; a new file has one."""
    extended: dict[str, bytes] = field(default_factory=dict)
    """Extended attributes by name, the ACL included."""
    unreadable: tuple[str, ...] = ()
    """Names of attributes whose values this process may not read."""


def read(fd: int) -> FileAttributes:
    """Read the attributes of an open file."""
    status = os.fstat(fd)
    extended: dict[str, bytes] = {}
    unreadable: list[str] = []
    for name in _names(fd):
        try:
            extended[name] = os.getxattr(fd, name)
        except OSError as error:
            if error.errno != errno.ENODATA:  # it is gone meanwhile
                unreadable.append(name)
    return FileAttributes(
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_nlink,
        extended,
        tuple(unreadable),
    )


def apply(fd: int, wanted: FileAttributes) -> tuple[str, ...]:
    """Apply attributes to a new file that was created with the mode 0600.

    Args:
        fd: descriptor of the file, open for writing, with all of its content.
        wanted: attributes of the old file.

    Returns:
        Descriptions of attributes that could not be kept.
    """
    _copy_extended(fd, wanted)  # those of users need the right to write: before chown
    has_owner, has_group = _set_owner(fd, wanted)
    lost = []
    if not (has_owner and has_group):
        lost.append(f"owner {wanted.uid}:{wanted.gid}")
    lost += _set_mode_and_acl(fd, wanted, has_owner=has_owner, has_group=has_group)
    lost += _copy_extended(fd, wanted)  # a change of the owner takes some of them away
    lost += wanted.unreadable
    if wanted.links > 1:
        lost.append(
            f"its other {wanted.links - 1} hard links, which keep the old content"
        )
    return tuple(lost)


def _names(fd: int) -> list[str]:
    if not _HAS_XATTRS:
        return []
    try:
        return sorted(os.listxattr(fd))
    except OSError:
        return []  # a file system without them


def _copy_extended(fd: int, wanted: FileAttributes) -> list[str]:
    """Copy missing extended attributes, except for the ACL; return those that failed."""
    lost = []
    for name, value in wanted.extended.items():
        if name == _ACL or _value(fd, name) == value:
            continue
        if name in _OF_CONTENT or not _set(fd, name, value):
            lost.append(name)
    return lost


def _set(fd: int, name: str, value: bytes) -> bool:
    try:
        os.setxattr(fd, name, value)
    except OSError:
        return False
    return True


def _value(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError:
        return None


def _set_owner(fd: int, wanted: FileAttributes) -> tuple[bool, bool]:
    """Set owner and group; return which of them the file has afterwards."""
    for owner in (wanted.uid, -1):  # the group alone may be among our own
        mine = os.fstat(fd)
        if (mine.st_uid, mine.st_gid) == (wanted.uid, wanted.gid):
            break
        with contextlib.suppress(OSError):
            os.fchown(fd, owner, wanted.gid)
    mine = os.fstat(fd)
    return mine.st_uid == wanted.uid, mine.st_gid == wanted.gid


def _set_mode_and_acl(
    fd: int, wanted: FileAttributes, *, has_owner: bool, has_group: bool
) -> Iterator[str]:
    """Set mode and ACL; yield those that cannot be kept.

    The group bits of a file with an ACL are the ACL's mask rather than the permissions of
    the owning group. Without the ACL they would grant that group those of others.
    """
    entries = list(_entries(wanted.extended.get(_ACL, b"")))
    mode = wanted.mode if not entries else wanted.mode & ~0o070 | _group(entries) << 3
    if not has_group:
        mode = _narrowed(mode)
    if not (has_owner and has_group):
        mode &= 0o777  # no set-uid of another user
    _clear_acl(fd)
    try:
        os.fchmod(fd, mode)
    except OSError:
        yield f"mode {wanted.mode:04o}"
        return
    if entries:
        acl = wanted.extended[_ACL]
        if not _set(fd, _ACL, acl if has_group else _without_group(entries)):
            yield _ACL


def _clear_acl(fd: int) -> None:
    """Remove the ACL that a new file inherits from the default ACL of its directory."""
    if _HAS_XATTRS:
        with contextlib.suppress(OSError):
            os.removexattr(fd, _ACL)


def _narrowed(mode: int) -> int:
    """Return a mode with the intersection of group and others: the group is another one."""
    both = mode >> 3 & mode & 0o7
    return mode & ~0o077 | both << 3 | both


_Entry = tuple[int, int, int]
"""Tag, permissions, id."""


def _entries(acl: bytes) -> Iterator[_Entry]:
    if acl:
        yield from struct.iter_unpack("<HHI", acl[4:])


def _granted(entries: list[_Entry], tag: int, default: int) -> int:
    return next((permissions for t, permissions, _ in entries if t == tag), default)


def _group(entries: list[_Entry]) -> int:
    """Return the effective permissions of the owning group."""
    return _granted(entries, _OWNING_GROUP, 0) & _granted(entries, _MASK, 0o7)


def _without_group(entries: list[_Entry]) -> bytes:
    """Return the ACL for another owning group: group and others get their intersection."""
    both = _group(entries) & _granted(entries, _OTHERS, 0)
    changed = {_OWNING_GROUP: both, _OTHERS: both}
    packed = (struct.pack("<HHI", t, changed.get(t, p), i) for t, p, i in entries)
    return struct.pack("<I", 2) + b"".join(packed)
