"""How far a backfill has come: kept in the target's meta, together with the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from pend_storage._records import JSON
from pend_storage.store import Store

__all__ = ["BACKFILL_META", "Cursor"]

BACKFILL_META: Final = "backfill"
"""Name of the meta entry in which the target keeps how far the backfill has come."""

_ORDER: Final = 2
"""Since ``legacy_files`` is copied first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in the source, in copying order, up to which everything has been copied."""

    source: str
    """Identity of the source."""
    incarnation: str | None = None
    """What stood behind the source; None in cursors of older versions. A place in one
    means nothing in another: rows may be missing there, and numbers be given again."""
    target: str | None = None
    """What stood behind the target, likewise: for those who look at it."""
    schema: str
    """Fingerprint of the schema: the order depends on it."""
    collection: str = ""
    """Name of the collection under way."""
    after: str = ""
    """The last key of it that was copied."""
    step: int = 0
    """Calls that wrote rows so far. Each one moves the cursor, so that one which another
    server has missed is never passed over."""
    head: int
    """The source's head when the backfill began. A row that was written since has a
    higher version, and is copied again on the way even where it is before the cursor."""
    complete: bool = False
    order: int = 1
    """Of the copying order: a place in another one says nothing of what was copied."""

    def to_meta(self) -> JSON:
        """As a meta value."""
        value: JSON = msgspec.to_builtins(self)
        return value

    @classmethod
    def begin(cls, source: Store, target: Store) -> Cursor:
        """The beginning."""
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
        """From a meta value; None where it is not a cursor, or of another version."""
        try:
            return msgspec.convert(stored, cls)
        except msgspec.ValidationError:
            return None

    def continues(self, stored: Cursor | None) -> bool:
        """Whether a stored cursor is of the same backfill as this one, a fresh one."""
        return (
            stored is not None
            and (stored.source, stored.schema) == (self.source, self.schema)
            and stored.incarnation in {None, self.incarnation}
            and (stored.complete or stored.order == self.order)
        )
