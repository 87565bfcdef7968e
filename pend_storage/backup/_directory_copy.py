"""Directory copy: complete and verified, made while servers write to the directory.

.. code-block:: text

    data-backup-20260131T120000Z/
        manifest.json       size and SHA-256 of every file
        data/...            the files, where they were in the directory
        outside/...         legacy files that lie elsewhere

The copy has another name until it is complete and verified, so an interrupted copy is
never mistaken for a complete one. The next copy removes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from pend_storage.backup._tree import (
    OUTSIDE,
    Fingerprint,
    Keeps,
    Tree,
    everything,
    fingerprint,
    scan_tree,
)
from pend_storage.errors import (
    ConfigError,
    CorruptFile,
    PendStorageError,
    StoreUnavailable,
)
from pend_storage.events import Progress

__all__ = ["DirectoryCopy", "copy_directory", "verify_copy"]

MANIFEST: Final = "manifest.json"
_PARTIAL: Final = ".partial"
_LOCK: Final = "in-progress.lock"
_BLOCK: Final = 1 << 20
_PASSES: Final = 20
"""Times that a file, or the whole directory, may change during the copy."""
_PAUSE: Final = 0.05
"""Seconds before a file that was just written is copied again."""
ReportBytes: TypeAlias = Callable[[int], None]
_RESERVE: Final = 16 << 20
"""Bytes that must stay free on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryCopy:
    """Complete, verified copy of a directory."""

    path: Path
    files: int
    bytes: int
    links: tuple[str, ...] = ()
    """Symbolic links; copied as links, without their targets."""
    left_out: tuple[str, ...] = ()
    """Sockets, pipes and devices."""


def copy_directory(
    source: Path,
    *,
    extra: Mapping[str, Path] | None = None,
    into: Path | None = None,
    keeps: Keeps = everything,
    progress: Progress | None = None,
) -> DirectoryCopy:
    """Copy a directory, and read the copy again to verify it.

    A file that is written meanwhile is copied again, and so is the directory, until two
    scans in a row are equal: then the copy is the directory as it was at one moment.

    Args:
        source: the directory.
        extra: single files outside of it that belong to it, by name.
        into: the folder in which to make the copy; the directory's parent if None.
        keeps: predicate for the entries to copy; all of them unless this is given.
        progress: called with the bytes done and the bytes to do.

    Raises:
        ConfigError: there is no such directory, or a permission is missing.
        StoreUnavailable: no space on the disk, or a file that changes all the time.
        CorruptFile: the copy differs from what was written.
    """
    if not source.is_dir():
        raise ConfigError(f"{source} is not a directory; name the one with the files.")
    parent = source.resolve().parent if into is None else into
    with _explained(source):
        parent.mkdir(parents=True, exist_ok=True)
        _remove_interrupted(parent, source.name)
        folder = _new_folder(parent, source.name)
        work = _Copy(source, extra or {}, folder, keeps, progress)
        try:
            return work.make()
        except BaseException:
            shutil.rmtree(work.partial, ignore_errors=True)
            raise
        finally:
            work.release()


