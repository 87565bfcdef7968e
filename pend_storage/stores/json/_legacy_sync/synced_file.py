"""A legacy file, or a folder of files, that is kept in step with the store."""

from __future__ import annotations

import contextlib
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pend_storage.stores.json._journal.atomic_files import (
    fitting,
    sync_directory,
)
from pend_storage.stores.json._legacy_sync.file_attributes import FileAttributes, read
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
from pend_storage.stores.json._legacy_sync.preflight import (
    explained,
    open_regular,
)

__all__ = ["SyncedFile"]


class SyncedFile(ABC):
    """Read a legacy file, and keep the manifest of what it showed.

    How a new version takes its place is up to the subclass.
    """

    def __init__(self, path: Path, manifest_path: Path, part: str = "") -> None:
        """Make one.

        Args:
            path: of the legacy file; a symbolic link stays one.
            manifest_path: where its manifest is kept.
            part: of the file that is looked after, where there are several.
        """
        self._suffix = ".pend-new"
        if part:  # what the others leave beside the file is not ours
            self._suffix = f".{digest_of(part.encode())[:8]}{self._suffix}"
        self.path = path
        self.target = self.new = path
        self._manifest_path = manifest_path
        self._next_path = manifest_path.with_suffix(".next")
        self._old_path = manifest_path.with_suffix(".old")
        self._before_path = manifest_path.with_suffix(".prev")
        self._own = manifest_path.parent.parent
        self._unreported_edit: Path | None = None
        """Where an edit is kept that was not reported yet."""
        self._temporary_files: list[Path] = []
        """Files of a version under way, to be deleted if it fails."""
        self.locate()

    def locate(self) -> bool:
        """Follow symbolic links to the file; tells whether it is another one than before.

        Links may be pointed at another file at any time, on the way to the file too.
        """
        before, self.target = self.target, Path(os.path.realpath(self.path))
        self.new = self.target.with_name(fitting(f".{self.target.name}", self._suffix))
        return self.target != before

    def status(self) -> os.stat_result | None:
        """Of the file; None where it is missing.

        Raises:
            ConfigError: there is a loop of links in its place, and so on.
        """
        with self._translated_errors():
            try:
                return self.target.stat()
            except FileNotFoundError:
                return None

    def attributes(self) -> FileAttributes | None:
        """What belongs to the file beyond its bytes; None where it is missing."""
        try:
            fd = open_regular(self.target)
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
        """The file and its status, if it holds still meanwhile; None if it is missing.

        Raises:
            ConfigError: something else than a regular file is in its place.
            InterruptedError: a program is writing it just now.
        """
        try:
            with os.fdopen(open_regular(self.target), "rb") as file:
                before = os.fstat(file.fileno())
                raw = file.read()
                after = os.fstat(file.fileno())
        except FileNotFoundError:
            return None
        if signature_of(before) != signature_of(after):
            raise InterruptedError(errno.EINTR, "being written", str(self.target))
        return raw, after

    def read_unchanged(
        self, manifest: FileManifest
    ) -> tuple[bytes, os.stat_result] | None:
        """The file if it is still as it was read last; None where it is not."""
        try:
            read = self.read()
        except InterruptedError:
            return None
        if read is None or signature_of(read[1]) != manifest.signature:
            return None
        if read[0].strip() if manifest.anew else digest_of(read[0]) != manifest.digest:
            # Changed in a way that the signature does not tell: the next look reads it.
            manifest.signature = manifest.signature._replace(ctime_ns=0)
            return None
        return read

    # -- manifest ----------------------------------------------------------------------

    def manifest(self) -> FileManifest | None:
        """What the file showed when this store wrote or read it last."""
        return load_manifest(self._manifest_path)

    def is_unmodified(self) -> bool:
        """Whether the file seems to be as it was left, with nothing to tidy up."""
        status = self.status()
        shown = load_signature(self._manifest_path)
        if status is None or shown != signature_of(status):
            return status is None and shown is None
        return not self.has_leftovers()

    def manifest_stamp(self) -> FileSignature | None:
        """By which a change of the manifest by another process is noticed."""
        try:
            return signature_of(self._manifest_path.stat())
        except FileNotFoundError:
            return None

    def forget_manifest(self) -> None:
        """The file shows nothing any more."""
        self._manifest_path.unlink(missing_ok=True)

    def save_manifest(self, manifest: FileManifest) -> None:
        """Keep what the file shows."""
        save_manifest(self._manifest_path, manifest)

    def replaced_manifest(self) -> FileManifest | None:
        """What the old file showed; None where that is not known any more."""
        return load_manifest(self._before_path)

    def forget_replaced(self) -> None:
        """What the old file showed is not needed any more."""
        self._before_path.unlink(missing_ok=True)

    def _confirm(self) -> None:
        os.replace(self._next_path, self._manifest_path)  # noqa: PTH105 - as in disk
        sync_directory(self._manifest_path.parent)

    # -- a new version -----------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the making of a new version: if it fails, nothing of it stays.

        Raises:
            ConfigError: the file can never be written where it is.
        """
        self._temporary_files = [self.new]
        try:
            with self._translated_errors():
                yield
        except BaseException:
            for path in self._temporary_files:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        finally:
            self._temporary_files = []

    @abstractmethod
    def replace(self, manifest: FileManifest, before: FileSignature | None) -> bool:
        """Put the new file, which has been written, in the place of the old one.

        Args:
            manifest: what the new file shows.
            before: of the old file; None where there was none.

        Returns:
            False where a program has changed the old one meanwhile: it stays.
        """

    @abstractmethod
    def late_edit(self, manifest: FileManifest | None) -> Path | None:
        """Let go of the old file; gives where it is kept if it was changed even so.

        Args:
            manifest: what the present file shows. It tells what the old one was, whichever
                process has put it aside.
        """

    def has_leftovers(self) -> bool:
        """Whether a process has died, or failed, on the way."""
        return self._next_path.exists() or self.new.exists()

    @abstractmethod
    def make_parent(self, permissions: FilePermissions | None) -> None:
        """Make the directory of a file that is not there.

        Args:
            permissions: of the file, if known: no other user gets into the directory.

        Raises:
            ConfigError: a symbolic link on the way to it leads nowhere, and so on.
        """

    @abstractmethod
    def recover(self) -> Path | None:
        """Tidy up after a process that died on the way.

        Returns a file in which an edit is kept, if one was lost on that way.
        """
