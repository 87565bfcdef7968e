"""Directory: an open directory, through which the files in it are opened and changed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from pend_storage._files.descriptor import Descriptor
from pend_storage._files.direct import open_without_links
from pend_storage._files.durability import sync, write_all
from pend_storage._files.failures import located
from pend_storage._files.names import TEMPORARY, temporary_name
from pend_storage._files.ownership import NARROW, finish, give_to
from pend_storage._files.paths import resolve
from pend_storage._files.reading import open_directory_at, read_all
from pend_storage._files.renaming import EXCHANGE, NO_REPLACE, renameat2
from pend_storage._files.trust import (
    LARGEST_FILE,
    Check,
    Fault,
    fault_of_kind,
    fault_of_links,
    fault_of_own,
    require,
)

__all__ = ["Directory"]

_OPEN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ODD: Final = {
    errno.ELOOP,
    errno.EISDIR,
    errno.ENXIO,
    errno.ENOTDIR,
    errno.EOPNOTSUPP,
    errno.EMLINK,
}
"""Errors of opening something that is no regular file."""
_NO_FOLDER: Final = Fault(
    "is a symbolic link or a file, not a directory",
    "Put the directory itself there, or remove it.",
)
_SHARED: Final = 0o660


class Directory(Descriptor):
    """Hold a directory open. Every name given to a method is a name in it, without a slash.

    Errors of the system are :class:`OSError` with the whole path in ``filename``; what must
    not be used raises :class:`~pend_storage.errors.ConfigError`, which names the path, the
    owner and the way out.
    """

    def __init__(self, path: Path) -> None:
        """Open a directory by its path.

        Args:
            path: symbolic links of this user, of root, and of the owner of the directory
                are followed.

        Raises:
            ConfigError: a link of another user is on the way.
            OSError: it is missing, or no directory.
        """
        self.path = path
        self.fd = open_without_links(path)
        if self.fd >= 0:
            return
        place = resolve(path)
        try:
            with located(path):
                self.fd = open_directory_at(place.fd, place.name)
        finally:
            os.close(place.fd)
        if place.links:
            require(path, fault_of_links(place.links, self.status().st_uid))

    @classmethod
    def of_descriptor(cls, path: Path, fd: int) -> Directory:
        """Take over the open descriptor of a directory."""
        made = Directory.__new__(Directory)
        made.path, made.fd = path, fd
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- looking -----------------------------------------------------------------------

    def status(self, name: str = "") -> os.stat_result:
        """Return the status of a name, or of the directory itself; follows no link.

        Raises:
            FileNotFoundError: there is no such name.
        """
        if not name:
            return os.fstat(self.fd)
        with located(self.path / name):
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def find(self, name: str) -> os.stat_result | None:
        """Return the status of a name as :meth:`status`; None if there is no such name."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """Return the names in the directory."""
        with located(self.path):
            return os.listdir(self.fd)  # noqa: PTH208 - of a descriptor

    # -- reading -----------------------------------------------------------------------

    def open_file(
        self, name: str, *, write: bool = False, check: Check = fault_of_own
    ) -> int:
        """Open an existing regular file; never waits, and follows no link.

        Args:
            name: of the file.
            write: for reading and writing.
            check: returns the fault of a file that must not be used.

        Returns:
            The descriptor.

        Raises:
            ConfigError: it must not be used.
            FileNotFoundError: it is missing.
        """
        flags = (os.O_RDWR if write else os.O_RDONLY) | _OPEN
        try:
            fd = os.open(name, flags, dir_fd=self.fd)
        except OSError as error:
            error.filename = str(self.path / name)
            if error.errno in _ODD:
                require(self.path / name, self._fault_of_kind(name))
            raise
        try:
            fault = check(os.fstat(fd), os.fstat(self.fd))
            if fault is not None:
                require(self.path / name, fault)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _fault_of_kind(self, name: str) -> Fault | None:
        status = self.find(name)
        return None if status is None else fault_of_kind(status)

    def read(
        self, name: str, *, limit: int = LARGEST_FILE, check: Check = fault_of_own
    ) -> bytes:
        """Return the content of a file; see :meth:`open_file`.

        Args:
            name: of the file.
            limit: bytes to read at most.
            check: as for :meth:`open_file`.

        Raises:
            ConfigError: it must not be used, or is larger.
            FileNotFoundError: it is missing.
        """
        fd = self.open_file(name, check=check)
        try:
            return read_all(fd, self.path / name, limit)
        finally:
            os.close(fd)

    # -- creating ----------------------------------------------------------------------

    def create(self, name: str) -> int:
        """Create an empty file, open for reading and writing, under a name that is free.

        It gets owner and group of the directory, and the directory's permissions of owner
        and group.

        Returns:
            The descriptor.

        Raises:
            FileExistsError: the name is taken, also by a link.
        """
        fd = self.create_narrow(name)
        try:
            self.adopt(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def create_narrow(self, name: str) -> int:
        """Create an empty file as :meth:`create`, readable by its owner only.

        The caller widens it when it is complete, by descriptor: :meth:`adopt`,
        :func:`~pend_storage._files.ownership.finish` or
        :func:`~pend_storage._files.attributes.apply`.
        """
        with located(self.path / name):
            return os.open(name, _CREATE, NARROW, dir_fd=self.fd)

    def adopt(self, fd: int) -> None:
        """Give a new file owner and permissions of an own file of the directory."""
        directory = os.fstat(self.fd)
        give_to(fd, directory)
        mode = stat.S_IMODE(directory.st_mode) & _SHARED | NARROW
        if os.fstat(fd).st_gid != directory.st_gid:
            mode = NARROW  # the directory's group is not the one that the file would show to
        os.fchmod(fd, mode)

    def open_or_create(self, name: str) -> int:
        """Open a file for reading and writing; create it if it is missing.

        Raises:
            ConfigError: it must not be used.
        """
        while True:
            try:
                return self.open_file(name, write=True)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):  # created in the meantime
                    return self.create(name)

    def anonymous(self) -> int:
        """Create a file without a name, open for reading and writing.

        The system deletes it when its descriptor is closed.
        """
        if hasattr(os, "O_TMPFILE"):
            with contextlib.suppress(OSError):  # a file system that lacks it
                flags = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
                return os.open(".", flags, NARROW, dir_fd=self.fd)
        name = temporary_name()
        fd = self.create_narrow(name)
        self.unlink(name)
        return fd

    def replace(
        self,
        name: str,
        chunks: Iterable[bytes],
        *,
        model: os.stat_result | None = None,
        ending: str = TEMPORARY,
    ) -> None:
        """Replace a file, or create it, atomically and durably.

        The new file has an unpredictable name and the mode 0600 until its last byte is
        written.

        Args:
            name: of the file.
            chunks: its content.
            model: status of a file whose owner, group and mode the new one gets; None: as
                :meth:`adopt`.
            ending: of the name until then.

        Raises:
            OSError: the disk is full, and so on; the old file is left as it was.
        """
        new = temporary_name(ending)
        with located(self.path / name):
            try:
                self._write(new, chunks, model)
                os.replace(new, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            except BaseException:
                self.unlink(new)
                raise
            self.sync()  # else a power failure may bring the old file back

    def _write(
        self, name: str, chunks: Iterable[bytes], model: os.stat_result | None
    ) -> None:
        fd = self.create_narrow(name)
        try:
            for chunk in chunks:
                write_all(fd, chunk)
            if model is None:
                self.adopt(fd)
            else:
                finish(fd, model)
            sync(fd)  # before the rename: else the new name may lead to an empty file
        finally:
            os.close(fd)

    # -- directories -------------------------------------------------------------------

    def directory(self, name: str) -> Directory:
        """Open a directory in this one; follows no link.

        Raises:
            ConfigError: it is a link, or no directory.
            FileNotFoundError: it is missing.
        """
        path = self.path / name
        try:
            fd = open_directory_at(self.fd, name)
        except OSError as error:
            error.filename = str(path)
            if error.errno in _ODD:
                require(path, _NO_FOLDER)
            raise
        return Directory.of_descriptor(path, fd)

    def make_directory(self, name: str) -> Directory:
        """Create a directory for its owner only, mode 0700, and open it.

        Raises:
            FileExistsError: the name is taken, also by a link.
        """
        with located(self.path / name):
            os.mkdir(name, 0o700, dir_fd=self.fd)
        made = self.directory(name)
        if made.status().st_uid != os.geteuid():  # it was exchanged at once
            path = self.path / name
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        return made

    def adopt_folder(self, parent: Directory, mode: int) -> None:
        """Give this new directory a mode, and the owner of the one that it is in."""
        give_to(self.fd, parent.status())
        os.fchmod(self.fd, mode)

    def remove_tree(self, name: str) -> None:
        """Remove a directory and all in it, or the link of that name; follows no link."""
        status = self.find(name)
        if status is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            self.unlink(name)
            return
        with located(self.path / name):
            shutil.rmtree(name, dir_fd=self.fd)

    def remove_empty(self, name: str) -> None:
        """Remove a directory, unless it has something in it or is gone."""
        with contextlib.suppress(OSError), located(self.path / name):
            os.rmdir(name, dir_fd=self.fd)

    # -- names -------------------------------------------------------------------------

    def unlink(self, name: str) -> None:
        """Delete a file, or a link, if it exists."""
        with contextlib.suppress(FileNotFoundError), located(self.path / name):
            os.unlink(name, dir_fd=self.fd)

    def rename(self, name: str, to: str, into: Directory | None = None) -> None:
        """Rename a file, replacing another one.

        Args:
            name: of the file.
            to: its new name.
            into: directory of the new name; None: this one.
        """
        target = (into or self).fd
        with located(self.path / name):
            os.replace(name, to, src_dir_fd=self.fd, dst_dir_fd=target)

    def move_new(self, name: str, to: str) -> None:
        """Rename a file, without replacing another one.

        Raises:
            FileExistsError: the new name is taken.
        """
        at = {"src_dir_fd": self.fd, "dst_dir_fd": self.fd}
        with located(self.path / to):
            if not renameat2(name, to, NO_REPLACE, **at):
                os.link(name, to, **at, follow_symlinks=False)  # fails where taken
                self.unlink(name)

    def exchange(self, left: str, right: str) -> bool:
        """Exchange two files atomically; False if the system cannot."""
        at = {"src_dir_fd": self.fd, "dst_dir_fd": self.fd}
        with located(self.path / right):
            return renameat2(left, right, EXCHANGE, **at)

    def sync(self) -> None:
        """Sync the names in the directory to the disk."""
        with located(self.path):
            os.fsync(self.fd)
