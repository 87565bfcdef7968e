"""File checks: links, mounts and owners of the legacy files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pend_storage.errors import ConfigError
from pend_storage.operations.doctor._findings import Finding, fail, ok, warn
from pend_storage.stores.json._legacy_sync.preflight import problems_of, same_files

__all__ = ["place_findings"]

_CHECK = "place of a file"


def place_findings(directory: Path, paths: Mapping[str, Path]) -> Iterator[Finding]:
    """Check that the legacy files can be read, and replaced atomically at their paths.

    Args:
        directory: directory of the store.
        paths: paths of the legacy files, by name.
    """
    found = [p for path in paths.values() for p in problems_of(path)]
    found += same_files(paths)
    for problem in found:
        message = f"{problem.path} {problem.message}"
        if problem.is_fatal:
            error = ConfigError(str(problem))
            yield fail(_CHECK, message, problem.remedy, error=error)
        else:
            yield warn(_CHECK, message, problem.remedy)
    odd = {problem.path for problem in found}
    whole = [path for path in paths.values() if path not in odd and path.exists()]
    losses = list(_replacement_losses(directory, whole))
    yield from losses
    if not found and not losses:
        yield ok(_CHECK, "every file can be replaced where it is")


def _replacement_losses(directory: Path, paths: Iterable[Path]) -> Iterator[Finding]:
    """Find what a file would lose by an atomic replacement: hard links, its owner."""
    device = directory.stat().st_dev
    for path in paths:
        status = path.stat()
        if status.st_nlink > 1:
            yield warn(
                _CHECK,
                f"{path} has {status.st_nlink - 1} more hard links, which keep the old "
                "content when the file is written anew",
                "Use a symbolic link, or let the other programs read this name.",
            )
        if not _can_change_owner(status):
            yield warn(
                _CHECK,
                f"{path} belongs to {status.st_uid}:{status.st_gid}, which user "
                f"{os.geteuid()} cannot keep when the file is written anew",
                "Run the server as its owner, or give the file to the server's user.",
            )
        if status.st_dev != device:
            yield warn(
                _CHECK,
                f"{path} is on another file system than {directory}: what a program "
                "writes into a version of it that was replaced is lost",
                "Move the file into the directory, or let no old program write it.",
            )


def _can_change_owner(status: os.stat_result) -> bool:
    """Return whether a new file can have the owner and group of the old one."""
    me = os.geteuid()
    groups = {os.getegid(), *os.getgroups()}
    return me == 0 or (status.st_uid == me and status.st_gid in groups)
