"""Preflight checks: find legacy files that can never be read or written where they are.

A legacy file is written beside the old one and renamed onto it. There are places where that
can never work, and file types that cannot be read, or never end. Each problem has a remedy;
opening raises it, and ``doctor`` shows it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from typing_extensions import override

from pend_storage._files.by_path import read_system_file
from pend_storage._files.failures import user
from pend_storage._files.linked import LinkedFile
from pend_storage._files.trust import Fault, fault_of_kind
from pend_storage.errors import ConfigError
from pend_storage.events import Event, Hook

__all__ = [
    "Problem",
    "check_places",
    "explained",
    "problems_of",
    "refuse_problems",
    "require_usable",
    "same_files",
]

_APPEND, _IMMUTABLE, _MOUNT_ROOT = 0x20, 0x10, 0x2000  # linux/stat.h
_AT_FDCWD: Final = -100
_STATX_SIZE: Final = 256
_MOUNTS: Final = Path("/proc/self/mountinfo")


class Problem(NamedTuple):
    """Problem of a file's place, with its remedy."""

    path: Path
    message: str
    """Predicate of a sentence that begins with the path."""
    remedy: str
    is_fatal: bool = True
    """The file can never be written, or never be read."""

    @override
    def __str__(self) -> str:
        """Return problem and remedy."""
        return f"{self.path} {self.message}. {self.remedy}"


def problems_of(path: Path) -> Iterator[Problem]:
    """Yield the problems of a legacy file's place; read-only, and never blocks.

    Args:
        path: of the file, which need not exist.
    """
    try:
        status: os.stat_result | None = path.stat()
    except FileNotFoundError:
        status = None
    except OSError as error:
        yield _unreachable(path, error)
        return
    fault = _fault(path, status)
    if fault is not None:
        yield Problem(path, *fault)
        return
    target = Path(os.path.realpath(path))
    if status is None:
        dangling = list(_dangling(path))
        yield from dangling
        if any(problem.is_fatal for problem in dangling):
            return
    yield from _directory_problems(path, target, status)
    if status is not None:
        yield from _file_problems(path, target)


def explained(path: Path, error: OSError) -> ConfigError | None:
    """Return the problem that explains a failed read or write; None if there is none."""
    try:
        found = next((p for p in problems_of(path) if p.is_fatal), None)
    except OSError:
        return None
    return None if found is None else ConfigError(f"{found} ({error.strerror})")


def refuse_problems(path: Path) -> None:
    """Require that one file can be read and written.

    Raises:
        ConfigError: it can never be.
    """
    for problem in problems_of(path):
        if problem.is_fatal:
            raise ConfigError(str(problem))


def check_places(paths: Mapping[str, Path], hook: Hook, *, detached: bool) -> None:
    """Require that every legacy file can be read and written; report lesser problems.

    Args:
        paths: file to its path.
        hook: receives ``file-problem`` for problems that prevent no write.
        detached: the store is detached and writes no file, so nothing is refused.

    Raises:
        ConfigError: a file can never be written, or two files are one.
    """
    try:
        found = [str(problem) for problem in require_usable(paths)]
    except ConfigError as error:
        if not detached:
            raise
        found = [str(error)]
    for problem in found:
        hook(Event("file-problem", problem, logging.WARNING))


def require_usable(paths: Mapping[str, Path]) -> list[Problem]:
    """Require that every legacy file can be read and written.

    Args:
        paths: file to its path.

    Returns:
        Problems that prevent no write.

    Raises:
        ConfigError: a file can never be written, or two files are one.
    """
    found = [problem for path in paths.values() for problem in problems_of(path)]
    fatal = [problem for problem in found if problem.is_fatal]
    fatal += same_files(paths)
    if fatal:
        more = f" ({len(fatal) - 1} more files have problems)" if fatal[1:] else ""
        raise ConfigError(f"{fatal[0]}{more} Run pend-storage doctor to see all.")
    return found


def same_files(paths: Mapping[str, Path]) -> Iterator[Problem]:
    """Yield the problems of files that resolve to one, by links or by configuration.

    Args:
        paths: file to its path.
    """
    seen: dict[str, Path] = {}
    for path in paths.values():
        target = os.path.realpath(path)
        if target in seen:
            message = f"and {seen[target]} are one file, {target}"
            yield Problem(path, message, "Give each of them a file of its own.")
        seen[target] = path


# -- problems ---------------------------------------------------------------------------


def _fault(path: Path, status: os.stat_result | None) -> Fault | None:
    """Return the reason why a file is of no use, or may have been planted."""
    if status is not None and (fault := fault_of_kind(status)) is not None:
        return fault
    try:
        with LinkedFile(path) as file:
            return file.fault()
    except OSError:
        return None  # its directory is missing, or may not be entered


