"""Checks of the JSON directory: permissions, disk, legacy files, store."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pend_storage._files.by_path import read_linked
from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.folders import files_in, read_folder
from pend_storage._layouts.layout import Layout
from pend_storage._model.records import QuarantinedRecord
from pend_storage._trusted_users import user_text, writers_text
from pend_storage.backup._tree import scan_tree
from pend_storage.config import JsonSettings, Settings
from pend_storage.dualwrite._readiness import count_waiting
from pend_storage.errors import PendStorageError
from pend_storage.factory import (
    SchemaModule,
    kept_files,
    open_passive,
    unclaimed_files,
)
from pend_storage.operations.doctor._findings import Finding, State, fail, ok, warn
from pend_storage.operations.doctor._memory import memory_finding
from pend_storage.operations.doctor._places import place_findings
from pend_storage.operations.quarantine import broken_files
from pend_storage.stores.json import OWN_DIRECTORY, has_store

__all__ = ["directory_findings"]

_REMOTE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs"}
)
"""Network file systems, on which locks and syncs are not reliable."""
_SHOWN: Final = 5


def directory_findings(
    settings: Settings, module: SchemaModule, wanted: JsonSettings
) -> Iterator[Finding]:
    """Check the JSON directory, its disk, its legacy files and its store."""
    directory = wanted.directory
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        yield fail(
            "json directory",
            f"{directory} {what}",
            "Correct json.directory; for a new server, make the directory.",
        )
        return
    yield _permissions(directory)
    yield from _strangers(directory)
    yield _file_system(directory)
    yield _space(module, wanted)
    paths = {
        layout: wanted.files.get(layout.source, directory / layout.source)
        for layout in module.layouts
    }
    found = list(place_findings(directory, {x.source: p for x, p in paths.items()}))
    yield from found
    if any(finding.state is State.FAIL for finding in found):
        return  # the checks below read the files
    files = sorted({file for x, path in paths.items() for file in _files_of(x, path)})
    yield memory_finding(directory / OWN_DIRECTORY, files)
    unreadable = [str(path) for path in files if not _is_accessible(path)]
    if unreadable:
        yield fail(
            "legacy files",
            f"may not be read and written: {_first_names(unreadable)}",
            "Correct their owner or their rights.",
        )
        return
    if has_store(directory):
        yield from _adopted(settings)
    else:
        yield from _not_adopted(module, wanted, paths)


def _files_of(layout: Layout, path: Path) -> list[Path]:
    """List the files of a layout that exist."""
    if not layout.is_folder:
        return [path] if path.exists() else []
    return [file.path for file in files_in(path)] if path.parent.is_dir() else []


def _is_accessible(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def _permissions(directory: Path) -> Finding:
    if os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return ok("json directory", str(directory))
    return fail(
        "json directory",
        f"{directory} may not be read and written by this user",
        "Run as the user who owns it, or correct its rights.",
    )


def _strangers(directory: Path) -> Iterator[Finding]:
    """Find other users who may write the directory, or read the store's own one.

    A group that shares the legacy files is an arrangement of the operator; no arrangement
    gives every user of the machine the right to replace the records.
    """
    status = directory.stat()
    writers = writers_text(directory, status)
    if writers is not None:
        yield (fail if status.st_mode & stat.S_IWOTH else warn)(
            "rights of others",
            f"{directory} may be written by {writers}, who can replace all records",
            f"Take that right away: chmod go-w {directory}",
        )
    if os.geteuid() == 0 and status.st_uid != 0:
        yield warn(
            "owner",
            f"{directory} belongs to {user_text(status.st_uid)}, and this is root, which "
            "does what that user puts there",
            "Run servers and commands as the owner of the directory.",
        )
    own = directory / OWN_DIRECTORY
    if own.is_dir() and own.stat().st_mode & stat.S_IRWXO:
        yield warn(
            "rights of others",
            f"{own} may be used by every user",
            f"Take that right away: chmod -R o= {own}",
        )


def _file_system(directory: Path) -> Finding:
    kind = _kind_of_file_system(directory)
    if kind in _REMOTE:
        return fail(
            "file system",
            f"{directory} is on {kind}, where locks and syncs cannot be relied on",
            "Move it to a local disk.",
        )
    return ok("file system", kind or "not known on this system")


def _kind_of_file_system(directory: Path) -> str:
    """Return the type of the file system of a directory; empty where it is not known."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    place = directory.resolve()
    mounts = [line.split(" ")[1:3] for line in lines]
    fitting = [
        (len(where), kind)
        for where, kind in mounts
        if place.is_relative_to(where.replace("\\040", " "))
    ]
    return max(fitting, default=(0, ""))[1]  # the longest mount point is the nearest


