"""Manifests: what a backup, or a segment of the archived change log, consists of.

A manifest is a JSON document, written last and only once. Its own hash protects it: the
member ``digest`` is the SHA-256 of the document without that member.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

__all__ = [
    "BackupManifest",
    "CollectionFacts",
    "Part",
    "SegmentManifest",
]

FORMAT: Final = 2
"""Version of manifests and of what they name."""


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
    identity: str
    """Of the store whose log it is."""
    epoch: int
    """Of the entries; each segment has those of one epoch only."""
    after: int
    """Sequence after which it begins: it has every entry above, up to ``upto``."""
    upto: int
    """Sequence up to which it is complete: the log's horizon when it was read."""
    first_at: str | None
    """Time of the first entry; None where it has none."""
    last_at: str | None
    archived_at: str
    entries: int
    part: Part
    previous: str | None
    """``digest`` of the segment before it; None for the first one of a chain."""
    digest: str = ""
