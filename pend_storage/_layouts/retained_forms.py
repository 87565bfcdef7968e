"""Retained forms: quarantine rows of displaced records and of records without a target."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from pend_storage._layouts.layout import Layout
from pend_storage._model.diff import differences
from pend_storage._model.records import EDIT_MARK, JSON, Delete, Put, QuarantinedRecord
from pend_storage._model.storable_text import safe_text
from pend_storage.codec import dump_json, load_json
from pend_storage.schema import QUARANTINE, CollectionSpec, Schema

__all__ = [
    "KEPT",
    "REFERENCE_LOST",
    "DisplacedRecord",
    "Operation",
    "content_of",
    "displacing_text",
    "exceeds_text",
    "record_of",
    "retained_id",
    "same_place",
    "without_file",
]

Operation: TypeAlias = Put | Delete

KEPT: Final = "kept"
"""Quarantine code of a displaced record: retained while its member cannot be placed."""
REFERENCE_LOST: Final = "reference-lost"
"""Quarantine code of a record whose required reference has lost its target."""


@dataclass(slots=True)
class DisplacedRecord:
    """Displaced record, with its referrers, as it is retained in quarantine."""

    collection: str
    key: str
    record: JSON
    needing: list[tuple[str, str, JSON]] = field(default_factory=list)
    """Deleted records whose reference to it may not be null: collection, key, content."""
    referrers: list[tuple[str, str, str]] = field(default_factory=list)
    """Records whose reference to it was nulled: collection, key and field."""

    def dump(self) -> bytes:
        """Serialize for the quarantine row."""
        return dump_json(
            {
                "collection": self.collection,
                "key": self.key,
                "record": self.record,
                "needing": [list(item) for item in self.needing],
                "referrers": [list(item) for item in self.referrers],
            }
        )

    def aside(self, file: str, instead: str) -> QuarantinedRecord:
        """Make the quarantine row.

        Args:
            file: of the displaced record.
            instead: key of the quarantined text that took its place.
        """
        return QuarantinedRecord(
            id=retained_id(instead),
            file=f"{file}{EDIT_MARK}",
            place=safe_text(f"{self.collection}/{self.key}"),
            position=0,
            raw=self.dump(),
            code=KEPT,
            reason="the store held it while its member could be placed",
            status="accepted",
            note="it comes back by itself with a text that can be placed",
            seen_at=datetime.now(UTC),
        )

    @classmethod
    def load(cls, raw: bytes) -> DisplacedRecord:
        """Deserialize from the quarantine row."""
        made: Any = load_json(raw)
        needing = [tuple(item) for item in made["needing"]]
        referrers = [tuple(item) for item in made["referrers"]]
        return cls(made["collection"], made["key"], made["record"], needing, referrers)


def retained_id(aside: str) -> str:
    """Return the quarantine key of the record that a quarantined text displaced."""
    return hashlib.sha256(b"kept\0" + aside.encode()).hexdigest()[:32]


def content_of(spec: CollectionSpec, record: Any) -> JSON:
    """Encode a record as JSON, with every field."""
    return load_json(spec.codec.encode(record))


def record_of(spec: CollectionSpec, content: JSON) -> Any:
    """Decode a record from the JSON of :func:`content_of`.

    Raises:
        CorruptFile: it was encoded by another version of the schema.
    """
    return spec.codec.decode(dump_json(content))


def without_file(spec: CollectionSpec, key: str, content: JSON) -> QuarantinedRecord:
    """Quarantine a record whose collection has no legacy file."""
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


def exceeds_text(layout: Layout, schema: Schema, record: Any) -> bool:
    """Return whether a record has values that its text in the file does not express."""
    spec = schema[layout.collection]
    text = layout.set_aside(schema, layout.missing(), record, "").record
    entry = layout.retry(schema, replace(text, code=""))
    if entry.home.collection != layout.collection:
        return True
    ignored = {spec.key, *layout.computed, *spec.references}
    found = differences(record, entry.home.record)
    return any(difference.path[0] not in ignored for difference in found)


def displacing_text(
    layout: Layout, record: Any, edit: Iterable[Operation]
) -> QuarantinedRecord | None:
    """Find the unplaceable text of an edit that took the place of a record."""
    if not layout.owns(record):
        return None
    for operation in edit:
        if not isinstance(operation, Put) or operation.collection != QUARANTINE:
            continue
        other: QuarantinedRecord = operation.record
        if layout.owns(other) and same_place(layout, record, other):
            return other
    return None


def same_place(layout: Layout, one: Any, other: QuarantinedRecord) -> bool:
    """Return whether a record and a quarantined text share a name, or a position."""
    if other.position is None:
        return False
    name = layout.member_name(other)
    if name is not None:
        return layout.member_name(one) == name
    return layout.position(one) == other.position
