"""File manifest: the records that a legacy file shows, with versions and byte offsets.

Stored in the store's own directory. With it, a rewrite copies the texts of unchanged
records, and an edit of another program is distinguished from a write of the store.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote

import msgspec

from pend_storage._files.by_path import open_file, read_file, replace_file
from pend_storage._files.names import fitting
from pend_storage.schema import QUARANTINE
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._legacy_sync.text_history import TextHistory

__all__ = [
    "UNKNOWN",
    "FileManifest",
    "FileSignature",
    "digest_of",
    "load_manifest",
    "load_positions",
    "load_signature",
    "manifest_path",
    "place_of",
    "save_manifest",
    "signature_of",
    "token_of",
]

UNKNOWN: Final = -1
"""Start and end of a text that is not in the file as it should be rendered."""
Row: TypeAlias = tuple[int, bytes]
Rows: TypeAlias = Mapping[str, Row]
_MARK: Final = "\0"  # no key begins so, because no key may hold it


def token_of(collection: str, key: str) -> str:
    """Return the token of a record in a file: its key, marked if it is quarantined."""
    return _MARK + key if collection == QUARANTINE else key


def place_of(token: str, collection: str) -> tuple[str, str]:
    """Return collection and key of a token, in a file of a collection."""
    if token.startswith(_MARK):
        return QUARANTINE, token[1:]
    return collection, token


class FileSignature(NamedTuple):
    """File signature: status fields that differ between versions of a file."""

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int = 0
    """Unlike the others, no program can set it; 0: not known, which equals nothing. A rename
    changes it too, so it is not recorded for a file that this store is about to rename."""

    def is_but_for_ctime(self, other: FileSignature) -> bool:
        """Return True if it is the same file, which may have been renamed in between."""
        return self[:3] == other[:3]


def signature_of(status: os.stat_result) -> FileSignature:
    """Return the signature of a file's status."""
    return FileSignature(
        status.st_size, status.st_mtime_ns, status.st_ino, _ctime_of(status)
    )


def _ctime_of(status: os.stat_result) -> int:
    return status.st_ctime_ns


def digest_of(raw: bytes) -> str:
    """Return the digest of a file's content."""
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


