"""Directory copy: complete and verified, made while servers write to the directory.

.. code-block:: text

    data-backup-20260131T120000Z/
        manifest.json       size, SHA-256 and original mode of every file
        data/...            the files, where they were in the directory
        outside/...         legacy files that lie elsewhere

The copy has another name until it is complete and verified, so an interrupted copy is
never mistaken for a complete one. The next copy removes it. All of it is for its owner
alone, whatever the modes of the originals.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from pend_storage._files.by_path import make_directories, read_file
from pend_storage._files.directory import Directory
from pend_storage._files.durability import sync, write_all
from pend_storage._files.linked import LinkedFile
from pend_storage._files.subtree import Subtree, require_relative
from pend_storage._files.trust import fault_of_kind, fault_of_legacy
from pend_storage.backup._copied_file import (
    BLOCK,
    CopiedFile,
    Origin,
    ReportBytes,
    copy_file,
)
from pend_storage.backup._new_folder import NewFolder, explained, remove_interrupted
from pend_storage.backup._tree import OUTSIDE, Keeps, Tree, everything, scan_tree
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable
from pend_storage.events import Progress

__all__ = ["DirectoryCopy", "copy_directory", "verify_copy"]

MANIFEST: Final = "manifest.json"
_LARGEST_MANIFEST: Final = 1 << 30
"""Bytes of a manifest at most: one of millions of files."""
_PASSES: Final = 20
"""Times that a file, or the whole directory, may change during the copy."""
_PAUSE: Final = 0.05
"""Seconds before a file that was just written is copied again."""
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
        ConfigError: there is no such directory, or a permission is missing; or a name in
            ``extra`` is absolute or has ``..`` in it.
        StoreUnavailable: no space on the disk, or a file that changes all the time.
        CorruptFile: the copy differs from what was written.
    """
    if not source.is_dir():
        raise ConfigError(f"{source} is not a directory; name the one with the files.")
    for name in extra or {}:
        require_relative(name, Path(OUTSIDE))
    with explained(source):
        # Opened first: a link of another user to what is not that user's is refused.
        with Directory(source):
            place = source.resolve().parent if into is None else into
        make_directories(place)
        with Directory(place) as parent:
            remove_interrupted(parent, source.name)
            with NewFolder(parent, source.name) as folder:
                made = _Copy(source, extra or {}, folder, keeps, progress).make()
                folder.complete()
    return made


def verify_copy(path: Path) -> int:
    """Verify a copy by the checksums of its manifest; returns the number of its files.

    Raises:
        CorruptFile: a file is missing or has another content.
        ConfigError: the folder is not a copy, or names files outside of itself.
    """
    try:
        manifest = json.loads(read_file(path / MANIFEST, limit=_LARGEST_MANIFEST))
        entries = {str(name): dict(entry) for name, entry in manifest["files"].items()}
        wanted = {n: (str(e["sha256"]), int(e["size"])) for n, e in entries.items()}
    except (
        *(OSError, ValueError, LookupError, TypeError, AttributeError),
        RecursionError,
    ) as error:
        raise ConfigError(
            f"{path} is not a copy made by this library: {error}. Name the folder that "
            f"has {MANIFEST} in it."
        ) from error
    with explained(path), Subtree(Directory(path)) as tree:
        for name, (digest, size) in wanted.items():
            _verify(tree, name, digest, size)
    return len(entries)


