"""Bringing back a value that lost against an edit of its file, or against a commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pend_storage._records import (
    BESIDE,
    EDIT_MARK,
    EDITED,
    LegacyFile,
    Put,
    QuarantinedRecord,
)
from pend_storage.layout import Layout, ParsedFile
from pend_storage.schema import QUARANTINE
from pend_storage.store import Store
from pend_storage.transaction import Transaction

__all__ = ["bring_back", "is_lost_edit"]


def is_lost_edit(record: QuarantinedRecord) -> bool:
    """Whether a quarantined record is such a value, which does not stand in its file."""
    return record.code == EDITED and record.file.endswith(EDIT_MARK)


def bring_back(
    store: Store, tx: Transaction, layout: Layout, record: QuarantinedRecord
) -> str | None:
    """Write the value over what the store holds instead; gives why that cannot be done.

    Args:
        store: the primary store.
        tx: writes; what it reads is checked.
        layout: of the file.
        record: the value; its text may be a corrected one.

    Raises:
        Conflict: what is there instead was changed meanwhile.
        InvalidRecord: the text cannot be read.
    """
    header = tx.collection(LegacyFile).get(layout.file) or layout.missing()
    if record.position == BESIDE:
        try:
            ((name, value),) = json.loads(b"{%b}" % record.raw).items()
        except ValueError:
            return 'it is not one member of an object, as in "name": value'
        tx.collection(LegacyFile).put(layout.with_member(header, name, value))
    else:
        entry = layout.retry(store.schema, record)
        if entry.home.collection == QUARANTINE:
            return str(entry.home.record.reason)
        for put, version in _puts(store, tx, layout, ParsedFile(header, [entry])):
            tx.collection(put.collection).put(put.record, if_version=version)
    tx.collection(QUARANTINE).delete(record.id)
    return None


def _puts(
    store: Store, tx: Transaction, layout: Layout, parsed: ParsedFile
) -> Iterator[tuple[Put, int | None]]:
    """What to write, and on top of which versions; the rest of the file stays."""
    name = layout.collection
    present = {r.key: r for r in store.scan(name) if layout.owns(r.record)}

    def find(collection: str, key: str) -> Any:
        row = present.get(key) if collection == name else None
        return tx.collection(collection).get(key) if row is None else row.record

    last = max((layout.position(r.record) or 0 for r in present.values()), default=0)
    rows = [row.record for row in present.values()]
    for operation in layout.adopt(store.schema, parsed, rows, find):
        if not isinstance(operation, Put):
            continue  # of a record of which the text does not tell
        row = present.get(operation.key) if operation.collection == name else None
        if row is not None:
            record = layout.merged(row.record, operation.record)
            yield store.schema.put(name, record), row.version
        elif operation.collection == name and _is_placed(layout, operation):
            record = layout.placed(operation.record, last + 1)
            yield store.schema.put(name, record), 0
        else:
            yield operation, None


def _is_placed(layout: Layout, put: Put) -> bool:
    return layout.owns(put.record) and layout.position(put.record) is not None