def _unreachable(path: Path, error: OSError) -> Problem:
    """Return the problem of a path whose status cannot be read."""
    if error.errno == errno.ELOOP:
        message = "is a loop of symbolic links"
        return Problem(path, message, "Point the link at a regular file, or remove it.")
    if error.errno == errno.ENOTDIR:
        message = "is below something that is not a directory"
        return Problem(path, message, "Correct the path.")
    if error.errno in {errno.EACCES, errno.EPERM}:
        message = f"cannot be accessed by user {user()}: permission denied"
        return Problem(
            path, message, "Give that user the right to enter its directory."
        )
    return Problem(path, f"cannot be used: {error.strerror}", "Correct the path.")


def _dangling(path: Path) -> Iterator[Problem]:
    """Yield the problem of a dangling symbolic link, at the file or above it."""
    for place in (path, *path.parents):
        if not place.is_symlink() or place.exists():
            continue
        target = Path(os.path.realpath(place))
        message = f"is a symbolic link to {target}, which does not exist"
        if place == path and target.parent.is_dir():
            remedy = (
                "It is taken for a file that is not there yet, and made there with the "
                "first record. If a file should be there, bring it back before that."
            )
            yield Problem(path, message, remedy, is_fatal=False)
        else:
            remedy = "Bring that directory back, or correct the link."
            yield Problem(place, message, remedy)
        return


def _directory_problems(
    path: Path, target: Path, status: os.stat_result | None
) -> Iterator[Problem]:
    """Yield the problem of a directory in which no file can be created and renamed."""
    directory = next(d for d in target.parents if d.exists())
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        message = f"is in {directory}, whose file system is read-only"
        yield Problem(path, message, "Mount it for writing.")
    elif not os.access(directory, os.W_OK | os.X_OK, effective_ids=_HAS_EFFECTIVE):
        message = f"is in {directory}, where user {user()} may not create files"
        yield Problem(
            path,
            f"{message}: permission denied",
            "Give that user the right to write the directory, or run as its owner.",
        )
    elif _special(directory) & (_IMMUTABLE | _APPEND):
        message = f"is in {directory}, which is immutable or append-only"
        yield Problem(path, message, f"Run: chattr -i -a {directory}")
    elif status is not None and _is_kept_by_others(directory.stat(), status):
        message = (
            f"belongs to user {status.st_uid} and is in {directory}, a sticky directory, "
            f"where user {user()} may not replace files of others"
        )
        yield Problem(
            path,
            message,
            "Give the file to the user of the server (chown), or: chmod -t the directory.",
        )


_HAS_EFFECTIVE: Final = os.access in os.supports_effective_ids


def _is_kept_by_others(directory: os.stat_result, file: os.stat_result) -> bool:
    sticky = directory.st_mode & stat.S_ISVTX
    return bool(sticky) and os.geteuid() not in {0, directory.st_uid, file.st_uid}


def _file_problems(path: Path, target: Path) -> Iterator[Problem]:
    special = _special(target)
    if special & _MOUNT_ROOT:
        yield Problem(
            path,
            "is a mount point of its own (a file that was mounted into a container, for "
            "example), and no file can be renamed onto it",
            "Mount the directory, not the file.",
        )
    elif special & (_IMMUTABLE | _APPEND):
        message = "is immutable or append-only, and cannot be replaced"
        yield Problem(path, message, f"Run: chattr -i -a {target}")
    if not os.access(target, os.R_OK, effective_ids=_HAS_EFFECTIVE):
        message = f"cannot be read by user {user()}: permission denied"
        yield Problem(path, message, "Correct its owner or its rights.")


# -- file attributes of the system ------------------------------------------------------


def _special(path: Path) -> int:
    """Return the special attributes of a file that the system knows of, as a bit mask."""
    function = _statx()
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    known = found = 0
    if (
        function is not None
        and function(_AT_FDCWD, os.fsencode(path), 0, 0, buffer) == 0
    ):
        found = int.from_bytes(buffer.raw[8:16], sys.byteorder)
        known = int.from_bytes(buffer.raw[56:64], sys.byteorder)
    if not known & _MOUNT_ROOT and str(path) in _mount_points():
        found |= _MOUNT_ROOT
    return found & (_APPEND | _IMMUTABLE | _MOUNT_ROOT)


@functools.cache
def _statx() -> Callable[..., int] | None:
    """Return the system call of that name, if there is one."""
    return getattr(ctypes.CDLL(None), "statx", None)


def _mount_points() -> set[str]:
    """Return all mount points; empty if the system does not list them."""
    try:
        lines = read_system_file(_MOUNTS).splitlines()
    except OSError:
        return set()
    return {os.fsdecode(_unescaped(line.split(b" ")[4])) for line in lines}


def _unescaped(field: bytes) -> bytes:
    """Decode the octal escapes of white space and backslashes."""
    for byte in b" \t\n\\":
        field = field.replace(b"\\%03o" % byte, bytes((byte,)))
    return field
