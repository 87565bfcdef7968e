"""The records of one legacy file in one store: what the views are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pend_storage.errors import InvalidRecord
from pend_storage.legacy.exact import as_plain
from pend_storage.legacy.quarantine import name_of, value_start
from pend_storage.legacy.reader import Piece, newest
from pend_storage.legacy.writing import Writing, piece_of, written
from pend_storage.namesakes import Text, hidden, is_superseded, text_of
from pend_storage.query import field
from pend_storage.records import QuarantinedRecord
from pend_storage.schema import QUARANTINE, CollectionSpec
from pend_storage.store import Store
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["Contents"]

_Reads: TypeAlias = Store | Transaction
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Contents:
    """Reads and writes the records of one file."""

    layout: RecordLayout
    store: Store
    strict: bool = False
    """Whether what cannot be placed is refused."""

    @property
    def spec(self) -> CollectionSpec:
        """The collection of the records."""
        return self.store.schema[self.layout.collection]

    # -- reading ------------------------------------------------------------------------

    def all(self, reads: _Reads) -> list[Any]:
        """Every record in the file's order, quarantined ones included."""
        layout = self.layout
        found = reads.collection(layout.collection).find(*layout.mapping.where).items
        rows = [record for record in found if layout.owns(record)]
        rows += self._standing(rows, self.quarantined(reads))
        return sorted(rows, key=lambda record: layout.order(record, 0))

    def _standing(
        self, placed: Iterable[Any], aside: Iterable[QuarantinedRecord]
    ) -> list[QuarantinedRecord]:
        """The quarantined records that stand in the file."""
        found = [record for record in aside if record.position is not None]
        named = [text for r in found if (text := self._text(r)) is not None]
        if not named:
            return found
        names = {text.name for text in named}
        named += [
            text for r in placed if (text := self._text(r)) and text.name in names
        ]
        gone = hidden(named)
        return [record for record in found if record.id not in gone]

    def _text(self, record: Any) -> Text | None:
        waiting = isinstance(record, QuarantinedRecord)
        return text_of(self.layout, record, 0, record.id if waiting else None)

    def quarantined(self, reads: _Reads) -> tuple[QuarantinedRecord, ...]:
        """What of the file waits in quarantine."""
        found: tuple[QuarantinedRecord, ...]
        here = field("file") == self.layout.file
        found = reads.collection(QUARANTINE).find(here).items
        return found

    def value(self, record: Any) -> Any:
        """What the file says in the place of a record."""
        if not isinstance(record, QuarantinedRecord):
            return as_plain(self.layout.mapping.write(record))
        text = record.raw[value_start(record.raw) :]
        try:
            return json.loads(text, strict=False)
        except ValueError:
            return text.decode(errors="replace")

    def name(self, record: Any) -> str:
        """The member name of a record."""
        if not isinstance(record, QuarantinedRecord):
            return self.layout.mapping.name(record)
        name = name_of(record)
        return record.place if name is None else name

    # -- writing ------------------------------------------------------------------------

    def run(self, fn: Callable[[Writing], T]) -> T:
        """Call ``fn`` with one edit of the file, until it is committed."""
        return written(self.layout, self.store, fn, strict=self.strict)

    def within(self, tx: Transaction) -> Writing:
        """One edit of the file in a transaction that somebody else commits."""
        return Writing(self.store, tx, self.layout, strict=self.strict)

    def piece(
        self,
        name: str | None,
        value: Any,
        position: int | None = None,
        number: int | None = None,
    ) -> Piece:
        """A value as it is written into the file; without a position, behind all.

        Raises:
            InvalidRecord: it is not JSON.
        """
        where = newest() if position is None else position
        place = where if number is None else number
        return piece_of(name, value, where, number=place, collection=self.spec.name)

    def set(self, writing: Writing, name: str, value: Any) -> None:
        """Write a member, in its place if there is one of this name."""
        piece = self.piece(name, value)
        gone = self.under(writing, name)
        if gone:
            ranks = [self.layout.rank(record) for record in gone]
            rank = max((rank for rank in ranks if rank is not None), default=None)
            piece = piece if rank is None else piece._replace(position=rank)
        writing.edit(gone, [piece])

    def set_all(self, writing: Writing, items: Mapping[Any, Any]) -> None:
        """Write members one after the other, as one edit."""
        names = [name for name in items if isinstance(name, str)]
        writing.aside(*names)  # all at once
        for name, value in items.items():
            self.set(writing, name, value)

    def unset(self, writing: Writing, name: str) -> None:
        """Take a member out."""
        writing.edit(self.under(writing, name), [])

    def under(self, writing: Writing, name: str) -> list[Any]:
        """The records that stand under exactly this name: one, as a rule."""
        found = writing.named(name)
        placed = [found] if found is not None and self.name(found) == name else []
        waiting = [
            record
            for record in writing.aside(name)
            if record.position is not None
            and self.name(record) == name
            and not is_superseded(record)
        ]
        return placed + waiting

    def add(self, writing: Writing, piece: Piece) -> None:
        """Write an item that was not there."""
        writing.edit([], [piece])

    def replace(self, writing: Writing, present: Any, value: Any) -> None:
        """Write another value in the place of an item, which stays the same record."""
        writing.edit(
            [present], [self.piece(None, value, self.layout.rank(present))], present
        )

    def remove(self, writing: Writing, *records: Any) -> None:
        """Take records out of the file."""
        writing.edit(records, [])

    def refusal(self, reason: str) -> InvalidRecord:
        """The error that says why something cannot be written."""
        return InvalidRecord(reason, collection=self.layout.collection)


now = newest
