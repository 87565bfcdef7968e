"""Archive of the write-ahead log: segments in the repository, gaps, and the way over timelines.

.. code-block:: text

    wal/SYSTEM/TIMELINE/NAME-HASH.zst    content of a segment, or of a history file
    wal/SYSTEM/TIMELINE/NAME.json        its manifest, create-only, published last

Each timeline has a folder of its own, because a promoted copy of a server goes on with the
same names. Segments of another cluster are refused by the identifier in their first page.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from pend_storage import crashpoints
from pend_storage._files.directory import Directory
from pend_storage._files.durability import sync, write_all
from pend_storage._shown import shown
from pend_storage.backup._manifest import Part
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys, put_stream, read_stream
from pend_storage.backup.physical._lsn import SegmentName, parse_lsn, parse_segment
from pend_storage.errors import ConfigError, CorruptFile

__all__ = ["WalArchive", "WalManifest", "Way", "ways"]

FORMAT: Final = 1
_HEADER: Final = struct.Struct("=HHIQI4xQII")
"""First page of a segment: magic, info, timeline, address, length of the rest, system
identifier, bytes of a segment and of a page; in the byte order of the machine."""
_LONG_HEADER: Final = 0x0002
_HISTORY: Final = re.compile(r"([0-9A-F]{8})\.history", re.ASCII)
_FORK: Final = re.compile(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)
_BLOCK: Final = 1 << 20
_LARGEST_HISTORY: Final = 1 << 20
_STORED: Final = crashpoints.declare(
    "backup.wal-content-written",
    "a segment's content is stored, and no manifest names it",
)


class WalManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Manifest of one file of the archived log."""

    format: int = FORMAT
    system: str
    name: str
    """Of the file, as the server calls it."""
    archived_at: str
    part: Part


@dataclass(frozen=True, slots=True)
class Way:
    """Stretch of a timeline that a recovery replays."""

    timeline: int
    first: int
    """Number of its first segment."""
    last: int | None
    """Of its last one; None: as far as there are any."""


