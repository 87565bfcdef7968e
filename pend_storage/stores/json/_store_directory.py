"""Store directory: ``.pend-storage``, beside the legacy files of a directory.

It is created under another name and renamed when it is complete. So either it exists,
and is the source of truth, or it does not, and the legacy files are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from pend_storage import crashpoints
from pend_storage._files.by_path import read_file, replace_file
from pend_storage._files.directory import Directory
from pend_storage._files.failures import translated
from pend_storage._layouts.layout import Layout
from pend_storage._schema_note import describe
from pend_storage.errors import ConfigError, CorruptFile, SchemaOutOfDate
from pend_storage.events import Hook, Progress
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.bulk_rows import contents_of
from pend_storage.stores._inmemory.state import SCHEMA_META
from pend_storage.stores.json._journal.journal import Journal, Position, create_segment
from pend_storage.stores.json._journal.log_records import SegmentStart
from pend_storage.stores.json._journal.process_locks import directory_lock
from pend_storage.stores.json._journal.segments import journal_bytes, snapshot_path
from pend_storage.stores.json._journal.snapshot import FORMAT, snapshot
from pend_storage.stores.json._legacy_sync.file_manifest import (
    manifest_path,
    save_manifest,
)
from pend_storage.stores.json._legacy_sync.initial_import import (
    AdoptedFile,
    InitialImport,
)
from pend_storage.stores.json._legacy_sync.preflight import require_usable
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile

__all__ = [
    "OWN_DIRECTORY",
    "adoption_report",
    "check_directory",
    "has_store",
    "incarnation",
    "journal_size",
    "open_store_directory",
    "require_format",
]

OWN_DIRECTORY: Final = ".pend-storage"
"""Name of the store's own directory, inside the one with the legacy files."""
_NEW: Final = f"{OWN_DIRECTORY}.new"
"""Its name while it is not complete."""
_FORMAT_FILE: Final = "format"
_REPORT_FILE: Final = "adoption.json"
_LARGEST_FORMAT: Final = 1 << 16
"""Bytes of a format file at most."""

_ADOPTED = crashpoints.declare(
    "json.adopted", "all that the legacy files say is written, but not in its place"
)
_IN_PLACE = crashpoints.declare(
    "json.adoption-in-place", "the store's own directory has its name"
)


class _Format(msgspec.Struct, frozen=True):
    format: int
    id: str = ""


def incarnation(own: Path) -> str:
    """Return the identity of a store's own directory: its id, device and inode.

    A copy has the same id, but another inode: its log may go another way from now on.
    """
    status = own.stat()
    return f"{_read_format(own).id}/{status.st_dev}:{status.st_ino}"


def has_store(directory: Path) -> bool:
    """Return True if a directory has a store; if not, opening it imports its legacy files.

    Args:
        directory: the one with the legacy files.
    """
    return (directory / OWN_DIRECTORY).exists()


def journal_size(directory: Path) -> int:
    """Return the bytes of a store's journal, its change log included.

    Args:
        directory: the one with the legacy files.

    Raises:
        ConfigError: it may not be read.
        StoreUnavailable: the disk is out of order.
    """
    with translated(directory):
        return journal_bytes(directory / OWN_DIRECTORY)


def check_directory(directory: Path) -> None:
    """Require that a directory exists; create it if only its last part is missing.

    A new one can be used by its owner only.

    Raises:
        ConfigError: not a directory, the parent is missing, or permission is denied.
        StoreUnavailable: the file system is read-only, and so on.
    """
    with translated(directory):
        try:
            _make_if_missing(directory)
        except FileNotFoundError:
            raise ConfigError(
                f"{directory}: its parent directory does not exist. Correct the path, or "
                "make the directory."
            ) from None
        except FileExistsError:
            raise ConfigError(
                f"{directory}: this is not a directory. Give the directory that holds "
                "the JSON files."
            ) from None
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(directory))


def _make_if_missing(directory: Path) -> None:
    if directory.is_dir():
        return
    try:
        with Directory(directory.parent) as parent:
            parent.make_directory(directory.name).close()
    except FileExistsError:
        if not directory.is_dir():  # else another process has just made it
            raise


