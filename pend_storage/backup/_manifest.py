"""Manifests: what a backup, or a segment of the archived change log, consists of.

A manifest is a JSON document, written last and only once. Its own hash protects it: the
member ``digest`` stands last, and is the SHA-256 of the document without that member.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, Literal, TypeVar

import msgspec

from pend_storage._shown import clause
from pend_storage.errors import ConfigError, CorruptFile

__all__ = [
    "FORMAT",
    "BackupManifest",
    "CollectionFacts",
    "Part",
    "Point",
    "SegmentManifest",
    "pack",
    "packed",
    "require_format",
    "unpack",
]

FORMAT: Final = 2
"""Version of manifests and of what they name."""
_DIGEST: Final = re.compile(rb',"digest":"([0-9a-f]{64})"}\Z')
_ENCODER: Final = msgspec.json.Encoder()


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Stored stream: one object, compressed and perhaps encrypted."""

    name: str
    """In the repository."""
    size: int
    """Bytes as stored."""
    sha256: str
    """Of the stored bytes: verified without a key."""
    content_size: int
    """Bytes before compression and encryption."""
    content_sha256: str
    encrypted: bool = False
    collection: str | None = None
    """Collection of the rows in it; None: something else."""
    items: int = 0
    """Rows, entries or files in it."""


class CollectionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one collection, to compare a restored store with."""

    rows: int
    tombstones: int
    digest: str
    """Digest of all rows and tombstones, whatever their order; see ``_row_digest.py``."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A :class:`~pend_storage._model.snapshots.LogPoint` with its time."""

    identity: str
    epoch: int
    sequence: int
    at: str
    """ISO 8601, UTC."""


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Manifest of one backup."""

    format: int = FORMAT
    id: str
    """``20260131T120000Z-snapshot-1a2b3c``: time, kind, random."""
    kind: Literal["snapshot", "physical", "incremental"]
    environment: str
    label: str | None = None
    point: Point
    """Exact position of a snapshot; of a physical backup, its end."""
    side: Literal["json", "postgres"] | None = None
    """Store that was primary, in a pair."""
    started_at: str
    finished_at: str
    verified_at: str | None = None
    """Time at which all parts were read back and compared, before this was published."""
    library: str
    """Version of the library."""
    schema_fingerprint: str
    schema_module: str | None = None
    server: str | None = None
    """Version of the database server, such as ``15.20``; None for JSON."""
    parts: tuple[Part, ...]
    collections: dict[str, CollectionFacts] = {}
    meta: dict[str, Any] = {}
    """Named values beside the data at the position, redacted of nothing: they hold none of
    the records."""
    files: dict[str, str] = {}
    """Unclaimed files of a JSON directory: path and SHA-256."""
    parent: str | None = None
    """Backup that an incremental one continues."""
    kept: bool = False
    """Outside of the policy from the beginning."""
    marks: dict[str, int] = {}
    """Named marks known at that time: name and sequence."""
    digest: str = ""


class SegmentManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Manifest of one segment of the archived change log."""

    format: int = FORMAT
    id: str
    """Name of its manifest in ``log/``, without ``.json``: epoch, sequence, and the
    beginning of the digest before it. So two archivers cannot both continue a segment."""
    identity: str
    """Of the store whose log it is."""
    epoch: int
    """Of the entries; each segment has those of one epoch only."""
    after: int
    """Sequence after which it begins: it has every entry above, up to ``upto``."""
    upto: int
    """Sequence up to which it is complete; no later commit of any store has a lower one."""
    upto_at: str
    """Time of ``upto``: no later entry is older. Of an idle log it is later than the last
    entry."""
    first_at: str | None
    """Time of the first entry; None where it has none."""
    last_at: str | None
    last_sequence: int | None = None
    """Of the last entry of this segment or one before it, of the same store; the log must
    still have it when it is followed on."""
    last_token: str | None = None
    archived_at: str
    entries: int
    schema_fingerprint: str | None = None
    """Of the schema by which the records were encoded."""
    part: Part
    previous: str | None
    """``digest`` of the segment before it; None for the first one of a chain."""
    begun: str | None = None
    """Of the first one of a chain: why it continues none."""
    digest: str = ""


M = TypeVar("M", BackupManifest, SegmentManifest)


def pack(manifest: M) -> bytes:
    """Encode a manifest, with its digest at the end."""
    bare = msgspec.structs.replace(manifest, digest="")
    members = msgspec.to_builtins(bare)
    del members["digest"]
    text = _ENCODER.encode(members)
    digest = hashlib.sha256(text).hexdigest()
    return text[:-1] + f',"digest":"{digest}"}}'.encode()


def packed(manifest: M) -> tuple[M, bytes]:
    """Return a manifest with its digest set, and its document."""
    text = pack(manifest)
    return unpack(text, type(manifest), place=manifest.id), text


def unpack(text: bytes, kind: type[M], *, place: str) -> M:
    """Decode a manifest, having compared its digest.

    Args:
        text: the document.
        kind: of the manifest.
        place: name of the object, for messages.

    Raises:
        ConfigError: a newer version has written it.
        CorruptFile: it is damaged.
    """
    found = _DIGEST.search(text)
    if found is None:
        raise CorruptFile("the manifest has no digest at its end", path=place)
    bare = text[: found.start()] + b"}"
    if hashlib.sha256(bare).hexdigest().encode() != found[1]:
        raise CorruptFile("the manifest is not what was written", path=place)
    require_format(text, place=place)
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptFile(f"the manifest cannot be read: {error}", path=place) from None


class _Format(msgspec.Struct):
    format: int


def require_format(line: bytes, *, place: str) -> None:
    """Refuse what a newer version has written.

    Args:
        line: JSON object with a member ``format``.
        place: name of the object, for messages.

    Raises:
        ConfigError: a newer version has written it.
        CorruptFile: it has no format.
    """
    try:
        found = msgspec.json.decode(line, type=_Format).format
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptFile(f"its format is not known: {error}", path=place) from None
    if found > FORMAT:
        raise ConfigError(
            f"{clause(place)} has the format {found}, and was written by a newer version of "
            f"pend_storage; this one knows {FORMAT}. Upgrade it."
        )
    if found < FORMAT:
        raise CorruptFile(f"there never was a format {found} of it", path=place)