def verify_copy(path: Path) -> int:
    """Verify a copy by the checksums of its manifest; returns the number of its files.

    Raises:
        CorruptFile: a file is missing or has another content.
        ConfigError: the folder is not a copy.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        entries = {str(name): dict(entry) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is not a copy made by this library: {error}. Name the folder that "
            f"has {MANIFEST} in it."
        ) from error
    with _explained(path):
        for name, entry in entries.items():
            _verify(path / name, str(entry["sha256"]), int(entry["size"]))
    return len(entries)


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except PendStorageError:
        raise
    except PermissionError as error:
        raise ConfigError(
            f"{error.filename or place}: permission denied. Correct the permissions, or "
            "name another place for the copy."
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"{error.filename or place}: {error.strerror}", store="the copy"
        ) from error


def _new_folder(parent: Path, name: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1_000):
        ending = "" if number == 1 else f"-{number}"
        folder = parent / f"{name}-backup-{stamp}{ending}"
        try:
            folder.with_name(folder.name + _PARTIAL).mkdir(mode=0o700)
        except FileExistsError:
            continue
        # From here on, no other process can complete a copy of this name.
        if not folder.exists():
            return folder
        folder.with_name(folder.name + _PARTIAL).rmdir()
    raise ConfigError(f"{parent} is full of copies named {name}-backup-{stamp}.")


def _remove_interrupted(parent: Path, name: str) -> None:
    """Remove unfinished copies of processes that have ended: their locks are free."""
    for partial in parent.glob(f"{name}-backup-*{_PARTIAL}"):
        lock = _lock(partial)
        if lock is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)


def _lock(partial: Path) -> int | None:
    """Lock an unfinished copy; None where its process still runs, or the copy is gone."""
    try:
        lock = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


class _Copy:
    """One copy under way, in a folder with a temporary name and a lock."""

    def __init__(
        self,
        source: Path,
        extra: Mapping[str, Path],
        folder: Path,
        keeps: Keeps,
        progress: Progress | None,
    ) -> None:
        self.partial = folder.with_name(folder.name + _PARTIAL)
        self._folder = folder
        self._lock = _lock(self.partial)
        if self._lock is None:
            raise StoreUnavailable(
                "another process makes a copy at the same time", store="the copy"
            )
        self._source = source
        self._extra = {name: path.resolve() for name, path in extra.items()}
        self._keeps = keeps
        self._progress = progress
        self._copied: dict[str, tuple[Fingerprint, str]] = {}
        self._done = 0
        self._total = 0

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def make(self) -> DirectoryCopy:
        tree = self._scan()
        self._check_space(tree)  # a full disk would stop the servers
        self._total = 2 * tree.size  # written, then read
        for _ in range(_PASSES):
            self._copy_changed(tree)
            again = self._scan()
            if again == tree:  # nothing was written between the two scans
                break
            tree = again
            time.sleep(_PAUSE)
        else:
            raise StoreUnavailable(
                f"{self._source} changes all the time; stop the server that writes "
                "there, or choose a quieter moment",
                store="the copy",
            )
        self._create_folders_and_links(tree)
        for name, (found, digest) in self._copied.items():
            _verify(self._target(name), digest, found[1], report=self._report_progress)
        self._finish(tree)
        return DirectoryCopy(
            path=self._folder,
            files=len(self._copied),
            bytes=tree.size,
            links=tuple(tree.links),
            left_out=tuple(sorted(tree.others)),
        )

    def _scan(self) -> Tree:
        return scan_tree(self._source, self._extra, self._keeps)

    def _check_space(self, tree: Tree) -> None:
        free = shutil.disk_usage(self.partial).free
        if free < tree.size + _RESERVE:
            raise StoreUnavailable(
                f"the copy needs {tree.size:,} bytes and {free:,} are free; make room, "
                "or name another place for the copy",
                store=str(self.partial.parent),
            )

    def _report_progress(self, size: int) -> None:
        self._done += size
        if self._progress is not None:  # a file that was copied twice counts twice
            self._progress(min(self._done, self._total), self._total)

    def _target(self, name: str) -> Path:
        return self.partial / name

    def _origin(self, name: str) -> Path:
        folder, _, inside = name.partition("/")
        return self._extra[inside] if folder == OUTSIDE else self._source / inside

    # -- writing -----------------------------------------------------------------------

    def _copy_changed(self, tree: Tree) -> None:
        for name in self._copied.keys() - tree.files.keys():
            self._target(name).unlink()
            del self._copied[name]
        for name, found in tree.files.items():
            if name not in self._copied or self._copied[name][0] != found:
                self._copy_at_rest(name)

    def _copy_at_rest(self, name: str) -> None:
        """Copy a file as it was at one moment; nothing where it was removed meanwhile."""
        target = self._target(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_PASSES):
            try:
                copied = _copy_file(self._origin(name), target, self._report_progress)
            except FileNotFoundError:
                target.unlink(missing_ok=True)
                return
            if copied is not None:
                self._copied[name] = copied
                return
            time.sleep(_PAUSE)
        raise StoreUnavailable(
            f"{self._origin(name)} is written all the time; stop its writer first",
            store="the copy",
        )

    def _create_folders_and_links(self, tree: Tree) -> None:
        """Create the folders, also those without files, and the symbolic links."""
        for name in sorted(tree.folders):
            self._target(name).mkdir(parents=True, exist_ok=True)
        for name, leads_to in tree.links.items():
            self._target(name).symlink_to(leads_to)

    def _finish(self, tree: Tree) -> None:
        manifest: dict[str, Any] = {
            "format": 1,
            "made_at": datetime.now(UTC).isoformat(),
            "source": str(self._source),
            "outside": {name: str(path) for name, path in self._extra.items()},
            "files": {
                name: {"size": found[1], "sha256": digest}
                for name, (found, digest) in sorted(self._copied.items())
            },
            "links": dict(tree.links),
            "left_out": sorted(tree.others),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=False)
        with (self.partial / MANIFEST).open("wb") as stream:
            stream.write(text.encode("utf-8", "surrogateescape") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        (self.partial / _LOCK).unlink()
        # Last: the name says that the copy is complete and verified.
        self.partial.rename(self._folder)
        for folder in (self._folder, self._folder.parent):
            _sync_folder(folder)


def _copy_file(
    origin: Path, target: Path, report: ReportBytes
) -> tuple[Fingerprint, str] | None:
    """Copy and sync one file; None where it was written meanwhile."""
    digest = hashlib.sha256()
    target.unlink(missing_ok=True)  # an earlier attempt has copied its mode, too
    with _open_in_place(origin) as reader, target.open("wb") as writer:
        before = os.fstat(reader.fileno())
        while block := reader.read(_BLOCK):
            digest.update(block)
            writer.write(block)
            report(len(block))
        writer.flush()
        os.fsync(writer.fileno())
        after = os.fstat(reader.fileno())
    if fingerprint(before) != fingerprint(after):
        return None
    if fingerprint(origin.stat()) != fingerprint(after):
        return None  # another file was moved to its path
    target.chmod(before.st_mode & 0o777)
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    return fingerprint(after), digest.hexdigest()


def _open_in_place(path: Path) -> BinaryIO:
    """Open a file, unless it was replaced by a symbolic link since the scan."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")


def _verify(
    path: Path, digest: str, size: int, report: ReportBytes | None = None
) -> None:
    """Read a file of the copy, and compare its size and checksum."""
    found = hashlib.sha256()
    length = 0
    try:
        with path.open("rb") as stream:
            _forget_cached(stream)
            while block := stream.read(_BLOCK):
                found.update(block)
                length += len(block)
                if report is not None:
                    report(len(block))
    except FileNotFoundError:
        raise CorruptFile("the copy lacks this file", path=str(path)) from None
    if length != size or found.hexdigest() != digest:
        raise CorruptFile("the copy is not what was written", path=str(path))


def _forget_cached(stream: BinaryIO) -> None:
    """Drop the file from the page cache, so that the disk itself is verified."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
