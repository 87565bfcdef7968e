"""Atomic replacement of a legacy file, without losing an edit of another program.

If the system can, the two files are exchanged in one step, and the old one is verified
afterwards: if another program has changed it at the last moment, it is put back. The manifest
of the new file is written before the exchange, so that recovery can tell how far a crashed
process got.
"""

from __future__ import annotations

import contextlib
import errno
import stat
import time
from pathlib import Path
from typing import Final

from typing_extensions import override

from pend_storage import crashpoints
from pend_storage._files.by_path import make_directories, unlink
from pend_storage._files.directory import Directory
from pend_storage._files.linked import LinkedFile
from pend_storage._files.names import fitting
from pend_storage._files.trust import fault_of_legacy
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileManifest,
    FileSignature,
    digest_of,
    load_manifest,
    save_manifest,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import FilePermissions
from pend_storage.stores.json._legacy_sync.preflight import (
    refuse_problems,
)
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile

__all__ = ["SingleFile"]

_KEPT: Final = "kept"

_FILE_WRITTEN = crashpoints.declare(
    "json.file-written", "a legacy file is written anew, beside the old one"
)
_FILE_NOTED = crashpoints.declare(
    "json.file-noted", "what the new legacy file shows is noted; the old one stands"
)
_FILE_SWAPPED = crashpoints.declare(
    "json.file-swapped",
    "the new legacy file stands in its place; the old one is beside",
)
_FILE_SETTLED = crashpoints.declare(
    "json.file-settled", "the old legacy file is gone; the note is not yet confirmed"
)


