"""Files of a snapshot: rows and tombstones in parts, and other files of a directory.

A part has rows of one collection. Its content, before compression: a line with the format,
the position and the collection; then blocks, each of a line with the number of its rows and
that many lines of ``[key, version, body]``. The body is canonical JSON as it is stored, or
``null`` for a tombstone. So a copy decodes no record, and any version of any store can be
restored from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from pend_storage import crashpoints
from pend_storage._model.snapshots import SnapshotReader, StoredRow
from pend_storage.backup._lines import lines_of
from pend_storage.backup._manifest import (
    FORMAT,
    BackupManifest,
    CollectionFacts,
    Part,
    require_format,
)
from pend_storage.backup._repository import Repository
from pend_storage.backup._row_digest import RowDigest
from pend_storage.backup._streams import Keys, put_stream, read_stream
from pend_storage.errors import CorruptFile
from pend_storage.events import Progress
from pend_storage.schema import Schema

__all__ = [
    "PART_BYTES",
    "Snapshot",
    "read_part",
    "read_rows",
    "write_snapshot",
]

PART_BYTES: Final = 256 << 20
"""Bytes of content of a part at most, but for its last block."""
_BLOCK_ROWS: Final = 1_000
_PART_WRITTEN: Final = crashpoints.declare(
    "backup.part-written", "a part is in the repository, and no manifest names it"
)
_ENCODER: Final = msgspec.json.Encoder()
_NULL: Final = msgspec.Raw(b"null")


class Snapshot(NamedTuple):
    """Result of writing a snapshot."""

    parts: tuple[Part, ...]
    collections: dict[str, CollectionFacts]


class _Head(msgspec.Struct):
    """First line of a part."""

    format: int
    collection: str
    identity: str
    epoch: int
    sequence: int


class _Block(msgspec.Struct):
    """Line before the rows of a block."""

    rows: int


_HEAD: Final = msgspec.json.Decoder(_Head)
_BLOCK: Final = msgspec.json.Decoder(_Block)
_ROW: Final = msgspec.json.Decoder(tuple[str, int, msgspec.Raw])


def write_snapshot(
    reader: SnapshotReader,
    schema: Schema,
    repository: Repository,
    keys: Keys,
    *,
    folder: str,
    part_bytes: int = PART_BYTES,
    progress: Progress | None = None,
) -> Snapshot:
    """Write all rows and tombstones of a snapshot in parts of bounded size.

    Args:
        reader: of the snapshot.
        schema: names the collections.
        repository: where to write.
        keys: to encrypt to.
        folder: of the backup, ``backups/ID``.
        part_bytes: bytes of content of a part.
        progress: called with the rows written, and 0: their number is not known.

    Raises:
        ConfigError: a permission is missing.
        StoreUnavailable: the store or the repository cannot be reached, or is full.
    """
    parts: list[Part] = []
    facts: dict[str, CollectionFacts] = {}
    done = 0
    for spec in schema:
        digest = RowDigest(spec.name)
        rows = reader.rows(spec.name)
        for first in rows:
            stream = _PartWriter(reader, spec.name, digest, part_bytes)
            name = f"{folder}/rows-{len(parts) + 1:04d}"
            content = stream.content(itertools.chain([first], rows))
            part = put_stream(repository, name, content, keys, collection=spec.name)
            parts.append(msgspec.structs.replace(part, items=stream.items))
            _PART_WRITTEN()
            done += stream.items
            if progress is not None:
                progress(done, 0)
        facts[spec.name] = digest.facts()
    return Snapshot(tuple(parts), facts)


class _PartWriter:
    """Content of one part, of rows that are read once."""

    def __init__(
        self, reader: SnapshotReader, collection: str, digest: RowDigest, limit: int
    ) -> None:
        point = reader.point
        self._head = _Head(
            FORMAT, collection, point.identity, point.epoch, point.sequence
        )
        self._digest = digest
        self._limit = limit
        self.items = 0

    def content(self, rows: Iterator[StoredRow]) -> Iterator[bytes]:
        """Yield the content, until the part is full or there are no more rows."""
        head = _ENCODER.encode(self._head) + b"\n"
        yield head
        size = len(head)
        while size < self._limit:
            room = self._limit - size
            block, count = self._block(rows, room)
            if not count:
                return
            text = _ENCODER.encode(_Block(count)) + b"\n" + block
            size += len(text)
            self.items += count
            yield text

    def _block(self, rows: Iterator[StoredRow], room: int) -> tuple[bytes, int]:
        lines: list[tuple[str, int, msgspec.Raw]] = []
        size, add = 0, self._digest.add
        for row in rows:
            add(row)
            key, version, body = row
            lines.append((key, version, _NULL if body is None else msgspec.Raw(body)))
            size += len(body or b"") + len(key)
            if len(lines) >= _BLOCK_ROWS or size >= room:
                break
        return _ENCODER.encode_lines(lines) if lines else b"", len(lines)


def read_rows(
    repository: Repository,
    manifest: BackupManifest,
    keys: Keys,
    *,
    collections: Iterable[str] | None = None,
) -> Iterator[tuple[str, StoredRow]]:
    """Read the rows of a snapshot, by collection; numbers and digests are verified.

    Args:
        repository: where it is.
        manifest: of the snapshot.
        keys: to decrypt with.
        collections: names of those that are wanted; None: all.

    Raises:
        ConfigError: no identity can decrypt it, or a newer version has written it.
        CorruptFile: what is stored differs from what was written; the object is named.
            Rows of the collection may have been yielded by then.
        FileNotFoundError: a part is missing.
        StoreUnavailable: the repository cannot be reached.
    """
    wanted = set(manifest.collections if collections is None else collections)
    for name, facts in manifest.collections.items():
        if name not in wanted:
            continue
        digest = RowDigest(name)
        for part in manifest.parts:
            if part.collection == name:
                for row in read_part(repository, part, keys, manifest):
                    digest.add(row)
                    yield name, row
        if digest.facts() != facts:
            raise CorruptFile(
                f"the rows of {name} are not those that were written: {digest.rows:,} "
                f"records and {digest.tombstones:,} tombstones, not {facts.rows:,} and "
                f"{facts.tombstones:,}, or another digest",
                path=f"backup {manifest.id}",
            )


def read_part(
    repository: Repository, part: Part, keys: Keys, manifest: BackupManifest
) -> Iterator[StoredRow]:
    """Read the rows of one part; raises as :func:`read_rows`."""
    lines = lines_of(read_stream(repository, part, keys), part.name)
    line = next(lines, b"")
    require_format(line, place=part.name)
    try:
        _require_head(_HEAD.decode(line), part, manifest)
        count = 0
        for header in lines:
            size = _BLOCK.decode(header).rows
            for _ in range(size):
                key, version, body = _ROW.decode(next(lines, b""))
                raw = bytes(body)
                yield StoredRow(key, version, None if raw == b"null" else raw)
            count += size
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptFile(f"a line cannot be read: {error}", path=part.name) from None
    if count != part.items:
        raise CorruptFile(f"it has {count:,} rows, not {part.items:,}", path=part.name)


def _require_head(head: _Head, part: Part, manifest: BackupManifest) -> None:
    point = manifest.point
    found = (head.collection, head.identity, head.epoch, head.sequence)
    wanted = (part.collection, point.identity, point.epoch, point.sequence)
    if found != wanted:
        raise CorruptFile("it belongs to another backup", path=part.name)
