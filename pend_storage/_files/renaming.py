"""Renaming: the system call that exchanges two files, or replaces none."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

__all__ = ["EXCHANGE", "NO_REPLACE", "renameat2"]

NO_REPLACE: Final = 1  # linux/fs.h
EXCHANGE: Final = 2
_NO_FLAGS: Final = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def renameat2(
    source: str, target: str, flag: int, *, src_dir_fd: int, dst_dir_fd: int
) -> bool:
    """Call ``renameat2`` with a flag; False if this system or file system lacks it."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    left, right = os.fsencode(source), os.fsencode(target)
    if function(src_dir_fd, left, dst_dir_fd, right, flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_FLAGS:
        return False
    raise OSError(number, os.strerror(number), source, None, target)
