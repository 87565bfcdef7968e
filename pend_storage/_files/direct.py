"""Direct opening: one system call for a path on which there is no symbolic link."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["DirectoryMissing", "open_without_links"]

_OPENAT2: Final = 437  # the number on every architecture but Alpha
_AT_FDCWD: Final = -100
_NO_SYMLINKS: Final = 0x04  # linux/openat2.h
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_HOW: Final = struct.pack("=QQQ", _FLAGS, 0, _NO_SYMLINKS)


def _system_call() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    call = ctypes.CDLL(None, use_errno=True).syscall
    long, text = ctypes.c_long, ctypes.c_char_p
    call.argtypes = [long, long, text, text, ctypes.c_size_t]
    call.restype = long
    return call


_call: Final = _system_call()


class DirectoryMissing(FileNotFoundError):
    """A directory is missing, and no link leads there."""


def open_without_links(path: str | os.PathLike[str]) -> int:
    """Open a directory; -1 if a link is on the way, or this cannot be done at once.

    An older kernel lacks the call, and a sandbox may forbid it. So a caller walks the path
    after any other error, and meets that error again.

    Raises:
        FileNotFoundError: the directory is missing, and no link is on the way.
    """
    name = os.fsencode(path)
    if _call is None or b"\0" in name:
        return -1
    fd = _call(_OPENAT2, _AT_FDCWD, name, _HOW, len(_HOW))
    if fd < 0 and ctypes.get_errno() == errno.ENOENT:
        raise DirectoryMissing(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return fd
