"""Segments: the archived change log, each chained by hash to the one before.

The content of a segment, before compression: a line with the format, the identity of the
store and the epoch; then a line for each entry of the log. Bodies are canonical JSON as
they are stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from pend_storage import crashpoints
from pend_storage._model.snapshots import StoredChange, StoredRecord
from pend_storage.backup._lines import lines_of
from pend_storage.backup._manifest import (
    FORMAT,
    Part,
    SegmentManifest,
    packed,
    require_format,
)
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys, put_stream, read_stream
from pend_storage.errors import CorruptFile

__all__ = [
    "LOG",
    "SegmentEnd",
    "id_after",
    "manifest_name",
    "read_changes",
    "read_segment",
    "write_segment",
]

LOG: Final = "log"
_WRITTEN: Final = crashpoints.declare(
    "archive.segment-written", "the segment is stored, and no manifest names it"
)
_PUBLISHED: Final = crashpoints.declare(
    "archive.published", "the manifest is stored, and the store's mark is behind it"
)
_ENCODER: Final = msgspec.json.Encoder()
_NULL: Final = msgspec.Raw(b"null")


class _Head(msgspec.Struct):
    """First line of a segment."""

    format: int
    identity: str
    epoch: int


class _Entry(msgspec.Struct, omit_defaults=True):
    """Line of one entry."""

    s: int
    """Sequence."""
    at: datetime
    r: list[tuple[str, str, int, msgspec.Raw]]
    """Collection, key, version and body of each record."""
    t: str | None = None
    """Token of the commit."""
    by: str | None = None
    why: str | None = None


_HEAD: Final = msgspec.json.Decoder(_Head)
_ENTRY: Final = msgspec.json.Decoder(_Entry)


class SegmentEnd(NamedTuple):
    """Place of a new segment: what it continues, and up to where it is complete."""

    identity: str
    epoch: int
    after: int
    upto: int
    upto_at: datetime
    previous: SegmentManifest | None
    """Segment before it; None: it begins a chain."""
    schema: str | None = None
    """Fingerprint of the schema."""
    begun: str | None = None
    """Why it begins a chain."""


def manifest_name(segment_id: str) -> str:
    """Return the name of the object with a segment's manifest."""
    return f"{LOG}/{segment_id}.json"


def id_after(epoch: int, after: int, previous: SegmentManifest | None) -> str:
    """Return the name of a segment: the same for all that continue one segment."""
    link = secrets.token_hex(4) if previous is None else previous.digest[:8]
    return f"{epoch:010d}-{after:020d}-{link}"


def write_segment(
    repository: Repository,
    keys: Keys,
    end: SegmentEnd,
    changes: Sequence[StoredChange],
    *,
    now: datetime,
    beside: bool = False,
) -> SegmentManifest:
    """Write a segment and publish its manifest, create-only.

    Args:
        repository: where to write.
        keys: to encrypt to.
        end: its place in the chain.
        changes: all entries between, of one epoch of one store.
        now: UTC.
        beside: give it a name of its own, because a damaged one has its name.

    Returns:
        The published manifest.

    Raises:
        FileExistsError: another archiver has continued the same segment.
        ConfigError: a permission is missing.
        StoreUnavailable: the repository cannot be reached, or is full.
    """
    name = id_after(end.epoch, end.after, None if beside else end.previous)
    stored = f"{LOG}/{name}-{secrets.token_hex(4)}"
    part = put_stream(
        repository, stored, _content(end, changes), keys, items=len(changes)
    )
    _WRITTEN()
    manifest, text = packed(_manifest(name, end, changes, part, now))
    repository.put(manifest_name(name), [text], create_only=True)
    _PUBLISHED()
    return manifest


