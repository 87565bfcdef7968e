"""Storable batch: a batch without keys that PostgreSQL cannot store."""

from __future__ import annotations

import itertools
from dataclasses import replace

from pend_storage._model.records import Batch
from pend_storage._model.storable_text import is_key, is_storable
from pend_storage.errors import Conflict, InvalidRecord
from pend_storage.store import Store
from pend_storage.stores.postgres._connection.wire_format import is_token

__all__ = ["StorableBatch"]


class StorableBatch:
    """Batch without keys that no record can have.

    Deleting such a key, or requiring its absence, is no error; but the server could not
    even be asked.
    """

    __slots__ = ("_places", "batch")

    def __init__(self, batch: Batch, store: Store) -> None:
        """Validate a batch, and leave out its unstorable keys.

        Raises:
            AppendOnly: it would delete an audit entry.
            Conflict: a record is required under a key that none can have.
            InvalidRecord: its token, author or reason cannot be stored.
            UnknownCollection: it writes or checks a collection that the schema lacks.
        """
        _require_storable(batch)
        store.schema.require_appending(batch)
        can_all = True
        for operation in batch.operations:
            store.schema[
                operation.collection
            ]  # raises here, so that it fails no other batch
            can_all = is_key(operation.key) and can_all
        for name, key in batch.checks:
            store.schema[name]
            can_all = is_key(key) and can_all
        self.batch = batch
        self._places: list[int] | None = None
        """Index of each operation of the caller's batch in this one; None: the same."""
        if not can_all:
            self._leave_out(batch)

    def _leave_out(self, batch: Batch) -> None:
        for (collection, key), expected in batch.checks.items():
            if expected and not is_key(key):
                raise Conflict(
                    collection=collection, key=key, expected=expected, actual=0
                )
        checks = {p: v for p, v in batch.checks.items() if is_key(p[1])}
        kept = [o for o in batch.operations if is_key(o.key)]
        place = itertools.count()
        self._places = [next(place) if is_key(o.key) else -1 for o in batch.operations]
        self.batch = replace(batch, operations=tuple(kept), checks=checks)

    def caller_versions(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """Map versions to the operations of the caller's batch."""
        if self._places is None:
            return given
        return tuple(0 if place < 0 else given[place] for place in self._places)


def _require_storable(batch: Batch) -> None:
    if batch.token and not is_token(batch.token):
        raise InvalidRecord(
            f"a token is 32 hexadecimal digits in lower case, not {batch.token!r}",
            collection="the batch",
        )
    if batch.by is batch.reason is None:
        return
    for text in (batch.by, batch.reason):
        if text is not None and not is_storable(text):
            raise InvalidRecord(
                "by and reason cannot hold NUL or half a character: "
                f"{text.encode(errors='backslashreplace')!r}",
                collection="the batch",
            )
