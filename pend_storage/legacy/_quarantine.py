"""Quarantine of legacy records that cannot be placed: codes, reasons, and their rows."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from pend_storage._layouts.crowded_files import CROWDED
from pend_storage._layouts.duplicate_members import SUPERSEDED
from pend_storage._layouts.retained_forms import KEPT, REFERENCE_LOST
from pend_storage._model.records import Put, QuarantinedRecord
from pend_storage._model.storable_text import safe_text
from pend_storage._shown import shown
from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.legacy._scan import BrokenFileError, name_at, top_level
from pend_storage.schema import QUARANTINE, Schema

__all__ = [
    "CODES",
    "make",
    "name_of",
    "put_operation",
    "value",
    "value_start",
    "with_occurrence",
]

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "not-utf8": "the file is not UTF-8 text",
        "not-json": "the file, or the record, is not JSON",
        "blank": "the file has nothing in it, or nothing but white space",
        "half-written": "the file ends before its JSON does",
        "wrong-shape": "the file is JSON, but neither the list nor the object expected",
        "duplicate-member": "a member name occurs twice in one object of the record",
        SUPERSEDED: "a later member of the same object has the same name, and counts",
        "not-a-number": "NaN or Infinity stands where JSON has a number",
        "number-too-long": "a number has more digits than the stores take",
        "too-large": "it is larger than every store can hold",
        CROWDED: "more of the file's records cannot be placed than are kept one by one",
        "too-deep": "it is nested deeper than parsers go",
        "wrong-type": "something else stands where a record is expected",
        "bad-key": "the member name is not what the file's records are named by",
        "missing-member": "a member is missing, or null, without which there is no record",
        "bad-value": "a member cannot be read, without which there is no record",
        "unstorable": "a value that some store cannot hold, such as an escaped NUL",
        "key-taken": "an earlier record of the file has the same key",
        "value-taken": "another record has a value that must be unique",
        REFERENCE_LOST: "a record that it refers to, and needs, was removed",
        KEPT: "what the store held of a record whose member cannot be placed now",
    }
)
"""Every reason for quarantine: its code and what it means."""

_NAMESPACE: Final = uuid.UUID("5f0e2c1a-8d4b-5c39-9a51-6f1c0e7b2d48")
_UNSEEN: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a record was first seen is not in its file: the store that adopts it knows."""


def make(
    file: str,
    place: str,
    raw: bytes,
    *,
    position: int | None,
    occurrence: int,
    code: str,
    reason: str,
) -> QuarantinedRecord:
    """Make a quarantined record; its key is derived from file, text and occurrence.

    So the same text has the same key whenever the file is read, with any reason. Only a
    superseded text has another one.

    Args:
        file: the legacy file.
        place: member name or index; "" for a whole file.
        raw: its bytes, in a map with its name.
        position: as of placed records; None for a whole file.
        occurrence: number of older equal texts in the file.
        code: one of :data:`CODES`.
        reason: a sentence.
    """
    name = f"{file}\n{hashlib.sha256(raw).hexdigest()}\n{occurrence}"
    if code == SUPERSEDED:  # the effective member may have the same text
        name += f"\n{code}"
    return QuarantinedRecord(
        id=str(uuid.uuid5(_NAMESPACE, name)),
        file=file,
        place=safe_text(place),
        position=position,
        raw=raw,
        code=code,
        reason=safe_text(reason),
        seen_at=_UNSEEN,
    )


def with_occurrence(record: QuarantinedRecord, occurrence: int) -> QuarantinedRecord:
    """Return the record with another occurrence of its text, and the key of that."""
    return make(
        record.file,
        record.place,
        record.raw,
        position=record.position,
        occurrence=occurrence,
        code=record.code,
        reason=record.reason,
    )


def value_start(raw: bytes) -> int:
    """Return the offset of a quarantined record's value; 0 where it has no name."""
    if raw[:1] != b'"':
        return 0
    try:
        top = top_level(b"{%b}" % raw)
    except BrokenFileError:
        return 0
    return top.values[0] - 1 if top is not None and len(top) == 1 else 0


def name_of(record: QuarantinedRecord) -> str | None:
    """Return the member name of a quarantined record; None where it has none."""
    return name_at(record.raw, 0) if value_start(record.raw) else None


def value(record: QuarantinedRecord) -> Any:
    """Return the value of a quarantined record; its text where that is not JSON."""
    text = record.raw[value_start(record.raw) :]
    try:
        # As text: of bytes, json guesses the encoding.
        return json.loads(text.decode(), strict=False)
    except (ValueError, RecursionError):
        return text.decode(errors="replace")


def put_operation(
    schema: Schema, record: QuarantinedRecord, offset: int | None = None
) -> Put:
    """Make the operation that writes a quarantined record.

    Args:
        schema: of the store.
        record: made by :func:`make`.
        offset: of its text in the file, in bytes; for the error.

    Raises:
        CorruptFile: its text is too large for quarantine, on any store.
    """
    try:
        return schema.put(QUARANTINE, record)
    except InvalidRecord as error:
        if error.code != "too-large":
            raise
        what = f"the record {shown(record.place)}" if record.place else "the file"
        raise CorruptFile(
            f"{what} cannot be placed ({record.code}: {record.reason}), and its text of "
            f"{len(record.raw):,} bytes is too large for quarantine as well: take it out "
            "of the file, or divide it",
            path=record.file,
            offset=offset,
        ) from error
