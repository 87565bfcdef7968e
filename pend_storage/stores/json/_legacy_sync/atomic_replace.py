"""Atomic replacement of a legacy file, without losing an edit of another program.

If the system can, the two files are exchanged in one step, and the old one is verified
afterwards: if another program has changed it at the last moment, it is put back. The manifest
of the new file is written before the exchange, so that recovery can tell how far a crashed
process got.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Final

from typing_extensions import override

from pend_storage import crashpoints
from pend_storage.stores.json._journal.atomic_files import (
    exchange,
    fitting,
    give_to,
    move_new,
    sync_directory,
)
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
        self._temporary_files.append(self._next_path)
        _FILE_NOTED()
        if not self._swap(manifest, before):
            self.new.unlink(missing_ok=True)
            self._next_path.unlink(missing_ok=True)
            return False
        _FILE_SWAPPED()
        sync_directory(
            self.target.parent
        )  # the exchange is durable before the old one goes
        self._retire_old()
        _FILE_SETTLED()
        with contextlib.suppress(FileNotFoundError):  # the first version of the file
            os.replace(self._manifest_path, self._before_path)  # noqa: PTH105 - as in disk
        self._confirm()
        self._record_ctime(manifest)
        return True

    def _record_ctime(self, manifest: FileManifest) -> None:
        """Record the ctime of the installed file; its content is verified in a later round."""
        status = self.status()
        found = None if status is None else signature_of(status)
        if found is not None and found.is_but_for_ctime(manifest.signature):
            manifest.signature = found

    def _swap(self, manifest: FileManifest, before: FileSignature | None) -> bool:
        if os.path.realpath(self.path) != str(self.target):
            return False  # the symbolic link was changed meanwhile
        if before is None:
            return self._move_new()
        status = self.status()
        if status is None or signature_of(status) != before:
            return False
        exchanged = exchange(self.new, self.target)
        if not exchanged:
            os.replace(self.new, self.target)  # noqa: PTH105 - as in disk
        # From here on the name beside leads to the old file, which may hold an edit: a
        # failure must not delete it.
        self._temporary_files.clear()
        if not exchanged:
            return True
        if signature_of(self.new.stat()).is_but_for_ctime(before):
            return True
        self._restore_original(manifest)
        return False

    def _move_new(self) -> bool:
        try:
            move_new(self.new, self.target)
        except FileExistsError:
            return False
        self._temporary_files.clear()
        return True

    def _restore_original(self, manifest: FileManifest) -> None:
        """Put the old file back: another program changed it just before the exchange."""
        exchange(self.new, self.target)
        found = signature_of(self.new.stat())
        if found.inode != manifest.signature.inode:
            # Replaced once more, before it could be put back: the latest file counts.
            exchange(self.new, self.target)
            self._unreported_edit = self._retain(self.new)
        elif not found.is_but_for_ctime(manifest.signature):
            # A program has written into the new file meanwhile: retain that as a late edit.
            self._unreported_edit = self._retain(self.new)

    def _retire_old(self) -> None:
        """Retain the old file for a round: a program may have it open for writing."""
        with contextlib.suppress(FileNotFoundError):
            try:
                os.replace(self.new, self._old_path)  # noqa: PTH105 - as in disk
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self.new.unlink()  # another file system: a rename cannot move it there

    # -- afterwards --------------------------------------------------------------------

    @override
    def late_edit(self, manifest: FileManifest | None) -> Path | None:
        unsaid, self._unreported_edit = self._unreported_edit, None
        if unsaid is not None or not self._old_path.exists():
            return unsaid
        if (
            manifest is not None
            and manifest.replaced is not None
            and self._was_written(manifest)
        ):
            return self._retain(self._old_path)
        self._old_path.unlink()
        self.forget_replaced()
        return None

    def _was_written(self, manifest: FileManifest) -> bool:
        """Return True if the old file was written after it had been replaced."""
        known = manifest.replaced
        found = signature_of(self._old_path.stat())
        if known is None or not found.is_but_for_ctime(known):
            return True
        digest = (
            manifest.replaced_digest
        )  # a program can set the times back, not the content
        return bool(digest) and digest_of(self._old_path.read_bytes()) != digest

    @override
    def make_parent(self, permissions: FilePermissions | None) -> None:
        refuse_problems(self.path)
        if permissions is None:
            _make_folders(self.target.parent)
        else:
            permissions.make_folders(self.target.parent)

    @override
    def recover(self) -> Path | None:
        kept = None
        if self._next_path.exists():
            kept = self._recover_swap()
        self.new.unlink(missing_ok=True)
        return kept

    def _recover_swap(self) -> Path | None:
        coming = load_manifest(self._next_path)
        beside = signature_of(self.new.stat()) if self.new.exists() else None
        if coming is None or self._was_not_installed(coming, beside):
            self._next_path.unlink()
            return None
        kept = None
        before = self.manifest() or self.replaced_manifest()
        if beside is not None and not (before and self._shows(before, beside)):
            kept = self._retain(self.new)
        self._confirm()
        return kept

    def _shows(self, manifest: FileManifest, beside: FileSignature) -> bool:
        """Return True if the file beside the target is the one that a manifest describes."""
        if not manifest.signature.is_but_for_ctime(beside):
            return False
        return digest_of(self.new.read_bytes()) == manifest.digest

    def _was_not_installed(
        self, coming: FileManifest, beside: FileSignature | None
    ) -> bool:
        """Return True if a crash came before the new file was installed.

        Then it stands beside the old one; or it is gone because the power failed before its
        name was on the disk. The digest recognises it in a copy of the directory, where
        inodes differ.
        """
        path = self.target if beside is None else self.new
        try:
            found = path.stat().st_ino == coming.signature.inode
            found = found or digest_of(path.read_bytes()) == coming.digest
        except FileNotFoundError:
            found = False
        return found is (beside is not None)

    def _retain(self, path: Path) -> Path:
        folder = self._own / _KEPT
        folder.mkdir(exist_ok=True)
        kept = folder / fitting(self.target.name, f"-{time.time_ns()}")
        kept.write_bytes(path.read_bytes())
        path.unlink()
        return kept


def _make_folders(folder: Path) -> None:
    """Create a directory and its parents; each gets the owner of its parent."""
    missing = [at for at in (folder, *folder.parents) if not at.exists()]
    for at in reversed(missing):
        at.mkdir(exist_ok=True)
        fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            give_to(fd, at.parent.stat())
        finally:
            os.close(fd)
