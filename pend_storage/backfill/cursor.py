"""How far a backfill has come: kept in the target's meta, together with the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from pend_storage.records import JSON
from pend_storage.store import Store

__all__ = ["BACKFILL_META", "Cursor"]

BACKFILL_META: Final = "backfill"
"""Name of the meta entry in which the target keeps how far the backfill has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in the source, in copying order, up to which everything has been copied."""

    source: str
    """Identity of the source."""
    schema: str
    """Fingerprint of the schema: the order depends on it."""
    collection: str = ""
    """Name of the collection under way."""
    after: str = ""
    """The last key of it that was copied."""
    head: int
    """The source's head when the backfill began. A row that was written since has a
    higher version, and is copied again on the way even where it is before the cursor."""
    complete: bool = False

    def to_meta(self) -> JSON:
        """As a meta value."""
        value: JSON = msgspec.to_builtins(self)
        return value

    @classmethod
    def load(cls, source: Store, stored: JSON) -> Cursor:
        """Where an interrupted backfill of this source stopped, or the beginning.

        Args:
            source: what is copied.
            stored: what the target has under :data:`BACKFILL_META`.
        """
        fresh = cls(
            source=source.identity(),
            schema=source.schema.fingerprint(),
            head=source.head(),
        )
        try:
            found = msgspec.convert(stored, cls)
        except msgspec.ValidationError:
            return fresh  # never set, or set by a version that knew other members
        known = (found.source, found.schema) == (fresh.source, fresh.schema)
        return found if known and not found.complete else fresh