def _space(module: SchemaModule, wanted: JsonSettings) -> Finding:
    size = scan_tree(wanted.directory, {}, kept_files(module, wanted)).size
    free = shutil.disk_usage(wanted.directory).free
    message = f"{size:,} bytes in the server's files, {free:,} free"
    if free < 2 * size + (64 << 20):
        return warn(
            "free space",
            message,
            "Make room: a migration copies the directory, and the store needs as much.",
        )
    return ok("free space", message)


def _not_adopted(
    module: SchemaModule, wanted: JsonSettings, paths: dict[Layout, Path]
) -> Iterator[Finding]:
    existing = {
        layout: path for layout, path in paths.items() if _files_of(layout, path)
    }
    unclaimed = unclaimed_files(module, wanted)
    counted = f"{len({*existing.values()})} of {len({*paths.values()})} are there"
    if existing or not paths:
        yield ok("legacy files", f"{counted}, not adopted yet (migrate json does)")
    elif unclaimed:
        yield fail(
            "legacy files",
            f"{counted}, and the directory has other JSON files: it may be another one, "
            f"or another server's than {module.name} is for",
            "Correct json.directory or schema, or declare the files: pend-storage "
            f"inspect {wanted.directory}",
        )
    else:
        yield warn(
            "legacy files",
            f"{counted}",
            "Correct json.directory, unless this is a new server.",
        )
    if unclaimed:
        yield _unclaimed([str(path) for path in unclaimed])
    broken = []
    for layout, path in existing.items():
        raw = (read_folder(path) or b"") if layout.is_folder else read_linked(path)
        entry = next(iter(layout.parse(module.schema, raw).entries), None)
        record = None if entry is None else entry.home.record
        if isinstance(record, QuarantinedRecord) and is_whole_file(record):
            broken.append(f"{layout.file} ({record.reason})")
    if broken:
        yield fail(
            "broken files",
            _first_names(broken),
            "Repair them before they are adopted; look-ups and writes that rest on them "
            "will be refused.",
        )


def _adopted(settings: Settings) -> Iterator[Finding]:
    try:
        with open_passive(settings) as environment:
            environment.require("json")
            store = environment.json
            assert store is not None  # noqa: S101 - it was required
            waiting = count_waiting(store)
            broken = broken_files(store)
            unclaimed = [str(path) for path in store.unclaimed_files()]
            role = store.role()
    except PendStorageError as error:
        yield fail("json store", str(error), error=error)
        return
    yield ok("json store", f"opens; {role.role.value} at epoch {role.epoch}")
    if broken:
        shown = [f"{file.file} ({file.id}; {file.reason})" for file in broken]
        unread = sum(file.unread for file in broken)
        what = f"; what rests on {unread:,} of them is refused" if unread else ""
        yield fail(
            "broken files",
            f"quarantined as a whole: {_first_names(shown)}{what}",
            "Repair the file in its place, or: pend-storage quarantine retry ID --with "
            "FILE, or: pend-storage quarantine accept ID --reason ...",
        )
    if waiting:
        yield warn(
            "quarantine",
            f"{waiting:,} legacy records wait",
            "See: pend-storage quarantine list",
        )
    else:
        yield ok("quarantine", "nothing waits")
    if unclaimed:
        yield _unclaimed(unclaimed)


def _unclaimed(names: list[str]) -> Finding:
    return warn(
        "unclaimed files",
        f"no layout knows: {_first_names(names)}",
        "Nothing of them gets into PostgreSQL. Declare them in the schema module, or leave "
        'them out by json.include, or set json.unclaimed = "ignore".',
    )


def _first_names(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown
