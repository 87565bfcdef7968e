"""Base backups: the files of a server, copied, verified, and stored as sealed parts.

.. code-block:: text

    backups/ID/base-0001.zst        tar stream of the files, in pieces of bounded size
    backups/ID/backup_manifest.zst  the server's own manifest: a SHA-256 of each file

The copy is verified by ``pg_verifybackup`` before it is stored, and again after it was
fetched, before it is started or combined with another one.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from pend_storage import crashpoints
from pend_storage._files.by_path import read_file
from pend_storage._files.directory import Directory
from pend_storage._shown import shown
from pend_storage.backup._manifest import BackupManifest, Part
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys, put_stream, read_stream
from pend_storage.backup.physical._lsn import lsn_text, parse_lsn
from pend_storage.backup.physical._server import Server
from pend_storage.backup.physical._tar import extract_tar, tar_of
from pend_storage.backup.physical._tools import Tools
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable

__all__ = [
    "PHYSICAL_META",
    "CopiedServer",
    "PhysicalFacts",
    "copy_server",
    "describe",
    "facts_of",
    "fetch_base",
    "fetch_manifest",
    "files_stream",
    "read_manifest",
    "store_base",
    "verify_files",
]

PHYSICAL_META: Final = "physical"
"""Member of a manifest's ``meta`` with the facts of a physical backup."""
BACKUP_MANIFEST: Final = "backup_manifest"
_PIECE: Final = 256 << 20
"""Bytes of the tar stream in one part."""
_CONTINUES: Final = re.compile(
    r"^INCREMENTAL FROM LSN: ([0-9A-F]+/[0-9A-F]+)$", re.MULTILINE
)
_TIMEOUT: Final = 24 * 3600.0
_LARGEST_MANIFEST: Final = 1 << 30
_STORED: Final = crashpoints.declare(
    "backup.base-part-written", "a part is in the repository, and no manifest names it"
)


class PhysicalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of a physical backup, beside those of its manifest."""

    system: str
    """System identifier of the cluster."""
    timeline: int
    start: str
    """Position of the write-ahead log at which a recovery begins, such as ``0/2000028``."""
    end: str
    """Position up to which it must go before the files are consistent."""
    segment_size: int
    """Bytes of a segment of the write-ahead log."""
    offset: int
    """What sequence numbers add to transaction ids; see :mod:`._targets`."""
    continues: str | None = None
    """Of an incremental one: the position at which its parent begins."""
    settings: dict[str, str] = {}
    """That a server which replays the log must have at least as high."""


@dataclass(frozen=True, slots=True)
class CopiedServer:
    """Verified copy of a server's files, in a scratch directory."""

    path: Path
    timeline: int
    start: int
    end: int
    system: str | None
    """As the copy itself says; servers before 17 do not."""
    continues: str | None
    """Of an incremental one: the position at which its parent begins."""


def facts_of(manifest: BackupManifest) -> PhysicalFacts:
    """Return the facts of a physical or incremental backup.

    Raises:
        ConfigError: it is a snapshot.
        CorruptFile: the manifest lacks them.
    """
    if manifest.kind == "snapshot":
        raise ConfigError(
            f"backup {manifest.id} is a snapshot, which holds no files of a server. Restore "
            "it as it is, or name a physical backup: `backup list`."
        )
    try:
        return msgspec.convert(manifest.meta.get(PHYSICAL_META), PhysicalFacts)
    except msgspec.ValidationError as error:
        raise CorruptFile(
            f"the facts of a physical backup are wrong: {error}",
            path=f"backups/{manifest.id}/manifest.json",
        ) from error


# -- copying a server ---------------------------------------------------------------------


def copy_server(
    tools: Tools, server: Server, scratch: Path, *, parent: Path | None = None
) -> CopiedServer:
    """Copy the files of a server by ``pg_basebackup``, and verify the copy.

    Args:
        tools: of the server's version, with its address.
        server: facts of it.
        scratch: private, empty directory with room for all files.
        parent: file with the ``backup_manifest`` of the backup that an incremental one
            continues; None makes a full one.

    Raises:
        ConfigError: the server has tablespaces.
        StoreUnavailable: it failed, or the disk is too small.
        CorruptFile: the copy is not what the server sent.
    """
    server.require_plain_files()
    if parent is None:
        _require_room(scratch, server.size)
    target = scratch / "base"
    incremental = [] if parent is None else [f"--incremental={parent}"]
    tools.require(
        "pg_basebackup",
        f"--pgdata={target}",
        "--format=plain",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--manifest-checksums=SHA256",
        "--label=pend_storage",
        "--no-sync",  # a scratch copy, which is read again and deleted
        "--no-password",
        *incremental,
        timeout=_TIMEOUT,
    )
    verify_files(tools, target, what="the copy")
    return _copied(target)


def verify_files(tools: Tools, path: Path, *, what: str) -> None:
    """Verify the files of a base backup by the server's own manifest.

    Args:
        tools: of the server's version.
        path: directory of the files.
        what: it is, for the message.

    Raises:
        CorruptFile: a file is missing, or has another content; or the log that it needs
            is damaged.
    """
    done = tools.run("pg_verifybackup", "--exit-on-error", path, timeout=_TIMEOUT)
    if done.code != 0:
        raise CorruptFile(f"pg_verifybackup says: {done.last_words}", path=what)


