"""The forms in which records wait that have left their file through no wish of theirs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pend_storage._records import JSON, QuarantinedRecord
from pend_storage.codec import dump_json, load_json
from pend_storage.schema import CollectionSpec
from pend_storage.text import safe_text

__all__ = [
    "KEPT",
    "REFERENCE_LOST",
    "Kept",
    "content_of",
    "kept_id",
    "record_of",
    "without_file",
]

KEPT: Final = "kept"
"""The code of a record that is kept whole while its member cannot be placed."""
REFERENCE_LOST: Final = "reference-lost"
"""The code of a record that needs one which was removed."""


@dataclass(slots=True)
class Kept:
    """What is kept of a displaced record."""

    collection: str
    key: str
    record: JSON
    needing: list[tuple[str, str, JSON]] = field(default_factory=list)
    """Records that cannot be without it: collection, key and content."""
    referrers: list[tuple[str, str, str]] = field(default_factory=list)
    """Records that let go of it: collection, key and field."""

    def dump(self) -> bytes:
        """As it is stored."""
        return dump_json(
            {
                "collection": self.collection,
                "key": self.key,
                "record": self.record,
                "needing": [list(item) for item in self.needing],
                "referrers": [list(item) for item in self.referrers],
            }
        )

    @classmethod
    def load(cls, raw: bytes) -> Kept:
        """From what is stored."""
        made: Any = load_json(raw)
        needing = [tuple(item) for item in made["needing"]]
        referrers = [tuple(item) for item in made["referrers"]]
        return cls(made["collection"], made["key"], made["record"], needing, referrers)


def kept_id(aside: str) -> str:
    """The key of what is kept while a quarantined text stands in its place."""
    return hashlib.sha256(b"kept\0" + aside.encode()).hexdigest()[:32]


def content_of(spec: CollectionSpec, record: Any) -> JSON:
    """A record as JSON, with every field."""
    return load_json(spec.codec.encode(record))


def record_of(spec: CollectionSpec, content: JSON) -> Any:
    """The record again.

    Raises:
        CorruptFile: another version of the schema has made it.
    """
    return spec.codec.decode(dump_json(content))


def without_file(spec: CollectionSpec, key: str, content: JSON) -> QuarantinedRecord:
    """A record of a collection that no layout of this store shows, as its file would."""
    file, place = f"{spec.name}.json", safe_text(key)
    raw = b"%b: %b" % (dump_json(key), dump_json(content))
    digest = hashlib.sha256(b"%b\n%b" % (place.encode(), raw)).hexdigest()
    return QuarantinedRecord(
        id=f"{file}#{digest[:32]}",
        file=file,
        place=place,
        position=0,
        raw=raw,
        code=REFERENCE_LOST,
        reason="",
        seen_at=datetime.now(UTC),
    )
