"""Audit entries: who did what, and the digests by which a change of them is found. Pure.

An entry is written in the commit that it is about. Its key and values are covered by a
*commitment*, a salted digest: they can be erased, and the entry still proves that it was
there. A *seal* is an entry, too: it lists the digests of the entries before it in the order
of the change log, and the digest of the seal before it. So all seals are one chain, though
commits do not wait for one another.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from pend_storage._model.attribution import Actor

__all__ = [
    "AUDIT",
    "ERASED_SUFFIX",
    "ERASURE",
    "GENESIS",
    "PRUNING",
    "SEAL",
    "SEAL_VERSION",
    "AuditEntry",
    "AuditLevel",
    "Seal",
    "SealedEntry",
    "committed",
    "digest_of",
    "entry_id",
    "is_seal",
    "new_entry",
    "newest_seal_place",
    "position_of",
    "seal_id",
    "values_of",
]

AUDIT: Final = "audit"
"""Name of the system collection of :class:`AuditEntry`."""
AuditLevel: TypeAlias = Literal["none", "keys", "diff", "full"]
"""What the audit keeps of the commits of a collection."""

SEAL: Final = "seal"
"""Action of a seal."""
ERASURE: Final = "erase"
"""Action of the entry that names erased entries."""
PRUNING: Final = "audit.prune"
"""Action of the entry with the seal up to which older entries were deleted."""
SEAL_VERSION: Final = 1
"""Version of the document in :attr:`AuditEntry.content` of a seal."""
GENESIS: Final = "0" * 64
"""Digest before the first seal."""
ERASED_SUFFIX: Final = "~"
"""Ends the id of an entry whose key and values were erased; without it, the former id."""
_SEAL_PREFIX: Final = "seal-"  # after every id, which begins with a hexadecimal digit
_MOST_SEALS: Final = 10**12
_SALT_BYTES: Final = 16
_encode: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Audit entry: one record that a commit wrote, one operation, or one seal.

    A system collection of every schema, to which the library only adds. The version of
    its row is the position of the commit in the change log.
    """

    id: str
    """Token of the commit and number in it, so that ids sort by time."""
    at: datetime
    """UTC, by the clock of the process that made the commit."""
    action: str
    """``put``, ``delete``, ``seal``, or the name of an operation."""
    by: str | None = None
    """Author; see :meth:`Store.acting`."""
    reason: str | None = None
    request: str | None = None
    """Id of the request; see :meth:`Store.acting`."""
    collection: str | None = None
    """Collection of the record; None for an operation."""
    key: str | None = None
    """Key of the record; None for an operation, and once it is erased."""
    content: str | None = None
    """Canonical JSON: ``before``, ``after`` and ``diff`` of a record, or the details of an
    operation. A text, so that every store returns it byte for byte."""
    salt: str | None = None
    """Random text under the commitment, so that values cannot be guessed from it."""
    commitment: str | None = None
    """SHA-256 over salt, key and content, in hexadecimal; None for a seal."""
    erased_at: datetime | None = None
    """Time when key and content were erased; None where they were not."""


class SealedEntry(NamedTuple):
    """Sealed entry: its id, the position of its commit, and its digest."""

    id: str
    position: int
    digest: str


