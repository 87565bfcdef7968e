"""Path resolution: walks a path one name at a time, and records the links that it follows.

Each directory on the way is opened in the one before it, without following a link. A link is
read, its owner recorded, and its target walked likewise. So the directory at the end is the
one that was checked, whatever another user does to the path meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from pend_storage._files.direct import open_without_links

__all__ = ["Resolved", "resolve"]

_O_PATH: Final = getattr(os, "O_PATH", os.O_RDONLY)
_STEP: Final = _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HAS_O_PATH: Final = hasattr(os, "O_PATH")
_MOST_LINKS: Final = 40  # as the kernel


class Resolved(NamedTuple):
    """Directory of a path, opened, and the name in it, which is no followed link."""

    fd: int
    """Descriptor of the directory, good for looking up names; the caller closes it."""
    path: Path
    """The path without links."""
    name: str
    """The last name; ``.`` for a path that ends in the directory itself."""
    links: frozenset[int] = frozenset()
    """Owners of the links that were followed."""
    is_open: bool = False
    """The descriptor is also good for listing and syncing the directory."""


def resolve(path: Path) -> Resolved:
    """Open the directory of a path.

    Args:
        path: which need not exist; its directory must. If its last name is a link, the
            target of that is resolved.

    Raises:
        OSError: a directory on the way is missing, no directory, or a loop of links.
    """
    return _resolved_directly(path) or _walked(path)


def _resolved_directly(path: Path) -> Resolved | None:
    """Resolve a path without links; None if there may be one."""
    parent, _, name = os.fspath(path).rpartition("/")
    if not parent.startswith("/") or name in {"", ".."} or "/.." in parent:
        return None
    try:
        fd = open_without_links(parent)
    except FileNotFoundError as error:
        error.filename = str(path)
        raise
    if fd < 0:
        return None
    try:
        if not _is_link(fd, name):
            return Resolved(fd, path, name, is_open=True)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _walked(path: Path) -> Resolved:
    walk = _Walk(path)
    try:
        name = walk.to_last()
    except OSError as error:
        walk.close()
        error.filename = str(path)
        raise
    except BaseException:
        walk.close()
        raise
    whole = Path("/", *walk.real, name)
    return Resolved(walk.fd, whole, name, frozenset(walk.links))


class _Walk:
    def __init__(self, path: Path) -> None:
        self.fd = os.open("/", _STEP)
        self.real: list[str] = []
        self.links: list[int] = []
        self._rest = list(reversed(path.absolute().parts[1:]))

    def close(self) -> None:
        os.close(self.fd)

    def to_last(self) -> str:
        """Walk to the directory of the last name; return that name."""
        while self._rest:
            name = self._rest.pop()
            if name == "..":
                self._enter(name)
                del self.real[-1:]
            elif not self._rest:
                if not self._follow(name):
                    return name
            elif self._follows_or_enters(name):
                self.real.append(name)
        return "."

    def _follows_or_enters(self, name: str) -> bool:
        """Enter a directory, or follow a link; return True if it was a directory."""
        try:
            self._enter(name)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            if not self._follow(name):
                raise
            return False
        return True

    def _enter(self, name: str) -> None:
        self._move(os.open(name, _STEP, dir_fd=self.fd))

    def _move(self, fd: int) -> None:
        before, self.fd = self.fd, fd
        os.close(before)

    def _follow(self, name: str) -> bool:
        """Go on with the target of a link; return False if the name is no link."""
        found = _read_link(self.fd, name)
        if found is None:
            return False
        target, owner = found
        self.links.append(owner)
        if len(self.links) > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        way = Path(target)
        parts = way.parts
        if way.is_absolute():
            self._move(os.open("/", _STEP))
            self.real.clear()
            parts = parts[1:]
        self._rest += reversed(parts)
        return True


def _read_link(at: int, name: str) -> tuple[str, int] | None:
    """Return target and owner of a link; None if the name is none, or is missing."""
    if not _is_link(at, name):
        return None
    if not _HAS_O_PATH:
        owner = os.stat(name, dir_fd=at, follow_symlinks=False).st_uid
        return os.readlink(name, dir_fd=at), owner
    # By descriptor: target and owner are of one link, even if it is replaced just now.
    fd = os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        return os.readlink("", dir_fd=fd), os.fstat(fd).st_uid
    finally:
        os.close(fd)


def _is_link(at: int, name: str) -> bool:
    try:
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISLNK(status.st_mode)