class SingleFile(SyncedFile):
    """A single legacy file: a new version replaces it as a whole."""

    @override
    def replace(self, manifest: FileManifest, before: FileSignature | None) -> bool:
        _FILE_WRITTEN()
        manifest.replaced = before  # recognises a late edit of the replaced file
        manifest.signature = manifest.signature._replace(
            ctime_ns=0
        )  # the swap changes it
        save_manifest(self._next_path, manifest)
        self._undo.append(lambda: unlink(self._next_path))
        _FILE_NOTED()
        with self._place() as place:
            if not self._swap(place, manifest, before):
                place.directory.unlink(self._new_name(place))
                unlink(self._next_path)
                return False
            _FILE_SWAPPED()
            # The exchange is durable before the old one goes.
            place.directory.sync()
            self._retire_old(place)
        _FILE_SETTLED()
        # Missing before the first version of the file.
        with contextlib.suppress(FileNotFoundError), self._views() as views:
            views.rename(self._manifest_path.name, self._before_path.name)
        self._confirm()
        self._record_ctime(manifest)
        return True

    def _record_ctime(self, manifest: FileManifest) -> None:
        """Record the ctime of the installed file; its content is verified in a later round."""
        status = self.status()
        found = None if status is None else signature_of(status)
        if found is not None and found.is_but_for_ctime(manifest.signature):
            manifest.signature = found

    def _swap(
        self, place: LinkedFile, manifest: FileManifest, before: FileSignature | None
    ) -> bool:
        if self._is_relinked(place):
            return False  # the symbolic link was changed meanwhile
        new, directory = self._new_name(place), place.directory
        if before is None:
            return self._move_new(place)
        status = self.status()
        if status is None or signature_of(status) != before:
            return False
        exchanged = directory.exchange(new, place.name)
        if not exchanged:
            directory.rename(new, place.name)
        # From here on the name beside leads to the old file, which may hold an edit: a
        # failure must not delete it.
        self._undo.clear()
        if not exchanged:
            return True
        if signature_of(directory.status(new)).is_but_for_ctime(before):
            return True
        self._restore_original(place, manifest)
        return False

    def _move_new(self, place: LinkedFile) -> bool:
        try:
            place.directory.move_new(self._new_name(place), place.name)
        except FileExistsError:
            return False
        self._undo.clear()
        return True

    def _restore_original(self, place: LinkedFile, manifest: FileManifest) -> None:
        """Put the old file back: another program changed it just before the exchange."""
        new, directory = self._new_name(place), place.directory
        directory.exchange(new, place.name)
        found = signature_of(directory.status(new))
        if found.inode != manifest.signature.inode:
            # Replaced once more, before it could be put back: the latest file counts.
            directory.exchange(new, place.name)
            self._unreported_edit = self._retain(directory, new)
        elif not found.is_but_for_ctime(manifest.signature):
            # A program has written into the new file meanwhile: retain that as a late edit.
            self._unreported_edit = self._retain(directory, new)

    def _retire_old(self, place: LinkedFile) -> None:
        """Retain the old file for a round: a program may have it open for writing."""
        new = self._new_name(place)
        with contextlib.suppress(FileNotFoundError), self._views() as views:
            try:
                place.directory.rename(new, self._old_path.name, views)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # Another file system: a rename cannot move it there.
                place.directory.unlink(new)

    # -- afterwards --------------------------------------------------------------------

    @override
    def late_edit(self, manifest: FileManifest | None) -> Path | None:
        unsaid, self._unreported_edit = self._unreported_edit, None
        if unsaid is not None or not self._old_path.exists():
            return unsaid
        with self._views() as views:
            if (
                manifest is not None
                and manifest.replaced is not None
                and self._was_written(views, manifest)
            ):
                return self._retain(views, self._old_path.name)
            views.unlink(self._old_path.name)
        self.forget_replaced()
        return None

    def _was_written(self, views: Directory, manifest: FileManifest) -> bool:
        """Return True if the old file was written after it had been replaced."""
        known, name = manifest.replaced, self._old_path.name
        found = signature_of(views.status(name))
        if known is None or not found.is_but_for_ctime(known):
            return True
        digest = (
            manifest.replaced_digest
        )  # a program can set the times back, not the content
        return bool(digest) and _digest_of(views, name) != digest

    @override
    def make_parent(self, permissions: FilePermissions | None) -> None:
        refuse_problems(self.path)
        if permissions is None:
            make_directories(self.target.parent)
        else:
            permissions.make_folders(self.target.parent)

    @override
    def recover(self) -> Path | None:
        try:
            with self._place() as place:
                return self._recover(place)
        except FileNotFoundError:  # its directory is missing
            if self._next_path.exists():
                unlink(self._next_path)
            return None

    def _recover(self, place: LinkedFile) -> Path | None:
        kept = None
        if self._next_path.exists():
            kept = self._recover_swap(place)
        new = self._new_name(place)
        if place.directory.find(new) is not None:
            place.directory.unlink(new)
        return kept

    def _recover_swap(self, place: LinkedFile) -> Path | None:
        coming = load_manifest(self._next_path)
        status = place.directory.find(self._new_name(place))
        is_ours = status is not None and stat.S_ISREG(status.st_mode)
        beside = signature_of(status) if status is not None and is_ours else None
        if coming is None or self._was_not_installed(place, coming, beside):
            unlink(self._next_path)
            return None
        kept = None
        before = self.manifest() or self.replaced_manifest()
        if beside is not None and not (before and self._shows(place, before, beside)):
            kept = self._retain(place.directory, self._new_name(place))
        self._confirm()
        return kept

    def _shows(
        self, place: LinkedFile, manifest: FileManifest, beside: FileSignature
    ) -> bool:
        """Return True if the file beside the target is the one that a manifest describes."""
        if not manifest.signature.is_but_for_ctime(beside):
            return False
        return _digest_of(place.directory, self._new_name(place)) == manifest.digest

    def _was_not_installed(
        self, place: LinkedFile, coming: FileManifest, beside: FileSignature | None
    ) -> bool:
        """Return True if a crash came before the new file was installed.

        Then it stands beside the old one; or it is gone because the power failed before its
        name was on the disk. The digest recognises it in a copy of the directory, where
        inodes differ.
        """
        name = place.name if beside is None else self._new_name(place)
        status = place.directory.find(name)
        if status is None:
            found = False
        else:
            found = status.st_ino == coming.signature.inode
            found = found or _digest_of(place.directory, name) == coming.digest
        return found is (beside is not None)

    def _retain(self, directory: Directory, name: str) -> Path:
        """Move a file that may hold an edit to the store's own directory."""
        kept = fitting(self.target.name, f"-{time.time_ns()}")
        with Directory(self._own) as own:
            with contextlib.suppress(FileExistsError):
                mode = stat.S_IMODE(own.status().st_mode)
                own.make_directory(_KEPT).adopt_folder(own, mode)
            with own.directory(_KEPT) as folder:
                folder.replace(kept, [directory.read(name, check=fault_of_legacy)])
        directory.unlink(name)
        return self._own / _KEPT / kept


def _digest_of(directory: Directory, name: str) -> str:
    return digest_of(directory.read(name, check=fault_of_legacy))