class Seal(NamedTuple):
    """Content of a seal: a run of entries in the order of the change log."""

    number: int
    """From 1, without gaps."""
    previous: str
    """Digest of the seal before it; :data:`GENESIS` for the first."""
    upto: int
    """Position in the change log up to which all entries are sealed."""
    log: tuple[str, int]
    """Identity of the store whose change log was read, and the epoch of its role."""
    entries: tuple[SealedEntry, ...]

    def to_content(self) -> str:
        """Return the canonical JSON of the seal."""
        return _encode(
            {
                "version": SEAL_VERSION,
                "number": self.number,
                "previous": self.previous,
                "upto": str(self.upto),
                "log": [self.log[0], str(self.log[1])],
                "entries": [[e.id, str(e.position), e.digest] for e in self.entries],
            }
        ).decode()

    @classmethod
    def from_content(cls, content: str) -> Seal:
        """Parse the content of a seal.

        Raises:
            ValueError: it is none, or of a version that this program does not know.
        """
        found = _decode(content)
        if not isinstance(found, dict) or found.get("version") != SEAL_VERSION:
            raise ValueError("not a seal of a known version")
        try:
            return cls(
                int(found["number"]),
                str(found["previous"]),
                int(found["upto"]),
                (str(found["log"][0]), int(found["log"][1])),
                tuple(
                    SealedEntry(str(i), int(p), str(d)) for i, p, d in found["entries"]
                ),
            )
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError("a seal lacks a member") from error


class StoredEntry(Protocol):
    """Row of an entry."""

    @property
    def key(self) -> str:
        """Id of the entry."""
        ...

    @property
    def version(self) -> int:
        """Position of the commit that wrote the row."""
        ...

    @property
    def record(self) -> Any:
        """The entry."""
        ...


def entry_id(token: str, number: int) -> str:
    """Return the id of the entry with a number in the commit of a token."""
    return f"{token}-{number:06x}"


def seal_id(number: int) -> str:
    """Return the id of a seal; two processes that make the same one conflict.

    The numbers in ids fall, so that the newest seal is the first one in the order of ids.
    """
    return f"{_SEAL_PREFIX}{_MOST_SEALS - number:012}"


def newest_seal_place() -> str:
    """Return a text after the ids of all entries, and before those of all seals."""
    return _SEAL_PREFIX


def is_seal(entry_id: str) -> bool:
    """Return whether an id is that of a seal."""
    return entry_id.startswith(_SEAL_PREFIX)


def new_entry(
    entry_id: str,
    action: str,
    author: Actor,
    *,
    collection: str | None = None,
    key: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Make an entry that is dated now.

    Args:
        entry_id: unique; token and number.
        action: what was done.
        author: with reason and request.
        collection: of the record.
        key: of the record.
        values: JSON values: images of a record, or details of an operation.
    """
    content = None if values is None else _encode(values).decode()
    salt = secrets.token_hex(_SALT_BYTES)
    return AuditEntry(
        id=entry_id,
        at=datetime.now(UTC),
        action=action,
        by=author.by,
        reason=author.reason,
        request=author.request,
        collection=collection,
        key=key,
        content=content,
        salt=salt,
        commitment=committed(salt, key, content),
    )


def committed(salt: str, key: str | None, content: str | None) -> str:
    """Return the commitment of a key and a content, in hexadecimal."""
    return hashlib.sha256(_encode([salt, key, content])).hexdigest()


def digest_of(entry: AuditEntry) -> str:
    """Return the digest of an entry, which erasure does not change.

    SHA-256 over canonical JSON: of a seal with its content, of other entries with the
    commitment in place of key and content.
    """
    own_id = entry.id.removesuffix(ERASED_SUFFIX)
    covered = entry.content if entry.action == SEAL else entry.commitment
    head: Iterable[Any] = (
        own_id,
        entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        entry.action,
        entry.by,
        entry.reason,
        entry.request,
        entry.collection,
        covered,
    )
    return hashlib.sha256(_encode(list(head))).hexdigest()


def values_of(entry: AuditEntry) -> dict[str, Any]:
    """Return the values of an entry, decoded; empty where there are none."""
    found: dict[str, Any] = {} if entry.content is None else _decode(entry.content)
    return found


def position_of(row: StoredEntry) -> int | None:
    """Return the position of an entry's commit; of an erased one, the former position.

    None where an entry is marked as erased and does not have it.
    """
    if not row.key.endswith(ERASED_SUFFIX):
        return row.version
    position = values_of(row.record).get("position")
    return int(position) if isinstance(position, str) and position.isdigit() else None
