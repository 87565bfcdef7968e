"""Audit images: the records before and after a commit, for the entries that keep them.

A schema adds the entries of a commit when the batch is made, without the records of before,
which are not known there. Here those are read, and the commit demands that they are still
the same, so that an entry never shows another record than the one that was replaced.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from pend_storage import _jitter as jitter
from pend_storage._model.attribution import Actor
from pend_storage._model.audit import AUDIT, AuditEntry, new_entry
from pend_storage._model.diff import ABSENT, differences
from pend_storage._model.limits import MAX_AUDIT_IMAGE_BYTES
from pend_storage._model.records import Batch, Delete, Put, Row
from pend_storage.codec import load_json
from pend_storage.errors import Conflict
from pend_storage.schema import Schema

__all__ = [
    "ATTEMPTS",
    "commit_audited",
    "is_due",
    "pause_after",
    "places_due",
    "versions_in",
    "with_images",
]

ATTEMPTS: Final = 20
"""Attempts to commit on top of the records that were read."""
_SHORTEST: Final = 0.001
_LONGEST: Final = 0.1

Place = tuple[str, str]


class AuditedStore(Protocol):
    """The verbs of a store that a commit with images calls."""

    @property
    def schema(self) -> Schema:
        """Its schema."""
        ...

    def read(self, collection: str, keys: Iterable[str], /) -> dict[str, Row]:
        """See :meth:`pend_storage.contract.StoreBackend.read`."""
        ...

    def commit(self, batch: Batch, /) -> tuple[int, ...]:
        """See :meth:`pend_storage.contract.StoreBackend.commit`."""
        ...


def is_due(schema: Schema, batch: Batch) -> bool:
    """Return whether records of before are to be read for a commit.

    Of a deletion, always: that of a missing record has no entry.
    """
    return bool(schema.audited) and next(_written(schema, batch), None) is not None


def _written(schema: Schema, batch: Batch) -> Iterator[Put | Delete]:
    for operation in batch.operations:
        if operation.collection in schema.audited and (
            type(operation) is Delete or schema[operation.collection].audit != "keys"
        ):
            yield operation


def places_due(schema: Schema, batch: Batch) -> dict[str, list[str]]:
    """Return the keys of the records to read, by collection."""
    found: dict[str, list[str]] = {}
    for operation in _written(schema, batch):
        found.setdefault(operation.collection, []).append(operation.key)
    return found


def with_images(
    schema: Schema, batch: Batch, rows: Mapping[str, Mapping[str, Row]]
) -> tuple[Batch, frozenset[Place]]:
    """Return a commit with whole entries, and the places that are checked in addition.

    Args:
        schema: of the store.
        batch: as the schema made it.
        rows: the records that are there, by collection and key.
    """
    due = {(o.collection, o.key): o for o in _written(schema, batch)}
    operations: list[Put | Delete] = []
    for operation in batch.operations:
        if operation.collection != AUDIT or not isinstance(operation, Put):
            operations.append(operation)
            continue
        entry: AuditEntry = operation.record
        place = (str(entry.collection), str(entry.key))
        if entry.collection is None or entry.key is None or place not in due:
            operations.append(operation)
            continue
        row = rows.get(place[0], {}).get(place[1])
        if row is None and isinstance(due[place], Delete):
            continue  # nothing is deleted
        operations.append(schema.entry(_whole(schema, entry, due[place], row)))
    added = {place: _version(rows, place) for place in due if place not in batch.checks}
    checks = {**batch.checks, **added}
    made = replace(batch, operations=tuple(operations), checks=checks)
    return made, frozenset(added)


def _version(rows: Mapping[str, Mapping[str, Row]], place: Place) -> int:
    row = rows.get(place[0], {}).get(place[1])
    return 0 if row is None else row.version


def _whole(
    schema: Schema, entry: AuditEntry, operation: Put | Delete, row: Row | None
) -> AuditEntry:
    spec = schema[operation.collection]
    before = None if row is None else spec.codec.encode(row.record)
    after = operation.body if isinstance(operation, Put) else None
    values: dict[str, Any] = {
        "version_before": "0" if row is None else str(row.version)
    }
    if spec.audit == "full":
        values |= {"before": _image(before), "after": _image(after)}
    elif spec.audit == "diff":
        values |= _changes(before, after)
    author = Actor(entry.by, entry.reason, entry.request)
    return new_entry(
        entry.id, entry.action, author,
        collection=entry.collection, key=entry.key, values=values,
    )  # fmt: skip


def _image(body: bytes | None) -> Any:
    """Return a record as JSON; of a very large one, size and digest."""
    if body is None:
        return None
    if len(body) > MAX_AUDIT_IMAGE_BYTES:
        return {"cut": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return load_json(body)


def _changes(before: bytes | None, after: bytes | None) -> dict[str, Any]:
    left, right = _image(before), _image(after)
    if left is None or right is None or "cut" in left or "cut" in right:
        return {
            name: image for name, image in (("before", left), ("after", right)) if image
        }
    return {
        "diff": [
            {
                "path": list(found.path),
                **({} if found.left is ABSENT else {"before": found.left}),
                **({} if found.right is ABSENT else {"after": found.right}),
            }
            for found in differences(left, right)
        ]
    }


def versions_in(
    asked: Sequence[Put | Delete], made: Batch, versions: Sequence[int]
) -> tuple[int, ...]:
    """Return the versions of the operations that were asked for."""
    places = ((o.collection, o.key) for o in made.operations)
    given = dict(zip(places, versions, strict=True))
    return tuple(given.get((o.collection, o.key), 0) for o in asked)


def pause_after(attempt: int, error: Conflict, added: frozenset[Place]) -> float | None:
    """Return seconds to wait before the next attempt; None where the caller gets the error."""
    if (error.collection, error.key) not in added or attempt + 1 >= ATTEMPTS:
        return None
    return jitter.between(0, min(_LONGEST, _SHORTEST * 2**attempt))


def commit_audited(store: AuditedStore, batch: Batch) -> tuple[int, ...]:
    """Commit a batch with whole audit entries; else as :meth:`StoreBackend.commit`."""
    schema = store.schema
    if not schema.audited or not is_due(schema, batch):
        return store.commit(batch)
    attempt = 0
    while True:
        places = places_due(schema, batch)
        rows = {name: store.read(name, keys) for name, keys in places.items()}
        made, added = with_images(schema, batch, rows)
        try:
            return versions_in(batch.operations, made, store.commit(made))
        except Conflict as error:
            pause = pause_after(attempt, error, added)
            if pause is None:
                raise
            time.sleep(pause)
            attempt += 1
