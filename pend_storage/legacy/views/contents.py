"""The records of one legacy file in one store: what the views are made of."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pend_storage.codec import check_json
from pend_storage.errors import Conflict, InvalidRecord, StoreUnavailable
from pend_storage.layout import Entry
from pend_storage.legacy.adoption import absorbed, anchored
from pend_storage.legacy.exact import dump
from pend_storage.legacy.mapping import RecordMapping
from pend_storage.legacy.quarantine import name_of
from pend_storage.legacy.reader import Piece, Reader
from pend_storage.listing import Listed, Listing
from pend_storage.live.recent import Moment, is_closed
from pend_storage.query import Condition, Query, field, make_query
from pend_storage.records import Put, QuarantinedRecord
from pend_storage.schema import QUARANTINE, CollectionSpec
from pend_storage.shown import shown
from pend_storage.store import Store
from pend_storage.text import safe_text
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["Contents", "Look"]

_Reads: TypeAlias = Store | Transaction


@dataclass(frozen=True, slots=True)
class Contents:
    """Reads and writes the records of one file."""

    layout: RecordLayout
    store: Store
    tx: Transaction | None = None
    """The transaction of which all reads and writes are part."""

    @property
    def reads(self) -> _Reads:
        """Where to look."""
        return self.store if self.tx is None else self.tx

    @property
    def spec(self) -> CollectionSpec:
        """The collection of the records."""
        return self.store.schema[self.layout.collection]

    # -- reading ------------------------------------------------------------------------

    def listing(self, reads: _Reads) -> Listing:
        """The records of the file in its order, quarantined ones included."""
        layout = self.layout
        if isinstance(reads, Transaction):
            placed = reads.collection(layout.collection).rows(*layout.where)
            aside = reads.collection(QUARANTINE).rows(field("file") == layout.file)
            return Listing.of_rows(layout, placed, aside)
        known = reads.listing(layout)
        if known is not None:
            return known
        (placed, aside), _ = reads.together(
            (
                (self.spec.name, make_query(self.spec, layout.where)),
                (QUARANTINE, self._aside(field("file") == layout.file)),
            )
        )
        return Listing.of_rows(layout, placed, aside)

    def _aside(self, *where: Condition) -> Query:
        return make_query(self.store.schema[QUARANTINE], where)

    def named(self, name: str) -> tuple[list[Any], list[Any]] | None:
        """Records that may have a member name, placed and in quarantine, in one look.

        None where one after the other is as quick, or has to be asked.
        """
        here = self.layout.mapping.named(name)
        if here is None or self.tx is not None or self.store.moment() is None:
            return None
        (placed, aside), _ = self.store.together(
            (
                (self.spec.name, make_query(self.spec, (here,))),
                (
                    QUARANTINE,
                    self._aside(
                        field("file") == self.layout.file,
                        field("place") == safe_text(name),
                    ),
                ),
            )
        )
        return [row.record for row in placed], [row.record for row in aside]

    def look(self) -> Look:
        """The records of the file, as they are now."""
        moment = Moment.now(self.store, self.tx)
        return Look(self, self.listing(self.reads), moment)

    def count(self, *, by_name: bool) -> int:
        """How many there are.

        Args:
            by_name: records of one name count once.
        """
        layout, store = self.layout, self.store
        known = store.listing(layout) if self.tx is None else self.listing(self.tx)
        if known is None and self._where_tells():
            here = self._aside(
                field("file") == layout.file, ~field("position").is_null()
            )
            placed = make_query(self.spec, layout.where)
            _, (count, aside) = store.together(
                counts=((self.spec.name, placed.where), (QUARANTINE, here.where))
            )
            if not aside:
                return count
        found = self.listing(store) if known is None else known
        return len(found.members if by_name else found.standing)

    def _where_tells(self) -> bool:
        """Whether what meets the condition of the file is of the file."""
        mapping = self.layout.mapping
        return mapping.where_tells or type(mapping).owns is RecordMapping.owns

    def to_change(self, tx: Transaction) -> Listing:
        """The records of the file, to choose from what to change.

        From the store where it keeps them at hand: :meth:`held` checks what was chosen.
        """
        known = None if self.tx is not None else self.store.listing(self.layout)
        return self.listing(tx) if known is None else known

    def held(self, tx: Transaction, listing: Listing, item: Listed) -> Any:
        """The record of an item, read by the transaction.

        Raises:
            Conflict: it has changed since the listing was made.
        """
        if listing.mark is None:  # made of what the transaction has read
            return listing.record(item)
        found = tx.collection(item.collection).versioned(item.key)
        actual = 0 if found is None else found.version
        if found is None or actual != item.version:
            raise Conflict(
                collection=item.collection,
                key=item.key,
                expected=item.version,
                actual=actual,
            )
        return found.record

    def quarantined(
        self, reads: _Reads, name: str | None = None
    ) -> tuple[QuarantinedRecord, ...]:
        """What of the file waits in quarantine.

        Args:
            reads: where to look.
            name: only what may have this member name.
        """
        found: tuple[QuarantinedRecord, ...]
        here = [field("file") == self.layout.file]
        if name is not None:
            here.append(field("place") == safe_text(name))
        found = reads.collection(QUARANTINE).find(*here).items
        return found

    def value(self, record: Any) -> Any:
        """What the file says in the place of a record."""
        return self.layout.shown(record)[1]

    def name(self, record: Any) -> str:
        """The member name of a record."""
        if not isinstance(record, QuarantinedRecord):
            return self.layout.mapping.name(record)
        name = name_of(record)
        return record.place if name is None else name

    # -- writing ------------------------------------------------------------------------

    def entry(self, name: str | None, value: Any) -> Entry:
        """What a written value becomes, behind everything that is there.

        Raises:
            InvalidRecord: it cannot be placed.
        """
        try:
            text = dump(check_json(value))
            shown = b"" if name is None else dump(check_json(name)) + b":"
        except ValueError as error:
            raise InvalidRecord(str(error), collection=self.layout.collection) from None
        reader = Reader(self.layout.file, self.layout.mapping, self.store.schema)
        entry = reader.entry(Piece(name, shown + text, len(shown), 0, now()))
        if entry.home.collection == QUARANTINE:
            raise self.refusal(entry.home.record.reason)
        return entry

    def put(self, tx: Transaction, record: Any, derived: Iterable[Put] = ()) -> None:
        """Write a record, and what else was told with it."""
        mine = (self.spec.name, self.spec.key_of(record))

        def leads(target: str, key: str) -> bool:
            # Read by the transaction: what is there, or is not, is checked at its end.
            there = (target, key) == mine
            return there or tx.collection(target).get(key) is not None

        # Where a reference must not be null, the store says what is wrong with it.
        tx.collection(self.spec.name).put(anchored(self.spec, record, leads) or record)
        for put in derived:
            target = self.store.schema[put.collection]
            told = anchored(target, put.record, leads)
            if told is not None:
                verbs = tx.collection(target.name)
                old = verbs.get(put.key)
                verbs.put(told if old is None else absorbed(target, old, told))

    def change(
        self, tx: Transaction, present: Any, value: Any, position: int | None = None
    ) -> None:
        """Write another value in the place of a record of a list; perhaps elsewhere."""
        self.require_placed(present)
        entry = self.entry(None, value)
        merged = self.layout.mapping.merge(present, entry.home.record)
        # It no longer is what some file told.
        merged = replace(merged, content_hash=None)
        if position is not None:
            merged = self.layout.placed(merged, position)
        self.put(tx, merged, entry.derived)

    def add(self, tx: Transaction, entry: Entry, position: int) -> None:
        """Write a new record of a list, as a later one where equal ones are there."""
        mapping, spec = self.layout.mapping, self.spec
        record, occurrence = entry.home.record, 0
        while tx.collection(spec.name).get(spec.key_of(record)) is not None:
            if not mapping.by_content(record):
                raise self.refusal("the list has a record of the same identity already")
            occurrence += 1
            record = mapping.again(entry.home.record, occurrence)
        self.put(tx, self.layout.placed(record, position), entry.derived)

    def move(self, tx: Transaction, record: Any, position: int) -> None:
        """Give a record another position."""
        waiting = isinstance(record, QuarantinedRecord)
        name = QUARANTINE if waiting else self.layout.collection
        tx.collection(name).put(self.layout.placed(record, position))

    def remove(self, tx: Transaction, record: Any) -> None:
        """Delete a record."""
        self.require_placed(record)
        tx.collection(self.spec.name).delete(self.spec.key_of(record))

    def require_placed(self, record: Any) -> None:
        """Refuse to change a quarantined record.

        Raises:
            InvalidRecord: it is one.
        """
        if isinstance(record, QuarantinedRecord):
            raise self.refusal(
                f"the record at {shown(record.place)} of {record.file} is quarantined "
                f"({record.reason}) and can only be read: `pend-storage quarantine` "
                "decides about it"
            )

    def refusal(self, reason: str) -> InvalidRecord:
        """The error that says why something cannot be written."""
        return InvalidRecord(reason, collection=self.layout.collection)


class Look(NamedTuple):
    """What was seen of a file."""

    contents: Contents
    listing: Listing
    moment: Moment
    """When; of a listing that the store keeps up to date, it does not matter."""

    def is_current(self, item: Listed) -> bool:
        """Whether what was seen of an item is so still."""
        contents, seen = self.contents, self.listing
        if contents.tx is not None:
            return False
        if seen.mark is None:
            return self.moment.holds(contents.store)
        try:
            now = contents.store.listing(contents.layout)
        except StoreUnavailable as error:
            if is_closed(error):
                return True  # an object outlives the file that it came from
            raise
        if now is seen:
            return True
        return now is not None and now.places.get((item.collection, item.key)) is item


def now() -> int:
    """A position behind every other: positions from files are small numbers."""
    return time.time_ns() // 1_000
