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
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import msgspec
from typing_extensions import override

from pend_storage._files.attributes import FileAttributes
from pend_storage._layouts.folders import file_name, files_in, text_of
from pend_storage._layouts.layout import Layout
from pend_storage.stores.json._journal.atomic_files import sync_directory
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
        self.target = self.path
        self.new = self.path.with_name(f".{self.path.name}{self._suffix}")
        return False

    # -- reading ------------------------------------------------------------------------

    @override
    def status(self) -> os.stat_result | None:
        with self._translated_errors():
            try:
                folder = self._folder.stat()
                found = [(f.name, f.path.stat()) for f in files_in(self.path)]
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
            found = {f.name: f.path.read_bytes() for f in files_in(self.path)}
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
        self._temporary_files.append(self._next_path)
        wanted = {n: bytes(text) for n, text in _members(self.new.read_bytes()).items()}
        for file in list(files_in(self.path)) if status is not None else ():
            raw = file.path.read_bytes()
            if self._read is None or raw != self._read.get(file.name):
                return self._abandon()
            text = wanted.pop(file.name, None)
            if text is None:
                file.path.unlink()
            elif text_of({"": raw}) != text_of({"": text}):
                self._replace(file.path, _with_spacing_of(raw, text))
        for name, text in wanted.items():
            self._replace(self._folder / file_name(self.path, name), text)
        sync_directory(self._folder)
        self.new.unlink()
        self._temporary_files.clear()
        after = self.status()
        if after is not None:
            manifest.signature = signature_of(after)
        self._confirm()
        save_manifest(self._manifest_path, manifest)
        return True

    def _abandon(self) -> bool:
        """Abandon the new version: another program has changed a file. The next round reads it."""
        self._next_path.unlink()
        self.new.unlink()
        self._temporary_files.clear()
        return False

    def _replace(self, path: Path, raw: bytes) -> None:
        new = path.with_name(f".{path.name}{self._suffix}")
        self._temporary_files.append(new)
        with new.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, new)
            status = path.stat()
            with contextlib.suppress(OSError):
                os.chown(new, status.st_uid, status.st_gid)
        new.replace(path)

    @override
    def late_edit(self, manifest: FileManifest | None) -> Path | None:
        return None

    @override
    def make_parent(self, permissions: FilePermissions | None) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    @override
    def recover(self) -> Path | None:
        self._next_path.unlink(missing_ok=True)
        self.new.unlink(missing_ok=True)
        for left in self._leftovers():
            left.unlink()
        return None

    def _leftovers(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from self._folder.glob(f".*{self._suffix}")


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