class WalArchive:
    """Archived log of one cluster."""

    def __init__(self, repository: Repository, keys: Keys, system: str) -> None:
        """Open the archive of a cluster.

        Args:
            repository: place of backups.
            keys: to encrypt to, and to decrypt with.
            system: identifier of the cluster.
        """
        self._repository = repository
        self._keys = keys
        self._system = system

    # -- writing ------------------------------------------------------------------------

    def store(self, spool: Directory, name: str, size: int) -> bool:
        """Store a file of the log; one that is there already is compared.

        Args:
            spool: directory with the file.
            name: of the file.
            size: bytes of a segment.

        Returns:
            False if it was there already.

        Raises:
            CorruptFile: it is no whole segment.
            ConfigError: it is one of another cluster, or the archive has another file of
                that name.
        """
        digest = self._digest_of(spool, name, size)
        stem = self._stem(name)
        known = self._find(name)
        if known is None:
            content = _content(spool, name)
            target = f"{stem}-{digest[:16]}"
            part = put_stream(self._repository, target, content, self._keys)
            _STORED()
            known = self._publish(name, part)
            is_new = known.part == part
        else:
            is_new = False
        if known.part.content_sha256 != digest:
            raise ConfigError(
                f"the repository already has another {name}: two servers with the identifier "
                f"{self._system} write the same timeline, a restored copy and the original. "
                "Archive one of them to another repository."
            )
        return is_new

    def _publish(self, name: str, part: Part) -> WalManifest:
        manifest = WalManifest(
            system=self._system,
            name=name,
            archived_at=datetime.now(UTC).isoformat(timespec="seconds"),
            part=part,
        )
        try:
            self._repository.put(
                f"{self._stem(name)}.json",
                [msgspec.json.encode(manifest)],
                create_only=True,
            )
        except FileExistsError:  # another process was quicker
            return self._find(name) or manifest
        return manifest

    def _digest_of(self, spool: Directory, name: str, size: int) -> str:
        digest = hashlib.sha256()
        total, first = 0, b""
        for piece in _content(spool, name):
            first = first or piece[: _HEADER.size]
            total += len(piece)
            digest.update(piece)
        segment = parse_segment(name, size)
        if segment is not None:
            if total != size:
                raise CorruptFile(
                    f"it has {total:,} bytes, and a segment has {size:,}",
                    path=str(spool.path / name),
                )
            self._require_own(first, segment, size, str(spool.path / name))
        return digest.hexdigest()

    def _require_own(
        self, first: bytes, segment: SegmentName, size: int, path: str
    ) -> None:
        _, info, _, address, _, system, segment_size, _ = _HEADER.unpack(first)
        if not info & _LONG_HEADER or segment_size != size:
            raise CorruptFile("it does not begin as a segment of the log", path=path)
        if str(system) != self._system:
            raise ConfigError(
                f"{shown(path)} is of the cluster {system}, and the server is "
                f"{self._system}. Use a spool directory of its own for each server."
            )
        if address != segment.number * size:
            raise CorruptFile("it is another segment than its name says", path=path)

    # -- reading ------------------------------------------------------------------------

    def segments(self, size: int) -> dict[int, list[int]]:
        """Return the numbers of the segments of each timeline, in order.

        Args:
            size: bytes of a segment.
        """
        found: dict[int, list[int]] = {}
        for name in self._names():
            segment = parse_segment(name, size)
            if segment is not None:
                found.setdefault(segment.timeline, []).append(segment.number)
        return {timeline: sorted(numbers) for timeline, numbers in found.items()}

    def histories(self) -> dict[int, tuple[tuple[int, int], ...]]:
        """Return, for each timeline, its ancestors with the positions where they end."""
        found = {}
        for name in self._names():
            match = _HISTORY.fullmatch(name)
            if match is not None:
                text = b"".join(self.content(name)).decode(errors="replace")
                found[int(match[1], 16)] = tuple(
                    (int(timeline), parse_lsn(position))
                    for timeline, position in _FORK.findall(text)
                )
        return found

    def content(self, name: str) -> Iterator[bytes]:
        """Read a file of the log; it is verified by the last piece.

        Raises:
            CorruptFile: it is damaged, or is missing though its manifest is there.
            FileNotFoundError: the archive does not have it.
        """
        manifest = self._find(name)
        if manifest is None:
            raise FileNotFoundError(name)
        try:
            yield from read_stream(self._repository, manifest.part, self._keys)
        except FileNotFoundError:
            raise CorruptFile("it is missing", path=manifest.part.name) from None

    def fetch(self, names: Iterator[str], into: Path) -> int:
        """Write files of the log to a directory; return their number.

        Raises: as :meth:`content`.
        """
        count = 0
        with Directory(into) as folder:
            for name in names:
                fd = folder.create_narrow(name)
                try:
                    for piece in self.content(name):
                        write_all(fd, piece)
                    sync(fd)
                finally:
                    os.close(fd)
                count += 1
        return count

    def verify(self) -> Iterator[tuple[str, str]]:
        """Read every file of the archive; yield name and fault of each damaged one."""
        for name in self._names():
            try:
                for _ in self.content(name):
                    pass
            except CorruptFile as error:
                yield name, error.reason

    def _names(self) -> list[str]:
        listed = self._repository.list(f"wal/{self._system}/")
        return [
            each.name.rpartition("/")[2].removesuffix(".json")
            for each in listed
            if each.name.endswith(".json")
        ]

    def _stem(self, name: str) -> str:
        return f"wal/{self._system}/{name[:8]}/{name}"

    def _find(self, name: str) -> WalManifest | None:
        path = f"{self._stem(name)}.json"
        try:
            raw = self._repository.read(path)
        except FileNotFoundError:
            return None
        try:
            manifest = msgspec.json.decode(raw, type=WalManifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptFile(f"it cannot be read: {error}", path=path) from error
        if manifest.format > FORMAT:
            raise ConfigError(
                f"{path} was written by a newer version of pend_storage (format "
                f"{manifest.format}). Upgrade it."
            )
        if manifest.name != name or manifest.system != self._system:
            raise CorruptFile("it belongs to another file", path=path)
        return manifest


def ways(
    timeline: int,
    position: int,
    *,
    to: int,
    size: int,
    histories: Mapping[int, tuple[tuple[int, int], ...]],
) -> list[Way]:
    """Return the stretches of timelines from a position to the end of a timeline.

    Args:
        timeline: of the position.
        position: where the base backup begins.
        to: timeline at whose end the way ends.
        size: bytes of a segment.
        histories: ancestors of the timelines, and the positions where they end.

    Raises:
        ConfigError: the way does not lead there.
    """
    if to == timeline:
        return [Way(timeline, position // size, None)]
    ancestors = dict(histories.get(to, ()))
    end = ancestors.get(timeline)
    if end is None or end < position:
        raise ConfigError(
            f"timeline {to} does not continue timeline {timeline} after the backup. Choose "
            "a backup of that timeline, or the timeline of the backup."
        )
    found, first = [], position // size
    for each, until in sorted(ancestors.items(), key=lambda pair: pair[1]):
        if until >= end and each >= timeline:
            # The first segment of the next timeline repeats the last one of this.
            found.append(Way(each, first, until // size - 1))
            first = until // size
    found.append(Way(to, first, None))
    return found


def _content(folder: Directory, name: str) -> Iterator[bytes]:
    fd = folder.open_file(name)
    try:
        while piece := os.read(fd, _BLOCK):
            yield piece
    finally:
        os.close(fd)
