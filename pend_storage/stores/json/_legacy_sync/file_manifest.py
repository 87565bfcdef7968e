"""File manifest: which records a legacy file shows, at which versions, and where.

Kept beside the file, so that writing it again copies whatever has not changed, and so
that an edit of another program can be told from our own doing.
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

from pend_storage.schema import QUARANTINE
from pend_storage.stores.json._journal.atomic_files import fitting, replace_file
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._legacy_sync.text_history import TextHistory

__all__ = [
    "UNKNOWN",
    "FileManifest",
    "FileSignature",
    "digest_of",
    "load_manifest",
    "load_signature",
    "manifest_path",
    "place_of",
    "save_manifest",
    "signature_of",
    "token_of",
]

UNKNOWN: Final = -1
"""Start and end of a text that is not in the file as it should be."""
Row: TypeAlias = tuple[int, bytes]
Rows: TypeAlias = Mapping[str, Row]
_MARK: Final = "\0"  # no key begins so, because no key may hold it


def token_of(collection: str, key: str) -> str:
    """Return one text for a record of a file: its key, marked if it is quarantined."""
    return _MARK + key if collection == QUARANTINE else key


def place_of(token: str, collection: str) -> tuple[str, str]:
    """Return collection and key of a record of a file whose records are of that collection."""
    if token.startswith(_MARK):
        return QUARANTINE, token[1:]
    return collection, token


class FileSignature(NamedTuple):
    """What tells a file from other versions of it without reading it."""

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int = 0
    """No program can set it, as it can the others; 0: not known, which equals nothing.
    A rename changes it too, so that of a file which this store renames is not kept."""

    def is_but_for_ctime(self, other: FileSignature) -> bool:
        """Whether it is the same file, which may have been renamed in between."""
        return self[:3] == other[:3]


def signature_of(status: os.stat_result) -> FileSignature:
    """Return the signature of a file."""
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
    """A file as this store wrote it, or read it, last."""

    signature: FileSignature
    digest: str
    positions: tuple[Position, ...]
    """Places in the journal; each row shown is part of the state at one of them."""
    header: int = 0
    """Version of the row in ``legacy_files`` by which it was written; 0: there is none."""
    broken: bool = False
    """The file is broken as a whole; the rest of the manifest tells what it was before."""
    ordered: bool = True
    """The tokens stand in the order of the layout."""
    tokens: list[str] = field(default_factory=list)
    versions: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    stamp: FileSignature | None = None
    """Of the file in which this manifest is kept."""
    anew: bool = False
    """Nothing of the file's text can be used."""
    verified: bool = False
    """The content was looked at again, some time after the signature was taken."""
    replaced: FileSignature | None = None
    """Of the file in whose place this one was put."""
    replaced_digest: str = ""
    """Of its content; empty: not known."""
    rows: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Versions and bodies of records that it shows and that are others in the store by
    now, by token; only in memory. What is not here is looked for at the positions."""
    lost: tuple[str, ...] = ()
    """What belonged to that file and could not be kept; not kept in the manifest."""
    shown: TextHistory = field(default_factory=TextHistory)
    """What it showed before."""
    _index: dict[str, int] | None = None

    def remember(self, shown: Rows, current: Callable[[str], Row | None]) -> None:
        """Keep the rows that are shown and are not in the store any more.

        Args:
            shown: all that is shown, by token.
            current: gives what is in the store.
        """
        for token, row in shown.items():
            found = current(token)
            if found is None or found[0] != row[0]:
                self.rows[token] = row

    def shows_all(self, position: Position) -> bool:
        """Whether it was written from the state as it is at this place."""
        return self.positions == (position,) and not (self.anew or self.broken)

    def add(self, token: str, version: int, start: int, end: int) -> None:
        """Take note of a record."""
        self._index = None
        self.tokens.append(token)
        self.versions.append(version)
        self.starts.append(start)
        self.ends.append(end)

    def version(self, token: str) -> int | None:
        """The version at which a record is shown; None where it is not."""
        place = self.index().get(token)
        return None if place is None else self.versions[place]

    def unplaced(self) -> set[str]:
        """The records whose text is not where it should be."""
        if UNKNOWN not in self.starts:
            return set()
        places = zip(self.tokens, self.starts, strict=True)
        return {token for token, start in places if start == UNKNOWN}

    def index(self) -> dict[str, int]:
        """Token to its place in the columns."""
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
    """Return where the manifest of a legacy file is kept, in the store's own directory.

    By its name, or a digest of that where the name is too long: a byte that is not a letter
    or digit takes three there.
    """
    return directory / "views" / fitting(quote(file, safe=""), ".view")


def save_manifest(path: Path, manifest: FileManifest) -> None:
    """Write a manifest, durable."""
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
    """Read the signature in a manifest, without the rest; None if there is none."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.readline(), type=_Head).signature
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def load_manifest(path: Path) -> FileManifest | None:
    """Read a manifest; None if there is none, or it cannot be read.

    It can be made again from the file and the state, so damage is no error.
    """
    try:
        raw = path.read_bytes()
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