def _copied(path: Path) -> CopiedServer:
    raw = read_file(path / BACKUP_MANIFEST, limit=_LARGEST_MANIFEST)
    label = _CONTINUES.search(read_file(path / "backup_label").decode(errors="replace"))
    try:
        manifest: dict[str, Any] = json.loads(raw)
        ranges = manifest["WAL-Ranges"]
        last = ranges[-1]
        system = manifest.get("System-Identifier")
        return CopiedServer(
            path,
            int(last["Timeline"]),
            parse_lsn(ranges[0]["Start-LSN"]),
            parse_lsn(last["End-LSN"]),
            None if system is None else str(system),
            None if label is None else label[1],
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CorruptFile(
            f"the server's manifest cannot be read: {type(error).__name__}",
            path=str(path / BACKUP_MANIFEST),
        ) from error


def _require_room(scratch: Path, size: int) -> None:
    free = shutil.disk_usage(scratch).free
    if free < size:
        raise StoreUnavailable(
            f"{shown(str(scratch))} has {free >> 20:,} MiB free, and the server has "
            f"{size >> 20:,} MiB. Name a larger one by TMPDIR",
            store="scratch directory",
        )


# -- storing and fetching -----------------------------------------------------------------


def store_base(
    copied: CopiedServer, repository: Repository, keys: Keys, backup: str
) -> tuple[Part, ...]:
    """Store the files of a copy as parts of a backup.

    Args:
        copied: the verified copy.
        repository: place of backups.
        keys: to encrypt to.
        backup: id of the backup.

    Raises: as :meth:`Repository.put`.
    """
    parts = []
    stream = _Pieces(tar_of(copied.path), _PIECE)
    for number in itertools.count(1):
        if stream.has_ended:
            break
        name = f"backups/{backup}/base-{number:04}"
        parts.append(put_stream(repository, name, stream.piece(), keys))
        _STORED()
    manifest = read_file(copied.path / BACKUP_MANIFEST, limit=_LARGEST_MANIFEST)
    name = f"backups/{backup}/{BACKUP_MANIFEST}"
    parts.append(put_stream(repository, name, [manifest], keys))
    return tuple(parts)


def fetch_base(
    manifest: BackupManifest, repository: Repository, keys: Keys, into: Path
) -> int:
    """Write the files of a base backup below an empty directory; return their number.

    Args:
        manifest: of the backup.
        repository: place of backups.
        keys: to decrypt with.
        into: private, empty directory.

    Raises:
        CorruptFile: a part is damaged or missing.
    """
    return extract_tar(files_stream(manifest, repository, keys), into)


def files_stream(
    manifest: BackupManifest, repository: Repository, keys: Keys
) -> Iterator[bytes]:
    """Read the tar stream of a backup's files.

    Raises:
        CorruptFile: a part is damaged or missing.
    """
    parts = [part for part in manifest.parts if "/base-" in part.name]
    return _content_of(parts, repository, keys)


def fetch_manifest(
    manifest: BackupManifest, repository: Repository, keys: Keys, into: Path
) -> Path:
    """Write the server's own manifest of a backup to a file; return its path.

    Args:
        manifest: of the backup.
        repository: place of backups.
        keys: to decrypt with.
        into: private directory.

    Raises:
        CorruptFile: it is damaged or missing.
    """
    content = read_manifest(manifest, repository, keys)
    name = f"{manifest.id}.{BACKUP_MANIFEST}"
    with Directory(into) as directory:
        directory.replace(name, [content])
    return into / name


def read_manifest(
    manifest: BackupManifest, repository: Repository, keys: Keys
) -> bytes:
    """Read the server's own manifest of a backup.

    Raises:
        CorruptFile: it is damaged or missing.
    """
    parts = [p for p in manifest.parts if f"/{BACKUP_MANIFEST}" in p.name]
    content = b"".join(_content_of(parts, repository, keys))
    if not content:
        raise CorruptFile("it has no manifest of the server", path=manifest.id)
    return content


def _content_of(
    parts: Iterable[Part], repository: Repository, keys: Keys
) -> Iterator[bytes]:
    for part in parts:
        try:
            yield from read_stream(repository, part, keys)
        except FileNotFoundError:
            raise CorruptFile("it is missing", path=part.name) from None


class _Pieces:
    """Stream that is read in pieces of a bounded size."""

    def __init__(self, content: Iterator[bytes], most: int) -> None:
        self._content = content
        self._most = most
        self._next = next(content, None)

    @property
    def has_ended(self) -> bool:
        """True once everything was read."""
        return self._next is None

    def piece(self) -> Iterator[bytes]:
        """Yield blocks until a piece is full."""
        size = 0
        while self._next is not None and size < self._most:
            size += len(self._next)
            yield self._next
            self._next = next(self._content, None)


def describe(copied: CopiedServer, server: Server, offset: int) -> dict[str, Any]:
    """Return the facts of a copy as they stand in the manifest of a backup.

    Args:
        copied: the verified copy.
        server: facts of the server.
        offset: what sequence numbers add to transaction ids.

    Raises:
        CorruptFile: the copy is one of another server.
    """
    if copied.system not in {None, server.system}:
        raise CorruptFile(
            f"the copy is of the cluster {copied.system}, and the server is "
            f"{server.system}: another one stands behind the address by now",
            path=str(copied.path),
        )
    facts = PhysicalFacts(
        system=server.system,
        timeline=copied.timeline,
        start=lsn_text(copied.start),
        end=lsn_text(copied.end),
        segment_size=server.segment_size,
        offset=offset,
        continues=copied.continues,
        settings=dict(server.settings),
    )
    return {PHYSICAL_META: msgspec.to_builtins(facts)}
