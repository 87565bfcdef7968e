"""Overruled values: the losing side of a conflict, retained whole in quarantine.

They do not stand in their file: the file name in their entry is marked, so that neither the
file, nor a view of it, nor its validation shows them.
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
from pend_storage._shown import shown
from pend_storage.codec import dump_json
from pend_storage.schema import QUARANTINE, Schema

__all__ = ["aside_of", "beside_of", "name_of"]


def aside_of(
    schema: Schema, layout: Layout, header: LegacyFile, record: Any, reason: str
) -> Put:
    """Return a quarantine entry of a record that lost, with the text its file would show.

    Args:
        schema: of the store.
        layout: of the file.
        header: of the file.
        record: the losing value; may be a quarantined one.
        reason: a sentence for the operator.
    """
    raw = layout.render_one(header, record)
    return _aside(schema, layout, layout.place(record), raw, reason)


def beside_of(
    schema: Schema, layout: Layout, name: str, value: JSON, reason: str
) -> Put:
    """Return a quarantine entry of a member that stood beside the records, and lost."""
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
    # Idempotent: a value that loses twice has one entry, which is open again.
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
    """Return the name of a record for events: its member name, else its id or position."""
    place = layout.place(record)
    text = layout.render_one(header, record)
    try:
        (value,) = json.loads(b"[%b]" % text)
    except (ValueError, RecursionError):
        return shown(place)  # a member with its name
    if isinstance(value, dict) and "id" in value:
        return f"the record with the id {shown(value['id'])}"
    return f"the record at position {place}"
