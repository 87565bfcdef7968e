"""Atomic files: durable replacement by write, sync, rename and directory sync.

Also translates errors of the operating system into errors of the library.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable

__all__ = [
    "NO_WAIT",
    "create",
    "exchange",
    "fitting",
    "give_to",
    "move_new",
    "replace_file",
    "sync",
    "sync_directory",
    "translate",
    "translated",
    "user",
    "write_all",
]

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WRONG_PATH: Final = {
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
_DENIED: Final = {errno.EACCES, errno.EPERM}
_NO_FLAGS: Final = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1  # linux/fs.h
_RENAME_EXCHANGE: Final = 2

NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
"""Flag with which opening never blocks, even on a FIFO or a device."""
_LONGEST_NAME: Final = 255  # bytes, on nearly all file systems
_FDATASYNC: Final = "fdatasync" if hasattr(os, "fdatasync") else "fsync"


def translate(
    error: OSError, path: str | os.PathLike[str], *, outcome_known: bool = True
) -> PendStorageError:
    """Translate an error of the operating system into one of the library.

    Args:
        error: with a file name, or without.
        path: named in the message if the error has no file name.
        outcome_known: False if the write may have reached the disk.
    """
    place = error.filename if isinstance(error.filename, str) else str(path)
    if error.errno in _FULL:
        reason = (
            "there is not enough space on the disk, or a limit on file size is met: make "
            "room there, or raise the limit"
        )
    elif error.errno == errno.EROFS:
        reason = "the file system is read-only: mount it for writing"
    elif error.errno in _DENIED:
        return ConfigError(
            f"{place}: permission denied to user {user()}. Give that user the right to "
            "read and write the directory and what is in it, or run as its owner."
        )
    elif error.errno in _WRONG_PATH:
        return ConfigError(f"{place}: {error.strerror}. Correct the path.")
    else:
        reason = error.strerror or str(error)
    return StoreUnavailable(reason, store=place, outcome_known=outcome_known)


def user() -> str:
    """Return the user of this process, for messages."""
    return str(os.geteuid()) if hasattr(os, "geteuid") else os.getlogin()


@contextmanager
def translated(path: str | os.PathLike[str]) -> Iterator[None]:
    """Translate errors of the operating system that the block raises."""
    try:
        yield
    except OSError as error:
        raise translate(error, path) from error


def write_all(fd: int, data: bytes, offset: int | None = None) -> None:
    """Write all bytes, at the file position or at an offset; retry short writes."""
    rest: bytes | memoryview = data
    while rest:
        if offset is None:
            done = os.write(fd, rest)
        else:
            done = os.pwrite(fd, rest, offset)
            offset += done
        if done == len(rest):
            return
        rest = memoryview(rest)[done:]


def _fdatasync(fd: int) -> None:
    getattr(os, _FDATASYNC)(fd)


def sync(fd: int) -> None:
    """Sync the content of a file to the disk (``fdatasync``)."""
    _fdatasync(fd)


def sync_directory(path: Path, at: int | None = None) -> None:
    """Sync the names in a directory to the disk.

    Args:
        path: of the directory.
        at: descriptor of it, if it is open.
    """
    if at is not None:
        os.fsync(at)
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create(path: Path, flags: int = 0, at: int | None = None) -> int:
    """Create an empty file in the store's own directory, open for reading and writing.

    It gets the owner of the directory, so that a command that root runs does not lock the
    server out of its own store.

    Args:
        path: of the file.
        flags: in addition to those of a new file.
        at: descriptor of its directory; the directory's path may name another by now.

    Returns:
        The descriptor.
    """
    directory = path.parent.stat() if at is None else os.fstat(at)
    mode = stat.S_IMODE(directory.st_mode) & 0o660 | 0o600
    flags |= os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(path if at is None else path.name, flags, mode, dir_fd=at)
    try:
        os.fchmod(fd, mode)
        give_to(fd, directory)
    except BaseException:
        os.close(fd)
        raise
    return fd


def give_to(fd: int, owner: os.stat_result) -> None:
    """Change the owner of an open file to that of another one, if the system allows it."""
    mine = os.fstat(fd)
    if (mine.st_uid, mine.st_gid) != (owner.st_uid, owner.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, owner.st_uid, owner.st_gid)


def fitting(name: str, ending: str) -> str:
    """Return a file name with an ending; a digest replaces a name that is too long."""
    whole = name + ending
    if len(os.fsencode(whole)) <= _LONGEST_NAME:
        return whole
    digest = hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return f".{digest}{ending}" if name.startswith(".") else f"{digest}{ending}"


def replace_file(path: Path, chunks: Iterable[bytes], *, at: int | None = None) -> None:
    """Replace a file of the store's own directory, atomically and durably.

    Args:
        path: of the file.
        chunks: its content.
        at: descriptor of its directory; the directory's path may name another by now.

    Raises:
        OSError: the disk is full, and so on; the old file is left as it was.
    """
    new = path.with_name(fitting(path.name, f".{os.getpid()}.new"))
    source, target = (new, path) if at is None else (new.name, path.name)
    try:
        fd = create(new, at=at)
        try:
            for chunk in chunks:
                write_all(fd, chunk)
            sync(fd)  # before the rename: else the new name may lead to an empty file
        finally:
            os.close(fd)
        os.replace(source, target, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(source, dir_fd=at)
        raise
    sync_directory(path.parent, at)  # else a power failure may bring the old file back


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    """Call ``renameat2`` with a flag; False if this system or file system lacks it."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    left, right = os.fsencode(source), os.fsencode(target)
    if function(_AT_FDCWD, left, _AT_FDCWD, right, flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_FLAGS:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def exchange(left: Path, right: Path) -> bool:
    """Exchange two files atomically; False if the system cannot."""
    return _renameat2(left, right, _RENAME_EXCHANGE)


def move_new(source: Path, target: Path) -> None:
    """Rename a file, without replacing another one.

    Raises:
        FileExistsError: the name is taken.
    """
    if not _renameat2(source, target, _RENAME_NOREPLACE):
        os.link(source, target)  # fails where the name is taken
        source.unlink()
