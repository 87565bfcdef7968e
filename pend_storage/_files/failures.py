"""Failures: errors of the operating system, translated into errors of the library."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable

__all__ = ["located", "translate", "translated", "user"]

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WRONG_PATH: Final = {
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
_DENIED: Final = {errno.EACCES, errno.EPERM}


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


@contextmanager
def located(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the whole path into errors of the block: the system names a file as it was asked."""
    try:
        yield
    except OSError as error:
        error.filename = os.fspath(path)
        raise
