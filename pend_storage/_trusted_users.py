"""Trusted users: those who may decide what a process reads, runs and writes.

A configuration file and a schema module decide what a process does, so only this user and
root may be able to change them. A process of root does more: what another user puts into
a directory would be done with root's rights. The rules are those of ``safe.directory``
(Git) and ``StrictModes`` (OpenSSH).
"""

from __future__ import annotations

import grp
import itertools
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pend_storage._files.linked import LinkedFile
from pend_storage._files.reading import read_all
from pend_storage.errors import ConfigError

__all__ = [
    "ALLOW_FOREIGN_OWNER",
    "ALLOW_WRITABLE_CONFIG",
    "LARGEST_CONFIGURATION",
    "chain_of",
    "foreign_owner_allowed",
    "nearest_existing",
    "owners_of",
    "read_trusted",
    "require_own",
    "require_trusted",
    "trust_faults",
    "user_text",
    "writers_text",
]

ALLOW_FOREIGN_OWNER: Final = "PEND_ALLOW_FOREIGN_OWNER"
"""Environment variable that allows files of another user; ``1`` allows."""
ALLOW_WRITABLE_CONFIG: Final = "PEND_ALLOW_WRITABLE_CONFIG"
"""Environment variable that allows configuration that others may write; ``1`` allows."""

LARGEST_CONFIGURATION: Final = 1 << 20
"""Bytes of a configuration file at most: 1 MiB."""

_MOST_LINKS: Final = 40
"""Symbolic links in a row that the kernel follows, too."""
_ACL: Final = "system.posix_acl_access"


def foreign_owner_allowed(given: bool | None) -> bool:  # noqa: FBT001 - its only one
    """Return whether files of another user are allowed.

    Args:
        given: the argument of the caller; None: the environment variable decides.
    """
    return _is_set(ALLOW_FOREIGN_OWNER) if given is None else given


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in {"1", "true", "yes"}


def user_text(uid: int) -> str:
    """Return the name and the number of a user, for messages."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"user {uid}"


# -- who may write ------------------------------------------------------------------------


def writers_text(path: Path, status: os.stat_result) -> str | None:
    """Return who may write a file or a directory besides its owner; None: no other user.

    The private group of the owner, which has no other member, counts as the owner. Nothing
    can be written on a file system that is mounted read-only, such as a mounted secret.

    Args:
        path: for its ACL and its file system.
        status: of the path.
    """
    mode = stat.S_IMODE(status.st_mode)
    if not mode & (stat.S_IWGRP | stat.S_IWOTH) or _is_read_only(path):
        return None
    if mode & stat.S_IWOTH:
        return "every user"
    if _has_acl(path):  # the group's bits are the mask of the ACL
        return "users of its ACL"
    if _is_private_group(status.st_uid, status.st_gid):
        return None
    return f"its group {_group_text(status.st_gid)}"


def _is_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _has_acl(path: Path) -> bool:
    if not hasattr(os, "getxattr"):
        return False
    try:
        return bool(os.getxattr(path, _ACL))
    except OSError:
        return False


def _is_private_group(uid: int, gid: int) -> bool:
    """Return whether a group is the one that systems make for each user alone."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        user = None
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        # A container: neither has an entry, and the numbers are alike.
        return user is None and uid == gid
    if user is None:
        return False
    is_own = user.pw_gid == gid and group.gr_name == user.pw_name
    return is_own and set(group.gr_mem) <= {user.pw_name}


def _group_text(gid: int) -> str:
    try:
        return f"{grp.getgrgid(gid).gr_name} ({gid})"
    except KeyError:
        return str(gid)


# -- configuration and code ---------------------------------------------------------------


def chain_of(path: Path) -> Iterator[Path]:
    """Yield a path, and what its symbolic links lead to, one after another."""
    for _ in range(_MOST_LINKS):
        yield path
        try:
            target = path.readlink()
        except OSError:  # no link, or nothing there
            return
        path = path.parent / target


def trust_faults(path: Path, *, trusted: Iterable[int] = ()) -> Iterator[str]:
    """Yield the reasons for which a configuration or a module is not to be trusted.

    Args:
        path: of the file; its folder is checked as well, and the targets of links.
        trusted: users to trust besides this one and root.
    """
    yield from _foreign(path, {os.geteuid(), 0, *trusted})
    yield from _writable(path)


