"""Puts a new file in the place of an old one, so that nobody's edit gets lost.

Where the system can, the two files are exchanged in one step, and the old one is looked
at afterwards: if somebody has changed it at the last moment, it is put back. What the new
file shows is noted before, so that a crash anywhere in between can be understood.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage.stores.json._journal.atomic_files import (
    exchange,
    fitting,
    give_to,
    move_new,
    sync_directory,
)
from pend_storage.stores.json._legacy_sync.file_attributes import Attributes, read
from pend_storage.stores.json._legacy_sync.file_manifest import (
    Signature,
    View,
    digest_of,
    load_signature,
    load_view,
    save_view,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import Permissions
from pend_storage.stores.json._legacy_sync.preflight import (
    explained,
    open_regular,
    refuse_problems,
)

__all__ = ["Place"]

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


class Place:
    """Where a legacy file is, and everything that is kept with it."""

    def __init__(self, path: Path, view_path: Path, part: str = "") -> None:
        """Make one.

        Args:
            path: of the legacy file; a symbolic link stays one.
            view_path: where its view is kept.
            part: of the file that is looked after, where there are several.
        """
        self._suffix = ".pend-new"
        if part:  # what the others leave beside the file is not ours
            self._suffix = f".{digest_of(part.encode())[:8]}{self._suffix}"
        self.path = path
        self.target = self.new = path
        self._view_path = view_path
        self._next_path = view_path.with_suffix(".next")
        self._old_path = view_path.with_suffix(".old")
        self._before_path = view_path.with_suffix(".prev")
        self._own = view_path.parent.parent
        self._unsaid: Path | None = None
        """Where an edit is kept of which nobody was told yet."""
        self._made: list[Path] = []
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
        with self._explaining():
            try:
                return self.target.stat()
            except FileNotFoundError:
                return None

    def attributes(self) -> Attributes | None:
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
    def _explaining(self) -> Iterator[None]:
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
            InterruptedError: somebody is writing it just now.
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

    # -- view -----------------------------------------------------------------------

    def view(self) -> View | None:
        """What the file showed when this store wrote or read it last."""
        return load_view(self._view_path)

    def untouched(self) -> bool:
        """Whether the file seems to be as it was left, with nothing to tidy up."""
        status = self.status()
        shown = load_signature(self._view_path)
        if status is None or shown != signature_of(status):
            return status is None and shown is None
        return not self.has_leavings()

    def view_stamp(self) -> Signature | None:
        """By which a change of the view by another process is noticed."""
        try:
            return signature_of(self._view_path.stat())
        except FileNotFoundError:
            return None

    def forget_view(self) -> None:
        """The file shows nothing any more."""
        self._view_path.unlink(missing_ok=True)

    def save_view(self, view: View) -> None:
        """Keep what the file shows."""
        save_view(self._view_path, view)

    # -- swapping -------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the making of a new version: if it fails, nothing of it stays.

        Raises:
            ConfigError: the file can never be written where it is.
        """
        self._made = [self.new]
        try:
            with self._explaining():
                yield
        except BaseException:
            for path in self._made:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        finally:
            self._made = []

    def put(self, view: View, before: Signature | None) -> bool:
        """Put the new file, which has been written, in the place of the old one.

        Args:
            view: what the new file shows.
            before: of the old file; None where there was none.

        Returns:
            False where somebody has changed the old one meanwhile: it stays.
        """
        _FILE_WRITTEN()
        view.replaced = before
        view.signature = view.signature._replace(ctime_ns=0)  # the swap changes it
        save_view(self._next_path, view)
        self._made.append(self._next_path)
        _FILE_NOTED()
        if not self._swap(view, before):
            self.new.unlink(missing_ok=True)
            self._next_path.unlink(missing_ok=True)
            return False
        _FILE_SWAPPED()
        sync_directory(self.target.parent)
        self._retire_old()
        _FILE_SETTLED()
        with contextlib.suppress(FileNotFoundError):  # there was none before
            os.replace(self._view_path, self._before_path)  # noqa: PTH105 - as in disk
        self._confirm()
        self._take_ctime(view)
        return True

    def _take_ctime(self, view: View) -> None:
        """Recognise the file that was just put in place; its content is verified later."""
        status = self.status()
        found = None if status is None else signature_of(status)
        if found is not None and found.is_but_for_ctime(view.signature):
            view.signature = found

    def _swap(self, view: View, before: Signature | None) -> bool:
        if os.path.realpath(self.path) != str(self.target):
            return False  # a link leads to another file by now
        if before is None:
            return self._move_new()
        status = self.status()
        if status is None or signature_of(status) != before:
            return False
        exchanged = exchange(self.new, self.target)
        if not exchanged:
            os.replace(self.new, self.target)  # noqa: PTH105 - as in disk
        self._made.clear()  # from here on what is beside is the old one
        if not exchanged:
            return True
        if signature_of(self.new.stat()).is_but_for_ctime(before):
            return True
        self._put_back(view)
        return False

    def _move_new(self) -> bool:
        try:
            move_new(self.new, self.target)
        except FileExistsError:
            return False
        self._made.clear()
        return True

    def _put_back(self, view: View) -> None:
        """The old file was changed at the very last moment: it is the one that counts."""
        exchange(self.new, self.target)
        found = signature_of(self.new.stat())
        if found.inode != view.signature.inode:
            # And replaced once more, before we could put it back: the last one counts.
            exchange(self.new, self.target)
            self._unsaid = self._keep(self.new)
        elif not found.is_but_for_ctime(view.signature):
            # Somebody has written into the new one meanwhile.
            self._unsaid = self._keep(self.new)

    def _retire_old(self) -> None:
        """Keep the old file a little longer: a program may have it open for writing."""
        with contextlib.suppress(FileNotFoundError):
            try:
                os.replace(self.new, self._old_path)  # noqa: PTH105 - as in disk
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self.new.unlink()  # it is on another file system

    def _confirm(self) -> None:
        os.replace(self._next_path, self._view_path)  # noqa: PTH105 - as in disk
        sync_directory(self._view_path.parent)

    # -- afterwards -----------------------------------------------------------------

    def late_edit(self, view: View | None) -> Path | None:
        """Let go of the old file; gives where it is kept if it was changed even so.

        Args:
            view: what the present file shows. It tells what the old one was, whichever
                process has put it aside.
        """
        unsaid, self._unsaid = self._unsaid, None
        if unsaid is not None or not self._old_path.exists():
            return unsaid
        if view is not None and view.replaced is not None and self._was_written(view):
            return self._keep(self._old_path)
        self._old_path.unlink()
        self.forget_replaced()
        return None

    def replaced_view(self) -> View | None:
        """What the old file showed; None where that is not known any more."""
        return load_view(self._before_path)

    def forget_replaced(self) -> None:
        """What the old file showed is not needed any more."""
        self._before_path.unlink(missing_ok=True)

    def _was_written(self, view: View) -> bool:
        """Whether the old file is another one than this view's file took the place of."""
        known = view.replaced
        found = signature_of(self._old_path.stat())
        if known is None or not found.is_but_for_ctime(known):
            return True
        digest = view.replaced_digest  # its times may have been put back
        return bool(digest) and digest_of(self._old_path.read_bytes()) != digest

    def has_leavings(self) -> bool:
        """Whether a process has died, or failed, on the way."""
        return self._next_path.exists() or self.new.exists()

    def make_room(self, permissions: Permissions | None) -> None:
        """Make the directory of a file that is not there.

        Args:
            permissions: of the file, if known: nobody else gets into the directory.

        Raises:
            ConfigError: a symbolic link on the way to it leads nowhere, and so on.
        """
        refuse_problems(self.path)
        if permissions is None:
            _make_folders(self.target.parent)
        else:
            permissions.make_folders(self.target.parent)

    def recover(self) -> Path | None:
        """Tidy up after a process that died on the way.

        Gives a file in which somebody's edit is kept, if one was lost on that way.
        """
        kept = None
        if self._next_path.exists():
            kept = self._recover_swap()
        self.new.unlink(missing_ok=True)
        return kept

    def _recover_swap(self) -> Path | None:
        coming = load_view(self._next_path)
        beside = signature_of(self.new.stat()) if self.new.exists() else None
        if coming is None or self._never_came(coming, beside):
            self._next_path.unlink()
            return None
        kept = None
        before = self.view() or self.replaced_view()
        if beside is not None and not (before and self._shows(before, beside)):
            kept = self._keep(self.new)
        self._confirm()
        return kept

    def _shows(self, view: View, beside: Signature) -> bool:
        """Whether the file beside the new one is as a view says that it was."""
        if not view.signature.is_but_for_ctime(beside):
            return False
        return digest_of(self.new.read_bytes()) == view.digest

    def _never_came(self, coming: View, beside: Signature | None) -> bool:
        """Whether the new file did not get to its place.

        It stands beside the old one; or it is gone because the power failed before its name
        was on the disk. In a copy of the directory it is known by its content.
        """
        path = self.target if beside is None else self.new
        try:
            found = path.stat().st_ino == coming.signature.inode
            found = found or digest_of(path.read_bytes()) == coming.digest
        except FileNotFoundError:
            found = False
        return found is (beside is not None)

    def _keep(self, path: Path) -> Path:
        folder = self._own / _KEPT
        folder.mkdir(exist_ok=True)
        kept = folder / fitting(self.target.name, f"-{time.time_ns()}")
        kept.write_bytes(path.read_bytes())
        path.unlink()
        return kept


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it; each belongs to whom the one above belongs to."""
    missing = [at for at in (folder, *folder.parents) if not at.exists()]
    for at in reversed(missing):
        at.mkdir(exist_ok=True)
        fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            give_to(fd, at.parent.stat())
        finally:
            os.close(fd)