def _manifest(
    name: str,
    end: SegmentEnd,
    changes: Sequence[StoredChange],
    part: Part,
    now: datetime,
) -> SegmentManifest:
    before = end.previous
    last_sequence = last_token = None
    if changes:
        last_sequence, last_token = changes[-1].sequence, changes[-1].token
    elif before is not None and before.identity == end.identity:
        last_sequence, last_token = before.last_sequence, before.last_token
    return SegmentManifest(
        id=name,
        identity=end.identity,
        epoch=end.epoch,
        after=end.after,
        upto=end.upto,
        upto_at=end.upto_at.astimezone(UTC).isoformat(),
        first_at=changes[0].at.isoformat() if changes else None,
        last_at=changes[-1].at.isoformat() if changes else None,
        last_sequence=last_sequence,
        last_token=last_token,
        archived_at=now.isoformat(),
        entries=len(changes),
        schema_fingerprint=end.schema,
        part=part,
        previous=None if before is None else before.digest,
        begun=end.begun,
    )


def _content(end: SegmentEnd, changes: Iterable[StoredChange]) -> Iterator[bytes]:
    yield _ENCODER.encode(_Head(FORMAT, end.identity, end.epoch)) + b"\n"
    for change in changes:
        yield _ENCODER.encode(_entry(change)) + b"\n"


def _entry(change: StoredChange) -> _Entry:
    records = [
        (name, key, version, _NULL if body is None else msgspec.Raw(body))
        for name, key, version, body in change.records
    ]
    return _Entry(
        s=change.sequence,
        at=change.at,
        r=records,
        t=change.token,
        by=change.by,
        why=change.reason,
    )


def read_changes(
    repository: Repository,
    segments: Sequence[SegmentManifest],
    keys: Keys,
    after: int,
    upto: int,
) -> Iterator[StoredChange]:
    """Read the entries of a chain of segments, in the order of the log.

    Args:
        repository: where they are.
        segments: that follow one another, as :attr:`Window.segments` has them.
        keys: to decrypt with.
        after: sequence after which to begin.
        upto: sequence of the last entry that is wanted.

    Raises:
        ConfigError: no identity can decrypt it, or a newer version has written it.
        CorruptFile: a segment is damaged, or does not continue the one before. Entries
            may have been yielded by then.
        FileNotFoundError: a segment is missing.
        StoreUnavailable: the repository cannot be reached.
    """
    before: SegmentManifest | None = None
    for segment in segments:
        if before is not None:
            _require_chained(before, segment)
        before = segment
        if segment.upto > after and segment.after < upto:
            for change in read_segment(repository, segment, keys):
                if after < change.sequence <= upto:
                    yield change


def _require_chained(before: SegmentManifest, segment: SegmentManifest) -> None:
    if segment.previous != before.digest or segment.after != before.upto:
        raise CorruptFile(
            f"it does not continue {before.id}: a segment between them is missing",
            path=manifest_name(segment.id),
        )


def read_segment(
    repository: Repository, segment: SegmentManifest, keys: Keys
) -> Iterator[StoredChange]:
    """Read the entries of one segment; raises as :func:`read_changes`."""
    place = segment.part.name
    lines = lines_of(read_stream(repository, segment.part, keys), place)
    line = next(lines, b"")
    require_format(line, place=place)
    last, count = segment.after, 0
    try:
        head = _HEAD.decode(line)
        if (head.identity, head.epoch) != (segment.identity, segment.epoch):
            raise CorruptFile("it is of another store or epoch", path=place)
        for text in lines:
            change = _change(_ENTRY.decode(text), segment.epoch)
            if not last < change.sequence <= segment.upto:
                raise CorruptFile(
                    f"the entry {change.sequence} is out of order", path=place
                )
            last, count = change.sequence, count + 1
            yield change
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptFile(f"a line cannot be read: {error}", path=place) from None
    if count != segment.entries:
        raise CorruptFile(
            f"it has {count:,} entries, not {segment.entries:,}", path=place
        )


def _change(entry: _Entry, epoch: int) -> StoredChange:
    records = [
        StoredRecord(
            name, key, version, None if bytes(body) == b"null" else bytes(body)
        )
        for name, key, version, body in entry.r
    ]
    return StoredChange(
        sequence=entry.s,
        epoch=epoch,
        at=entry.at,
        records=tuple(records),
        token=entry.t,
        by=entry.by,
        reason=entry.why,
    )