def _places(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each link of a path, its target, and the folders of all of them."""
    for place in chain_of(path):
        for found, status in ((place.parent, Path.stat), (place, Path.lstat)):
            try:
                yield found, status(found)
            except OSError:
                continue


def _foreign(path: Path, trusted: set[int]) -> Iterator[str]:
    for place, status in _places(path):
        if status.st_uid not in trusted:
            yield (
                f"{place} belongs to {user_text(status.st_uid)}, who could decide what "
                f"runs here as {user_text(os.geteuid())}. Run the command as that user, "
                f"or chown it; {ALLOW_FOREIGN_OWNER}=1 trusts the files of other users"
            )


def _writable(path: Path) -> Iterator[str]:
    for place, status in _places(path):
        if stat.S_ISLNK(status.st_mode):
            continue  # a link has no mode of its own
        is_folder = stat.S_ISDIR(status.st_mode)
        if is_folder and status.st_mode & stat.S_ISVTX:
            continue
        writers = writers_text(place, status)
        if writers is not None:
            folder = f"the folder {place} of {path}" if is_folder else str(place)
            yield (
                f"{folder} may be written by {writers}, who could decide what runs here "
                f"as {user_text(os.geteuid())}. Take that right away: chmod go-w {place}; "
                f"{ALLOW_WRITABLE_CONFIG}=1 trusts all who have it"
            )


def require_trusted(
    path: Path, *, trusted: Iterable[int] = (), allow: bool | None = None
) -> None:
    """Refuse a configuration or module that others than this user and root may change.

    Args:
        path: of the file; its folder is checked as well, and the targets of links.
        trusted: users to trust besides this one and root.
        allow: allow other owners; None: the environment variable decides.

    Raises:
        ConfigError: it belongs to another user, or others may write it.
    """
    faults: list[Iterator[str]] = []
    if not foreign_owner_allowed(allow):
        faults.append(_foreign(path, {os.geteuid(), 0, *trusted}))
    if not _is_set(ALLOW_WRITABLE_CONFIG):
        faults.append(_writable(path))
    for fault in itertools.chain.from_iterable(faults):
        raise ConfigError(f"{fault}.")


def read_trusted(path: Path, *, allow: bool | None = None) -> bytes:
    """Return the content of a configuration that only this user and root may change.

    Args:
        path: of the file.
        allow: as for :func:`require_trusted`.

    Raises:
        ConfigError: it is not to be trusted, or too large, or no regular file.
        OSError: it cannot be read.
    """
    require_trusted(path, allow=allow)
    with LinkedFile(path) as file:
        fd = file.open()
        try:
            status = os.fstat(fd)
            # What was opened may be another file than the one that was checked.
            if status.st_uid not in {os.geteuid(), 0} and not foreign_owner_allowed(
                allow
            ):
                raise ConfigError(
                    f"{path} was exchanged while it was opened. Try again."
                )
            return read_all(fd, path, LARGEST_CONFIGURATION)
        finally:
            os.close(fd)


# -- directories of records ---------------------------------------------------------------


def nearest_existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    return next((p for p in (path, *path.parents) if p.exists()), path)


def owners_of(path: Path) -> dict[int, Path]:
    """Return the owners of a path, of its links, and of what they lead to.

    A path that does not exist has the owner of the folder in which it would be made.
    """
    found: dict[int, Path] = {}
    if not path.exists() and not path.is_symlink():
        path = nearest_existing(path)
    for place in chain_of(path):
        try:
            found.setdefault(place.lstat().st_uid, place)
        except OSError:
            break
    return found


def require_own(paths: Iterable[Path], *, allow: bool | None = None) -> None:
    """Refuse a process of root that works on files of another user.

    The process cannot become that user: it may have threads and open files by now.

    Args:
        paths: the directory, and legacy files that lie elsewhere.
        allow: allow it; None: the environment variable decides.

    Raises:
        ConfigError: this process is root's, and a path is not.
    """
    if os.geteuid() != 0 or foreign_owner_allowed(allow):
        return
    for path in paths:
        for uid, place in owners_of(path).items():
            if uid != 0:
                raise ConfigError(_foreign_directory_text(place, uid))


def _foreign_directory_text(place: Path, uid: int) -> str:
    return (
        f"{place} belongs to {user_text(uid)}, and this process runs as root: what that "
        "user puts there would be done with root's rights. Run the process as that user, "
        f"or give it the directory: chown -R 0:0 {place}. Where that user is trusted, as "
        f"in a container with a bind mount: allow_foreign_owner=True, or "
        f"{ALLOW_FOREIGN_OWNER}=1."
    )
