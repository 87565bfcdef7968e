"""Repository in a folder, of a local disk or of a file system that hosts share.

A new object has an unpredictable name that begins with a dot, is synced, and is given its own
name by a rename that replaces nothing. Its writer holds a lock on it until then, so the file
of a writer that died is known by its free lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from builtins import list as list_of
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from typing_extensions import override

from pend_storage import crashpoints
from pend_storage._files.directory import Directory
from pend_storage._files.durability import sync, write_all
from pend_storage._files.failures import located, translate
from pend_storage._files.names import TEMPORARY, temporary_name
from pend_storage._files.ownership import give_to
from pend_storage.backup._leases import hold
from pend_storage.backup._repository import (
    Lease,
    Repository,
    StoredObject,
    require_name,
)
from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable

__all__ = ["FolderRepository"]

_PIECE: Final = 1 << 20
"""Bytes that are read at a time."""
_ATTEMPTS: Final = 10
"""Times that a folder is made again which another process removes as empty."""
_YOUNG: Final = 60.0
"""Seconds for which a file without a lock may belong to a writer that just began."""
_OLD: Final = 86_400.0
"""Seconds after which a file is a leftover where the file system has no locks."""

_CREATED: Final = crashpoints.declare(
    "repository.created", "a new object has a temporary name, and no content yet"
)
_WRITTEN: Final = crashpoints.declare(
    "repository.written", "a new object is complete and synced, under a temporary name"
)
_NAMED: Final = crashpoints.declare(
    "repository.named", "a new object has its name, which is not synced yet"
)


class _NewFile(NamedTuple):
    folder: Directory
    temporary: str
    fd: int


class FolderRepository(Repository):
    """Repository in a folder. The folder is held open."""

    def __init__(self, root: Directory) -> None:
        """Use a folder; :func:`~pend_storage.backup._opening.open_repository` checks it.

        Args:
            root: closed with this object.
        """
        self._root = root
        self._is_swept = False
        self.path: Path = root.path
        self.url = root.path.absolute().as_uri()

    # -- writing -----------------------------------------------------------------------

    @override
    def put(
        self, name: str, content: Iterable[bytes], *, create_only: bool = False
    ) -> int:
        parts = require_name(name)
        if not self._is_swept:
            self._is_swept = True
            self.remove_leftovers()
        new = self._begin(parts)
        with new.folder:
            try:
                if create_only:
                    _require_free(new.folder, parts[-1])
                size = self._write(new, content, self.path / name)
                self._publish(new, parts[-1], replaces=not create_only)
            except BaseException:
                with suppress(OSError):
                    new.folder.unlink(new.temporary)
                raise
            finally:
                os.close(new.fd)
        return size

    def _begin(self, parts: tuple[str, ...]) -> _NewFile:
        """Create the file of a new object under a temporary name, locked."""
        path = self.path.joinpath(*parts)
        temporary = temporary_name()
        with _explained(path):
            for _ in range(_ATTEMPTS):
                with suppress(FileNotFoundError):  # another process removed the folder
                    folder = self._folder(parts[:-1], create=True)
                    try:
                        fd = folder.create_narrow(temporary)
                    except BaseException:
                        folder.close()
                        raise
                    break
            else:
                raise OSError(errno.EAGAIN, "the folder is removed again and again")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _CREATED()
        return _NewFile(folder, temporary, fd)

    @staticmethod
    def _write(new: _NewFile, content: Iterable[bytes], path: Path) -> int:
        size = 0
        for piece in content:  # its own errors pass as they are
            with _explained(path):
                write_all(new.fd, piece)
            size += len(piece)
        with _explained(path):
            give_to(new.fd, new.folder.status())
            sync(new.fd)
        _WRITTEN()
        return size

    @staticmethod
    def _publish(new: _NewFile, name: str, *, replaces: bool) -> None:
        path = new.folder.path / name
        try:
            with _explained(path):
                if replaces:
                    new.folder.rename(new.temporary, name)
                else:
                    new.folder.move_new(new.temporary, name)
                _NAMED()
                new.folder.sync()
        except FileNotFoundError as error:
            reason = "its unfinished file was removed by another program"
            raise StoreUnavailable(reason, store=str(path)) from error

    @override
    def delete(self, name: str) -> None:
        parts = require_name(name)
        with suppress(FileNotFoundError), _explained(self.path / name):
            with self._folder(parts[:-1]) as folder:
                folder.unlink(parts[-1])
                folder.sync()
            if len(parts) > 2:  # noqa: PLR2004 - a folder of one backup, not of all
                with self._folder(parts[:-2]) as above:
                    above.remove_empty(parts[-2])

    def _folder(self, names: tuple[str, ...], *, create: bool = False) -> Directory:
        """Open a folder of the repository; follows no link.

        Args:
            names: from the root on.
            create: with those on the way, for the owner only, where they are missing.
        """
        folder = Directory.of_descriptor(self.path, os.dup(self._root.fd))
        for name in names:
            with folder:
                made = _make(folder, name) if create else None
                folder = made or folder.directory(name)
        return folder

    # -- reading -----------------------------------------------------------------------

    @override
    def get(self, name: str) -> Iterator[bytes]:
        return self._pieces(require_name(name))

    def _pieces(self, parts: tuple[str, ...]) -> Iterator[bytes]:
        path = self.path.joinpath(*parts)
        with _explained(path), self._folder(parts[:-1]) as folder:
            fd = folder.open_file(parts[-1])
        try:
            while True:
                with _explained(path), located(path):
                    piece = os.read(fd, _PIECE)
                if not piece:
                    return
                yield piece
        finally:
            os.close(fd)

    @override
    def list(self, prefix: str) -> list_of[StoredObject]:
        names = require_name(prefix.rstrip("/")) if prefix else ()
        found: list_of[StoredObject] = []
        with (
            suppress(FileNotFoundError),
            _explained(self.path / prefix),
            self._folder(names) as folder,
        ):
            for above, name, status in _files(folder, "/".join(names)):
                if not name.startswith("."):
                    at = datetime.fromtimestamp(status.st_mtime, UTC)
                    whole = f"{above}/{name}" if above else name
                    found.append(StoredObject(whole, status.st_size, at))
        return sorted(found, key=lambda each: each.name)

    @override
    def free_bytes(self) -> int | None:
        with _explained(self.path):
            facts = os.fstatvfs(self._root.fd)
        return facts.f_bavail * facts.f_frsize

    # -- leftovers and leases ----------------------------------------------------------

    @override
    def remove_leftovers(self) -> int:
        removed = 0
        # Tidying is not what was asked for: it may fail.
        with suppress(OSError, PendStorageError), self._folder(()) as root:
            for above, name, status in _files(root, ""):
                if name.startswith(".") and name.endswith(TEMPORARY):
                    removed += self._remove_leftover(above, name, status)
        return removed

    def _remove_leftover(self, above: str, name: str, status: os.stat_result) -> bool:
        age = time.time() - status.st_mtime
        if age < _YOUNG:
            return False
        names = tuple(filter(None, above.split("/")))
        with suppress(OSError, ConfigError), self._folder(names) as folder:
            if _is_abandoned(folder, name, age):
                folder.unlink(name)
                return True
        return False

    @override
    def lease(
        self, name: str, *, seconds: float = 120.0, wait: float = 0.0
    ) -> AbstractContextManager[Lease]:
        return hold(self, name, seconds=seconds, wait=wait)


def _make(folder: Directory, name: str) -> Directory | None:
    """Create a folder, synced, with the owner of the one it is in; None where it exists."""
    try:
        made = folder.make_directory(name)
    except FileExistsError:
        return None
    try:
        made.adopt_folder(folder, 0o700)
        folder.sync()
    except BaseException:
        made.close()
        raise
    return made


def _files(folder: Directory, above: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield folder, name and status of each regular file below a folder.

    What is no part of a name of an object is passed over, such as ``lost+found``.
    """
    for name in folder.names():
        status = folder.find(name)
        if status is None:  # it was removed meanwhile
            continue
        if stat.S_ISREG(status.st_mode):
            if name.startswith(".") or _is_name(name):
                yield above, name, status
        elif stat.S_ISDIR(status.st_mode) and _is_name(name):
            with suppress(FileNotFoundError), folder.directory(name) as below:
                yield from _files(below, f"{above}/{name}" if above else name)


def _is_name(name: str) -> bool:
    with suppress(ConfigError):
        return bool(require_name(name))
    return False


def _is_abandoned(folder: Directory, name: str, age: float) -> bool:
    fd = folder.open_file(name, write=True, check=_no_fault)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # its writer is alive
    except OSError:
        return age > _OLD  # no locks here
    finally:
        os.close(fd)
    return True


def _no_fault(_file: os.stat_result, _directory: os.stat_result) -> None:
    """Accept a file that is only locked and removed, also one with two names.

    A writer may die between the link and the removal of the temporary name.
    """


def _require_free(folder: Directory, name: str) -> None:
    if folder.find(name) is not None:
        path = str(folder.path / name)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Translate errors of the system, except that a name is missing or taken."""
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        raise translate(error, path) from error