def open_store_directory(
    schema: Schema,
    directory: Path,
    layouts: Sequence[Layout],
    synced_files: Mapping[str, SyncedFile],
    *,
    timeout: float,
    hook: Hook,
    progress: Progress | None = None,
) -> Path:
    """Open the store's own directory; create it from the legacy files if it is missing.

    Args:
        schema: the collections.
        directory: of the legacy files.
        layouts: of the files.
        synced_files: file to its path and manifest.
        timeout: seconds to wait for another process that imports.
        hook: receives events of the import.
        progress: is called with the progress of the import.

    Returns:
        Path of the store's own directory.

    Raises:
        ConfigError: a legacy file can never be read or written where it is.
        CorruptFile: the own directory is incomplete.
        LockTimeout: another process has been importing for too long.
        SchemaOutOfDate: written by a newer version of the library.
    """
    own = directory / OWN_DIRECTORY
    with translated(directory):
        if not own.exists():
            require_usable({x.source: synced_files[x.file].path for x in layouts})
            lock = directory / f"{OWN_DIRECTORY}.lock"
            with directory_lock(lock, timeout):
                if not own.exists():
                    importer = InitialImport(schema, hook, progress)
                    _adopt(directory, layouts, synced_files, importer)
                # Unlinked while held: a process that waited finds the directory.
                with Directory(directory) as home:
                    home.unlink(lock.name)
        require_format(own)
    return own


def _read_format(own: Path) -> _Format:
    path = own / _FORMAT_FILE
    try:
        raw = read_file(path, limit=_LARGEST_FORMAT)
        return msgspec.json.decode(raw, type=_Format)
    except FileNotFoundError:
        if own.is_dir() and not any(own.iterdir()):
            raise ConfigError(
                f"{own} is an empty directory. If a volume is mounted there, mount the "
                "whole directory of the JSON files instead; if its content was lost, bring "
                "it back, or remove the directory to have the files read anew."
            ) from None
        raise CorruptFile("the file is missing", path=str(path)) from None
    except msgspec.DecodeError as error:
        raise CorruptFile(str(error), path=str(path)) from error


def require_format(own: Path, *, mark: bool = True) -> None:
    """Check the on-disk format: refuse a newer one, mark an older one as the present one.

    Marked before anything is written in the present format: programs of the older version
    would read it as if nothing was missing.

    Args:
        own: the store's own directory.
        mark: False if nothing is going to be written.

    Raises:
        SchemaOutOfDate: written by a newer version of the library.
    """
    found = _read_format(own)
    if mark and found.format < FORMAT:
        marked = msgspec.structs.replace(found, format=FORMAT)
        replace_file(own / _FORMAT_FILE, [msgspec.json.encode(marked), b"\n"])
    if found.format > FORMAT:
        raise SchemaOutOfDate(
            f"{own}: written by a newer version of pend_storage (on-disk format "
            f"{found.format}, this version knows {FORMAT}). Upgrade pend_storage."
        )


def adoption_report(own: Path) -> tuple[AdoptedFile, ...]:
    """Return the outcome of the first import, by legacy file."""
    raw = read_file(own / _REPORT_FILE)
    return msgspec.json.decode(raw, type=tuple[AdoptedFile, ...])


def _adopt(
    directory: Path,
    layouts: Sequence[Layout],
    synced_files: Mapping[str, SyncedFile],
    importer: InitialImport,
) -> None:
    with Directory(directory) as home:
        home.remove_tree(_NEW)  # an import that was interrupted
        try:
            with _made(home, _NEW) as new:
                _made(new, "views").close()
                with importer.spilling(new):
                    importer.read(layouts, synced_files)
                    _write(new, importer)
                _ADOPTED()
            home.rename(_NEW, OWN_DIRECTORY)
        except BaseException:  # a full disk, above all: the rest must not keep it full
            with contextlib.suppress(OSError):
                home.remove_tree(_NEW)
            raise
        home.sync()
    _IN_PLACE()


def _made(parent: Directory, name: str) -> Directory:
    """Create a directory for the owner only, unless a group shares the legacy files."""
    shared = parent.status().st_mode & stat.S_IWGRP
    made = parent.make_directory(name)
    made.adopt_folder(parent, 0o770 if shared else 0o700)
    return made


def _write(new: Directory, importer: InitialImport) -> None:
    state = importer.state(str(new.path.parent))
    start = SegmentStart(number=1, chain=0, base=0, at=datetime.now(UTC))
    reader = create_segment(new, start)
    position = Position(1, reader.end)
    reader.close()
    first = Journal(new.path, 1, 0)
    first.publish()
    first.close()
    new.replace(
        snapshot_path(new.path, 1).name,
        snapshot(
            contents_of(state),
            segment=1,
            chain=0,
            sequence=state.sequence,
            meta={SCHEMA_META: describe(state.schema).to_json()},
        ),
    )
    for layout, manifest in importer.manifests(state, position):
        save_manifest(manifest_path(new.path, layout.file), manifest)
    report = msgspec.json.format(msgspec.json.encode(importer.report()))
    new.replace(_REPORT_FILE, [report, b"\n"])
    # Last: without a format file the directory counts as incomplete.
    made = _Format(FORMAT, uuid.uuid4().hex)
    new.replace(_FORMAT_FILE, [msgspec.json.encode(made), b"\n"])
