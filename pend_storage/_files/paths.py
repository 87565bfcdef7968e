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

__all__ = ["Resolved", "resolve"]

_O_PATH: Final = getattr(os, "O_PATH", os.O_RDONLY)
_STEP: Final = _O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HAS_O_PATH: Final = hasattr(os, "O_PATH")
_MOST_LINKS: Final = 40  # as the kernel


class Resolved(NamedTuple):
    """Directory of a path, opened, and the name in it, which is no followed link."""

    fd: int
    """Descriptor of the directory, good for looking up names; the caller closes it."""
    parent: Path
    """Path of the directory, without links."""
    name: str
    """The last name; ``.`` for a path that ends in the directory itself."""
    links: frozenset[int]
    """Owners of the links that were followed."""

    @property
    def path(self) -> Path:
        """The path without links."""
        return self.parent / self.name


def resolve(path: Path, *, follow: bool = True) -> Resolved:
    """Open the directory of a path.

    Args:
        path: which need not exist; its directory must.
        follow: if the last name is a link, go to its target.

    Raises:
        OSError: a directory on the way is missing, no directory, or a loop of links.
    """
    walk = _Walk(path)
    try:
        name = walk.to_last(follow=follow)
    except OSError as error:
        walk.close()
        error.filename = str(path)
        raise
    except BaseException:
        walk.close()
        raise
    parent = Path("/", *walk.real)
    return Resolved(walk.fd, parent, name, frozenset(walk.links))


class _Walk:
    def __init__(self, path: Path) -> None:
        self.fd = os.open("/", _STEP)
        self.real: list[str] = []
        self.links: list[int] = []
        self._rest = list(reversed(path.absolute().parts[1:]))

    def close(self) -> None:
        os.close(self.fd)

    def to_last(self, *, follow: bool) -> str:
        """Walk to the directory of the last name; return that name."""
        while self._rest:
            name = self._rest.pop()
            if name == "..":
                self._enter(name)
                del self.real[-1:]
            elif not self._rest:
                if not (follow and self._follow(name)):
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
    try:
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(status.st_mode):
        return None
    if not _HAS_O_PATH:
        return os.readlink(name, dir_fd=at), status.st_uid
    # By descriptor: target and owner are of one link, even if it is replaced just now.
    fd = os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        return os.readlink("", dir_fd=fd), os.fstat(fd).st_uid
    finally:
        os.close(fd)
