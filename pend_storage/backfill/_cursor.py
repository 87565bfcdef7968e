"""Cursor of a backfill: a position, committed in the target's meta with the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from pend_storage._model.meta_names import BACKFILL_META
from pend_storage._model.records import JSON
from pend_storage.store import Store

__all__ = ["BACKFILL_META", "Cursor"]


_ORDER: Final = 2
"""Version of the copying order: 2 copies ``legacy_files`` first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Position in copying order, up to which every row of the source has been copied."""

    source: str
    """Identity of the source."""
    incarnation: str | None = None
    """Incarnation of the source; None in cursors of older versions. A position is valid in
    one incarnation only: in another, rows may be missing and numbers be used again."""
    target: str | None = None
    """Incarnation of the target; status commands show it."""
    schema: str
    """Fingerprint of the schema, on which the copying order depends."""
    collection: str = ""
    """Name of the collection that is being copied."""
    after: str = ""
    """Last key of the collection that was copied."""
    step: int = 0
    """Number of calls that wrote rows. It changes the cursor with every call, so that a
    call which a failed-over server has lost is noticed by the next one."""
    head: int
    """Head of the source's change log at the start. A row that was written since has a
    higher version, and is copied again even where it is before the cursor."""
    complete: bool = False
    order: int = 1
    """Version of the copying order. A position in another order is not comparable."""

    def to_meta(self) -> JSON:
        """Return the cursor as a meta value."""
        value: JSON = msgspec.to_builtins(self)
        return value

    @classmethod
    def begin(cls, source: Store, target: Store) -> Cursor:
        """Return the cursor of a backfill that starts now."""
        return cls(
            source=source.identity(),
            incarnation=source.incarnation(),
            target=target.incarnation(),
            schema=source.schema.fingerprint(),
            head=source.head(),
            order=_ORDER,
        )

    @classmethod
    def parse(cls, stored: JSON) -> Cursor | None:
        """Parse a meta value; return None where it is no cursor, or of another version."""
        try:
            return msgspec.convert(stored, cls)
        except msgspec.ValidationError:
            return None

    def continues(self, stored: Cursor | None) -> bool:
        """Return whether this cursor, which starts now, can resume at a stored one."""
        return (
            stored is not None
            and (stored.source, stored.schema) == (self.source, self.schema)
            and stored.incarnation in {None, self.incarnation}
            and (stored.complete or stored.order == self.order)
        )