class _Copy:
    """One copy under way, in a folder with a temporary name and a lock."""

    def __init__(
        self,
        source: Path,
        extra: Mapping[str, Path],
        folder: NewFolder,
        keeps: Keeps,
        progress: Progress | None,
    ) -> None:
        self._folder = folder
        self._target = folder.tree
        self._source = source
        self._extra = extra
        self._keeps = keeps
        self._progress = progress
        self._copied: dict[str, CopiedFile] = {}
        self._done = 0
        self._total = 0

    def make(self) -> DirectoryCopy:
        tree = self._scan()
        self._check_space(tree)  # a full disk would stop the servers
        self._total = 2 * tree.size  # written, then read
        with Subtree(Directory(self._source)) as origin:
            for _ in range(_PASSES):
                self._copy_changed(origin, tree)
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
        for name, file in self._copied.items():
            _verify(
                self._target, name, file.digest, file.size, report=self._report_progress
            )
        self._write_manifest(tree)
        return DirectoryCopy(
            path=self._folder.path,
            files=len(self._copied),
            bytes=tree.size,
            links=tuple(tree.links),
            left_out=tuple(sorted(tree.others)),
        )

    def _scan(self) -> Tree:
        return scan_tree(self._source, self._extra, self._keeps)

    def _check_space(self, tree: Tree) -> None:
        free = shutil.disk_usage(self._target.root.fd).free
        if free < tree.size + _RESERVE:
            raise StoreUnavailable(
                f"the copy needs {tree.size:,} bytes and {free:,} are free; make room, "
                "or name another place for the copy",
                store=str(self._folder.path.parent),
            )

    def _report_progress(self, size: int) -> None:
        self._done += size
        if self._progress is not None:  # a file that was copied twice counts twice
            self._progress(min(self._done, self._total), self._total)

    # -- writing -----------------------------------------------------------------------

    def _copy_changed(self, origin: Subtree, tree: Tree) -> None:
        for name in self._copied.keys() - tree.files.keys():
            self._target.unlink(name)
            del self._copied[name]
        for name, found in tree.files.items():
            if name not in self._copied or self._copied[name].fingerprint != found:
                self._copy_at_rest(origin, name)

    def _copy_at_rest(self, origin: Subtree, name: str) -> None:
        """Copy a file as it was at one moment; nothing where it was removed meanwhile."""
        for _ in range(_PASSES):
            try:
                with self._origin(origin, name) as file:
                    copied = copy_file(file, self._target, name, self._report_progress)
            except FileNotFoundError:
                self._target.unlink(name)
                return
            if copied is not None:
                self._copied[name] = copied
                return
            time.sleep(_PAUSE)
        raise StoreUnavailable(
            f"{name} in {self._source} is written all the time; stop its writer first",
            store="the copy",
        )

    @contextmanager
    def _origin(self, origin: Subtree, name: str) -> Iterator[Origin]:
        """Open the original of a file, unless a link took its place since the scan."""
        folder, _, inside = name.partition("/")
        if folder == OUTSIDE:
            with LinkedFile(self._extra[inside]) as file:
                yield Origin(file.open, file.status)
        else:
            yield Origin(
                lambda: origin.open_file(inside, check=fault_of_legacy),
                lambda: origin.status(inside),
            )

    def _create_folders_and_links(self, tree: Tree) -> None:
        """Create the folders, also those without files, and the symbolic links."""
        for name in sorted(tree.folders):
            self._target.make_folder(name)
        for name, leads_to in tree.links.items():
            self._target.make_link(name, leads_to)

    def _write_manifest(self, tree: Tree) -> None:
        outside = {name: str(path.resolve()) for name, path in self._extra.items()}
        manifest: dict[str, Any] = {
            "format": 1,
            "made_at": datetime.now(UTC).isoformat(),
            "source": str(self._source),
            "outside": outside,
            "files": {
                name: {
                    "size": file.size,
                    "sha256": file.digest,
                    "mode": f"{file.mode:04o}",
                }
                for name, file in sorted(self._copied.items())
            },
            "links": dict(tree.links),
            "left_out": sorted(tree.others),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=False)
        fd = self._target.create(MANIFEST)
        try:
            write_all(fd, text.encode("utf-8", "surrogateescape") + b"\n")
            sync(fd)
        finally:
            os.close(fd)


def _verify(
    tree: Subtree,
    name: str,
    digest: str,
    size: int,
    report: ReportBytes | None = None,
) -> None:
    """Read a file of the copy, and compare its size and checksum."""
    path = tree.root.path / name
    found = hashlib.sha256()
    length = 0
    try:
        fd = tree.open_file(name, check=lambda file, _: fault_of_kind(file))
    except FileNotFoundError:
        raise CorruptFile("the copy lacks this file", path=str(path)) from None
    with os.fdopen(fd, "rb") as stream:
        _forget_cached(stream)
        while block := stream.read(BLOCK):
            found.update(block)
            length += len(block)
            if report is not None:
                report(len(block))
            if length > size:
                break
    if length != size or found.hexdigest() != digest:
        raise CorruptFile("the copy is not what was written", path=str(path))


def _forget_cached(stream: BinaryIO) -> None:
    """Drop the file from the page cache, so that the disk itself is verified."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
