"""Synchronised file: a legacy file, or a folder of files, and its manifest."""

from __future__ import annotations

import contextlib
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

from pend_storage._files.attributes import FileAttributes, read
from pend_storage._files.by_path import unlink
from pend_storage._files.direct import DirectoryMissing
from pend_storage._files.directory import Directory
from pend_storage._files.linked import LinkedFile
from pend_storage._files.names import fitting
from pend_storage._files.paths import resolve
from pend_storage._files.reading import read_all
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileManifest,
    FileSignature,
    digest_of,
    load_manifest,
    load_signature,
    save_manifest,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import FilePermissions
from pend_storage.stores.json._legacy_sync.preflight import explained

__all__ = ["SyncedFile"]


class SyncedFile(ABC):
    """Read a legacy file, and store its manifest.

    The subclass replaces it by a new version.
    """

    def __init__(self, path: Path, manifest_path: Path, part: str = "") -> None:
        """Create it.

        Args:
            path: of the legacy file; a symbolic link stays one.
            manifest_path: of its manifest.
            part: name of the part of the file, if several layouts share the file.
        """
        self._suffix = ".pend-new"
        if (
            part
        ):  # layouts that share the file must not take each other's temporary files
            self._suffix = f".{digest_of(part.encode())[:8]}{self._suffix}"
        self.path = path
        self.target = path
        """Path of the file, without links, when it was located last."""
        self._held: LinkedFile | None = None
        self._is_holding = False
        self._manifest_path = manifest_path
        self._next_path = manifest_path.with_suffix(".next")
        self._old_path = manifest_path.with_suffix(".old")
        self._before_path = manifest_path.with_suffix(".prev")
        self._own = manifest_path.parent.parent
        self._unreported_edit: Path | None = None
        """Path of a late edit that was not reported yet."""
        self._undo: list[Callable[[], None]] = []
        """Deletes the files of a version being written, if that fails."""
        self.locate()

    def locate(self) -> bool:
        """Resolve symbolic links to the file; return True if the target has changed.

        Links may be changed at any time, also those of directories above the file.
        """
        before = self.target
        self._release()
        self.target = self._followed()
        return self.target != before

    def _followed(self) -> Path:
        """Return the path of the file without links; hold its directory in a round."""
        if not self._is_holding:
            return Path(os.path.realpath(self.path))
        try:
            self._held = LinkedFile(self.path)
        except DirectoryMissing:
            return self.path
        except OSError:  # each access meets it again, and raises it
            return Path(os.path.realpath(self.path))
        return self._held.path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory of the file open within the block, as of each `locate`."""
        self._is_holding = True
        try:
            yield
        finally:
            self._is_holding = False
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    @contextmanager
    def _place(self) -> Iterator[LinkedFile]:
        """Open the directory of the file, unless it is held."""
        if self._held is not None:
            yield self._held
        elif self._is_holding:
            self._held = self._opened()
            yield self._held
        else:
            with self._opened() as place:
                yield place

    def _opened(self) -> LinkedFile:
        try:
            return LinkedFile(self.path)
        except FileNotFoundError:
            raise
        except OSError as error:
            found = explained(self.path, error)
            if found is not None:
                raise found from error
            raise

    def _is_relinked(self, place: LinkedFile) -> bool:
        """Return True if the path leads elsewhere by now."""
        try:
            now = resolve(self.path)
        except OSError:
            return True
        os.close(now.fd)
        return now.path != place.path

    def _new_name(self, place: LinkedFile) -> str:
        """Return the name of a new version, beside the file."""
        return fitting(f".{place.name}", self._suffix)

    def status(self) -> os.stat_result | None:
        """Return the status of the file; None if it is missing.

        Raises:
            ConfigError: its path is a loop of links, and so on.
        """
        with self._translated_errors():
            try:
                if self._held is not None:
                    return self._held.status()
                with self._place() as place:
                    return place.status()
            except FileNotFoundError:
                return None

    def attributes(self) -> FileAttributes | None:
        """Return mode, owner and extended attributes; None if the file is missing."""
        try:
            with self._place() as place:
                fd = place.open()
        except FileNotFoundError:
            return None
        try:
            return read(fd)
        finally:
            os.close(fd)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            found = explained(self.path, error)
            if found is not None:
                raise found from error
            raise

    def read(self) -> tuple[bytes, os.stat_result] | None:
        """Return content and status; None if the file is missing.

        Raises:
            ConfigError: it is no regular file, too large, or another user's.
            InterruptedError: it changed while it was read.
        """
        try:
            with self._place() as place:
                fd = place.open()
        except FileNotFoundError:
            return None
        try:
            before = os.fstat(fd)
            raw = read_all(fd, self.path)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if signature_of(before) != signature_of(after):
            raise InterruptedError(errno.EINTR, "being written", str(self.target))
        return raw, after

    def read_unchanged(
        self, manifest: FileManifest
    ) -> tuple[bytes, os.stat_result] | None:
        """Return content and status if the file is still as its manifest says; else None."""
        try:
            read = self.read()
        except InterruptedError:
            return None
        if read is None or signature_of(read[1]) != manifest.signature:
            return None
        if (
            read[0].strip()
            if manifest.render_all
            else digest_of(read[0]) != manifest.digest
        ):
            # An edit that left size and times: an unknown ctime makes the next round read it.
            manifest.signature = manifest.signature._replace(ctime_ns=0)
            return None
        return read

    # -- manifest ----------------------------------------------------------------------

    def manifest(self) -> FileManifest | None:
        """Return the manifest of the last read or write."""
        if not self._manifest_path.exists():
            return None  # as for a file that is missing: each round asks again
        return load_manifest(self._manifest_path)

    def is_unmodified(self) -> bool:
        """Return True if signature and manifest agree, and there are no leftovers."""
        status = self.status()
        shown = load_signature(self._manifest_path)
        if status is None or shown != signature_of(status):
            return status is None and shown is None
        return not self.has_leftovers()

    def manifest_stamp(self) -> FileSignature | None:
        """Return the signature of the manifest: it changes when another process saves one."""
        try:
            return signature_of(self._manifest_path.stat())
        except FileNotFoundError:
            return None

    def forget_manifest(self) -> None:
        """Delete the manifest: the file is missing."""
        unlink(self._manifest_path)

    def save_manifest(self, manifest: FileManifest) -> None:
        """Write the manifest, durably."""
        save_manifest(self._manifest_path, manifest)

    def forget(self, tokens: AbstractSet[str]) -> None:
        """Erase records from the history of texts in the manifest."""
        manifest = self.manifest()
        if manifest is not None and manifest.shown.names(tokens):
            manifest.shown = manifest.shown.without(tokens)
            self.save_manifest(manifest)

    def replaced_manifest(self) -> FileManifest | None:
        """Return the manifest of the replaced file; None if it is not known any more."""
        return load_manifest(self._before_path)

    def replaced_positions(self) -> tuple[Position, ...]:
        """Return the positions of the replaced file, as long as it may hold a late edit.

        Such an edit is compared with the state at them.
        """
        if not (self._old_path.exists() or self.has_leftovers()):
            return ()
        replaced = self.replaced_manifest()
        return () if replaced is None else replaced.positions

    def forget_replaced(self) -> None:
        """Delete the manifest of the replaced file."""
        unlink(self._before_path)

    def _confirm(self) -> None:
        with self._views() as views:
            views.rename(self._next_path.name, self._manifest_path.name)
            views.sync()

    def _views(self) -> Directory:
        """Open the directory of the manifests."""
        return Directory(self._manifest_path.parent)

    # -- a new version -----------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[tuple[Directory, str]]:
        """Write a new version within the block; if that fails, delete its temporary files.

        Yields:
            The directory and the name of the new version.

        Raises:
            ConfigError: the file can never be written where it is.
        """
        with self._translated_errors(), self._place() as place:
            name = self._new_name(place)
            self._undo = [lambda: place.directory.unlink(name)]
            try:
                yield place.directory, name
            except BaseException:
                for undo in self._undo:
                    with contextlib.suppress(OSError):
                        undo()
                raise
            finally:
                self._undo = []

    @abstractmethod
    def replace(self, manifest: FileManifest, before: FileSignature | None) -> bool:
        """Replace the old file by the new one, which has been written.

        Args:
            manifest: of the new file.
            before: signature of the old file; None if there was none.

        Returns:
            False if another program has changed the old file meanwhile: it stays.
        """

    @abstractmethod
    def late_edit(self, manifest: FileManifest | None) -> Path | None:
        """Delete the replaced file; if it was written after all, retain it as a late edit.

        Args:
            manifest: of the present file; it has the signature of the replaced one,
                whichever process replaced it.

        Returns:
            Path of the late edit.
        """

    def has_leftovers(self) -> bool:
        """Return True if a process died or failed while it replaced the file."""
        if self._next_path.exists():
            return True
        with contextlib.suppress(FileNotFoundError), self._place() as place:
            return place.directory.find(self._new_name(place)) is not None
        return False

    @abstractmethod
    def make_parent(self, permissions: FilePermissions | None) -> None:
        """Create the directory of a missing file.

        Args:
            permissions: of the file, if known: they limit access to the directory.

        Raises:
            ConfigError: a symbolic link above it is dangling, and so on.
        """

    @abstractmethod
    def recover(self) -> Path | None:
        """Recover from a process that died while it replaced the file.

        Returns:
            Path of a late edit, if the crash left one.
        """
