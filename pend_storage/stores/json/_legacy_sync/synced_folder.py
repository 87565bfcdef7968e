"""Synchronised folder: one file for each record, treated as one legacy file.

It is read as one object. A new version is written as one, too, beside the files; then each
file whose content differs is replaced by a rename. After a crash midway some files are new
and some are old. Neither counts as an edit: the new ones have the store's content, and the
old ones that of before.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import msgspec
from typing_extensions import override

from pend_storage._files.attributes import FileAttributes
from pend_storage._files.by_path import make_directories, read_linked, unlink
from pend_storage._files.directory import Directory
from pend_storage._files.linked import LinkedFile
from pend_storage._files.ownership import sibling_mode
from pend_storage._files.trust import fault_of_legacy
from pend_storage._layouts.folders import file_name, files_in, text_of
from pend_storage._layouts.layout import Layout
from pend_storage.stores.json._legacy_sync.atomic_replace import SingleFile
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileManifest,
    FileSignature,
    manifest_path,
    save_manifest,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import FilePermissions
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile

__all__ = ["SyncedFolder", "synced_file_for"]

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class SyncedFolder(SyncedFile):
    """Read a folder as one object, and replace the files that have changed."""

    _read: dict[str, bytes] | None = None
    """Content of the files at the last read, by record name."""

    @property
    def _folder(self) -> Path:
        return self.path.parent

    @override
    def locate(self) -> bool:
        self._release()
        self.target = self.path
        return False

    # -- reading ------------------------------------------------------------------------

    @override
    def status(self) -> os.stat_result | None:
        with self._translated_errors():
            try:
                with self._place() as place:
                    place.status()
                    folder = place.directory.status()
                    found = [
                        (f.name, _status_of(place.directory, f.path))
                        for f in files_in(self.path)
                    ]
            except FileNotFoundError:
                return None if not self._folder.exists() else self.status()
        if not found:
            return None
        return _combined(folder, found)

    @override
    def attributes(self) -> FileAttributes | None:
        return None  # each file keeps its own

    @override
    def read(self) -> tuple[bytes, os.stat_result] | None:
        before = self.status()
        if before is None:
            return None
        with contextlib.suppress(FileNotFoundError):
            with self._place() as place:
                found = {
                    f.name: _content_of(place.directory, f.path)
                    for f in files_in(self.path)
                }
            after = self.status()
            if after is not None and signature_of(before) == signature_of(after):
                self._read = found
                return text_of(found), after
        raise InterruptedError(errno.EINTR, "being written", str(self.path))

    # -- writing ------------------------------------------------------------------------

    @override
    def replace(self, manifest: FileManifest, before: FileSignature | None) -> bool:
        status = self.status()
        if (None if status is None else signature_of(status)) != before:
            return False
        save_manifest(self._next_path, manifest)
        self._undo.append(lambda: unlink(self._next_path))
        with self._place() as place:
            if not self._replace_files(place, is_there=status is not None):
                return False
        after = self.status()
        if after is not None:
            manifest.signature = signature_of(after)
        self._confirm()
        save_manifest(self._manifest_path, manifest)
        return True

    def _replace_files(self, place: LinkedFile, *, is_there: bool) -> bool:
        """Replace the files that differ; False if another program has changed one."""
        directory, new = place.directory, self._new_name(place)
        whole = directory.read(new, check=fault_of_legacy)
        wanted = {n: bytes(text) for n, text in _members(whole).items()}
        for file in list(files_in(self.path)) if is_there else ():
            raw = _content_of(directory, file.path)
            if self._read is None or raw != self._read.get(file.name):
                # The next round reads it.
                unlink(self._next_path)
                directory.unlink(new)
                self._undo.clear()
                return False
            text = wanted.pop(file.name, None)
            if text is None:
                directory.unlink(file.path.name)
            elif text_of({"": raw}) != text_of({"": text}):
                model = _status_of(directory, file.path)
                self._replace(
                    directory, file.path.name, _with_spacing_of(raw, text), model
                )
        if wanted:
            model = _model_in(directory, self.path.suffix)
            for name, text in wanted.items():
                self._replace(directory, file_name(self.path, name), text, model)
        directory.sync()
        directory.unlink(new)
        self._undo.clear()
        return True

    def _replace(
        self, directory: Directory, name: str, raw: bytes, model: os.stat_result
    ) -> None:
        directory.replace(name, [raw], model=model, ending=self._suffix)

    @override
    def late_edit(self, manifest: FileManifest | None) -> Path | None:
        return None

    @override
    def make_parent(self, permissions: FilePermissions | None) -> None:
        make_directories(self._folder)

    @override
    def recover(self) -> Path | None:
        unlink(self._next_path)
        with contextlib.suppress(FileNotFoundError), self._place() as place:
            for name in place.directory.names():
                if name.startswith(".") and name.endswith(self._suffix):
                    place.directory.unlink(name)
        return None


def synced_file_for(layout: Layout, path: Path, own: Path) -> SyncedFile:
    """Return the synchronised file, or folder, of a layout.

    Args:
        layout: of the file.
        path: of the file; of a folder, the pattern of its files.
        own: the store's own directory, which has the manifest.
    """
    kept = manifest_path(own, layout.file)
    if layout.is_folder:
        return SyncedFolder(path, kept)
    return SingleFile(path, kept, layout.file if layout.is_part else "")


def _status_of(directory: Directory, path: Path) -> os.stat_result:
    """Return the status of a file in the folder; a link is followed."""
    found = directory.status(path.name)
    if stat.S_ISLNK(found.st_mode):
        with LinkedFile(path) as file:
            return file.status() or found
    return found


def _content_of(directory: Directory, path: Path) -> bytes:
    """Return the content of a file in the folder; a link is followed."""
    if stat.S_ISLNK(directory.status(path.name).st_mode):
        return read_linked(path)
    return directory.read(path.name, check=fault_of_legacy)


def _model_in(directory: Directory, ending: str) -> os.stat_result:
    """Return a status with owner and mode of a new file in the folder."""
    own = directory.status()
    mode = sibling_mode(directory.fd, ending, own.st_gid)
    made = SimpleNamespace(st_mode=mode, st_uid=own.st_uid, st_gid=own.st_gid)
    return cast("os.stat_result", made)


def _with_spacing_of(old: bytes, text: bytes) -> bytes:
    """Return a text with the trailing white space of the old file."""
    end = len(old.rstrip(b" \t\r\n"))
    return text + old[end:] if end else text


def _combined(
    folder: os.stat_result, files: list[tuple[str, os.stat_result]]
) -> os.stat_result:
    """Return one status for all files: it changes if any of theirs does."""
    known = [
        (name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in files
    ]
    digest = hashlib.blake2b(repr(known).encode(), digest_size=7).digest()
    mtime = max(status.st_mtime_ns for _, status in files)
    ctime = max(status.st_ctime_ns for _, status in files)
    first = files[0][1]
    made = SimpleNamespace(
        st_mode=first.st_mode,
        st_uid=first.st_uid,
        st_gid=first.st_gid,
        st_dev=folder.st_dev,
        st_ino=int.from_bytes(digest),
        st_size=sum(status.st_size for _, status in files),
        st_mtime_ns=mtime,
        st_ctime_ns=ctime,
        st_mtime=mtime / 1e9,
        st_ctime=ctime / 1e9,
        st_nlink=1,
    )
    return cast("os.stat_result", made)