@dataclass(slots=True)
class FileManifest:
    """Manifest of a file at the last write or read by this store."""

    signature: FileSignature
    digest: str
    positions: tuple[Position, ...]
    """Journal positions; each row shown is part of the state at one of them."""
    header: int = 0
    """Version of the row in ``legacy_files`` with which it was written; 0: none."""
    broken: bool = False
    """The file is broken as a whole; the rest of the manifest is that of before."""
    ordered: bool = True
    """The tokens are in the order of the layout."""
    tokens: list[str] = field(default_factory=list)
    versions: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    stamp: FileSignature | None = None
    """Signature of the manifest's own file."""
    render_all: bool = False
    """No text of the file can be copied: render all of it."""
    verified: bool = False
    """The digest was verified again, some time after the signature was taken."""
    replaced: FileSignature | None = None
    """Signature of the file that this one replaced."""
    replaced_digest: str = ""
    """Digest of that file; empty: not known."""
    rows: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Token to version and body of records that were committed to since; only in memory.
    Others are read from the journal, at the positions."""
    lost: tuple[str, ...] = ()
    """Attributes of the replaced file that could not be kept; not stored."""
    shown: TextHistory = field(default_factory=TextHistory)
    """History of its texts."""
    _index: dict[str, int] | None = None

    def remember(self, shown: Rows, current: Callable[[str], Row | None]) -> None:
        """Retain shown rows that the store has replaced: a base without reading the journal.

        Args:
            shown: all rows that the file shows, by token.
            current: returns the store's row of a token.
        """
        for token, row in shown.items():
            found = current(token)
            if found is None or found[0] != row[0]:
                self.rows[token] = row

    def shows_all(self, position: Position) -> bool:
        """Return True if it was written from the state at this position."""
        return self.positions == (position,) and not (self.render_all or self.broken)

    def add(self, token: str, version: int, start: int, end: int) -> None:
        """Add a record, with the byte offsets of its text."""
        self._index = None
        self.tokens.append(token)
        self.versions.append(version)
        self.starts.append(start)
        self.ends.append(end)

    def version(self, token: str) -> int | None:
        """Return the version at which a record is shown; None if it is not."""
        place = self.index().get(token)
        return None if place is None else self.versions[place]

    def unplaced(self) -> set[str]:
        """Return the tokens of records whose text has no known offsets."""
        if UNKNOWN not in self.starts:
            return set()
        places = zip(self.tokens, self.starts, strict=True)
        return {token for token, start in places if start == UNKNOWN}

    def index(self) -> dict[str, int]:
        """Return the index of each token in the columns."""
        if self._index is None:
            self._index = dict(zip(self.tokens, range(len(self.tokens)), strict=True))
        return self._index


class _Head(msgspec.Struct, frozen=True):
    signature: FileSignature
    digest: str
    positions: list[Position]
    header: int
    broken: bool
    ordered: bool
    replaced: FileSignature | None = None
    replaced_digest: str = ""


class _Columns(msgspec.Struct, frozen=True):
    tokens: list[str]
    versions: list[int]
    starts: list[int]
    ends: list[int]
    shown: TextHistory = TextHistory()


def manifest_path(directory: Path, file: str) -> Path:
    """Return the path of a legacy file's manifest, in the store's own directory.

    Named after the file, or a digest if that is too long: quoting turns one byte into three.
    """
    return directory / "views" / fitting(quote(file, safe=""), ".view")


def save_manifest(path: Path, manifest: FileManifest) -> None:
    """Write a manifest, durably."""
    replace_file(path, _lines(manifest))
    manifest.stamp = signature_of(path.stat())


def _lines(manifest: FileManifest) -> Iterable[bytes]:
    head = _Head(
        manifest.signature,
        manifest.digest,
        list(manifest.positions),
        manifest.header,
        manifest.broken,
        manifest.ordered,
        manifest.replaced,
        manifest.replaced_digest,
    )
    yield msgspec.json.encode(head) + b"\n"
    columns: dict[str, Any] = {
        "tokens": manifest.tokens,
        "versions": manifest.versions.tolist(),
        "starts": manifest.starts.tolist(),
        "ends": manifest.ends.tolist(),
        "shown": manifest.shown,
    }
    yield msgspec.json.encode(columns) + b"\n"


def load_signature(path: Path) -> FileSignature | None:
    """Read only the signature of a manifest; None if there is no manifest."""
    head = _load_head(path)
    return None if head is None else head.signature


def load_positions(path: Path) -> tuple[Position, ...]:
    """Read only the positions of a manifest; none if its file may show anything else."""
    head = _load_head(path)
    return () if head is None or head.broken else tuple(head.positions)


def _load_head(path: Path) -> _Head | None:
    if not path.exists():  # of most files, at each opening: cheaper than the door
        return None
    try:
        with os.fdopen(open_file(path), "rb") as file:
            return msgspec.json.decode(file.readline(), type=_Head)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def load_manifest(path: Path) -> FileManifest | None:
    """Read a manifest; None if there is none, or it is damaged.

    Damage is no error: the manifest is made again from the file and the state.
    """
    try:
        raw = read_file(path)
        stamp = signature_of(path.stat())
        first, _, rest = raw.partition(b"\n")
        head = msgspec.json.decode(first, type=_Head)
        columns = msgspec.json.decode(rest, type=_Columns)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return FileManifest(
        head.signature,
        head.digest,
        tuple(head.positions),
        head.header,
        head.broken,
        head.ordered,
        columns.tokens,
        array("q", columns.versions),
        array("q", columns.starts),
        array("q", columns.ends),
        stamp,
        replaced=head.replaced,
        replaced_digest=head.replaced_digest,
        shown=columns.shown,
    )
