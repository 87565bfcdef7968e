"""Overruled values: lost against an edit, or against a commit; kept in quarantine, whole.

They do not stand in their file: its name is marked, so that neither the file, nor a view
of it, nor its validation shows them.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from pend_storage._layouts.layout import Layout
from pend_storage._model.records import (
    BESIDE,
    EDIT_MARK,
    EDITED,
    JSON,
    LegacyFile,
    Put,
    QuarantinedRecord,
)
from pend_storage._model.storable_text import safe_text
from pend_storage.codec import dump_json
from pend_storage.schema import QUARANTINE, Schema

__all__ = ["aside_of", "beside_of", "name_of"]


def aside_of(
    schema: Schema, layout: Layout, header: LegacyFile, record: Any, reason: str
) -> Put:
    """Return a record that lost, as its file would show it, for quarantine.

    Args:
        schema: of the store.
        layout: of the file.
        header: how the file is written.
        record: what lost; it may be one that could not be placed.
        reason: in a sentence, why.
    """
    raw = layout.render_one(header, record)
    return _aside(schema, layout, layout.place(record), raw, reason)


def beside_of(
    schema: Schema, layout: Layout, name: str, value: JSON, reason: str
) -> Put:
    """Return a member beside the records that lost, for quarantine."""
    raw = b"%b: %b" % (dump_json(name), dump_json(value))
    return _aside(schema, layout, name, raw, reason, at=BESIDE)


def _aside(
    schema: Schema,
    layout: Layout,
    place: str,
    raw: bytes,
    reason: str,
    *,
    at: int = 0,
) -> Put:
    file = f"{layout.file}{EDIT_MARK}"
    # The same value that loses again is the same entry, and waits again.
    name = b"%b\0%d\0%b" % (file.encode(), at, raw)
    record = QuarantinedRecord(
        id=hashlib.sha256(name).hexdigest()[:32],
        file=file,
        place=safe_text(place),
        position=at,
        raw=raw,
        code=EDITED,
        reason=reason,
        seen_at=datetime.now(UTC),
    )
    return schema.put(QUARANTINE, record)


def name_of(layout: Layout, header: LegacyFile, record: Any) -> str:
    """Return what an event calls a record: its member name, else its id and its position."""
    place = layout.place(record)
    text = layout.render_one(header, record)
    try:
        (value,) = json.loads(b"[%b]" % text)
    except (ValueError, RecursionError):
        return repr(place)  # a member with its name
    if isinstance(value, dict) and "id" in value:
        return f"the record with the id {value['id']!r}"
    return f"the record at position {place}"
