"""Records of one legacy file in one store: reads and writes of its live objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pend_storage._layouts.duplicate_members import is_superseded
from pend_storage._layouts.listing import Listed, Listing
from pend_storage._layouts.removal import Place
from pend_storage._model.records import Put, QuarantinedRecord
from pend_storage._model.storable_text import safe_text
from pend_storage._transaction import Transaction
from pend_storage.errors import Conflict, InvalidRecord, StoreUnavailable
from pend_storage.legacy._file_edit import FileEdit, has_written, piece_of, written
from pend_storage.legacy._mapping import RecordMapping
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.legacy._quarantine import name_of
from pend_storage.legacy._record_reader import Piece, newest
from pend_storage.live import MISSING
from pend_storage.live import _overwrites as overwrites
from pend_storage.live._overwrites import Place as LogPlace
from pend_storage.live._recent import Moment, is_closed
from pend_storage.query import Condition, Query, field, make_query
from pend_storage.schema import QUARANTINE, CollectionSpec
from pend_storage.store import Store

__all__ = ["FileRecords", "FileSnapshot"]

_Reads: TypeAlias = Store | Transaction
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileRecords:
    """Reads and writes the records of one file."""

    layout: RecordPlacement
    store: Store
    tx: Transaction | None = None
    """The transaction of which all reads and writes are part."""
    strict: bool = False
    """Whether what cannot be placed is refused."""

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

    def look(self) -> FileSnapshot:
        """The records of the file, as they are now."""
        moment = Moment.now(self.store, self.tx)
        return FileSnapshot(self, self.listing(self.reads), moment)

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
        After a write of the transaction, which the store does not know, as it sees them.
        """
        is_alone = self.tx is None and not has_written(tx)
        known = self.store.listing(self.layout) if is_alone else None
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

    def run(self, change: Callable[[Transaction], T]) -> T:
        """Make a change in the transaction of the view, or in one of its own."""
        if self.tx is not None:
            return change(self.tx)
        return written(self.layout, self.store, change)

    def require(self, value: object, kind: type[dict[str, Any] | list[Any]]) -> None:
        """Refuse a value that is not of the file's shape.

        Args:
            value: what is to stand in the place of all records.
            kind: ``dict`` or ``list``.

        Raises:
            InvalidRecord: it is of another shape.
        """
        if not isinstance(value, kind):
            names: dict[type, str] = {dict: "an object", list: "a list"}
            what = names.get(type(value), type(value).__name__)
            reason = f"the records of {self.layout.file} are {names[kind]}, not {what}"
            raise InvalidRecord(reason, collection=self.spec.name)

    def writing(self, tx: Transaction) -> FileEdit:
        """The edit of the file that is part of a transaction."""
        return FileEdit.of(tx, self.store, self.layout, strict=self.strict)

    def piece(self, name: str | None, value: Any, position: int | None = None) -> Piece:
        """A value as it is written into the file; without a position, behind all.

        Raises:
            InvalidRecord: it is not JSON.
        """
        where = newest() if position is None else position
        return piece_of(name, value, where, number=where, collection=self.spec.name)

    def set(self, tx: Transaction, name: str, value: Any) -> None:
        """Write a member, in its place if there is one of this name."""
        writing, piece = self.writing(tx), self.piece(name, value)
        gone = self._under(writing, name)
        if gone:
            ranks = [self.layout.rank(record) for record in gone]
            rank = max((rank for rank in ranks if rank is not None), default=None)
            piece = piece if rank is None else piece._replace(position=rank)
        writing.edit(gone, [piece])

    def set_all(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        """Write members one after the other, as one edit."""
        self.writing(tx).aside(*items)  # all at once
        for name, value in items.items():
            self.set(tx, name, value)

    def unset(self, tx: Transaction, name: str) -> None:
        """Take a member out."""
        writing = self.writing(tx)
        writing.edit(self._under(writing, name), [])

    def _under(self, writing: FileEdit, name: str) -> list[Any]:
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

    def add(self, tx: Transaction, *pieces: Piece) -> None:
        """Write items that were not there, one after the other: some may be equal."""
        writing = self.writing(tx)
        for piece in pieces:
            writing.edit([], [piece])

    def overwrite(
        self, tx: Transaction, present: Any, value: Any, position: int | None = None
    ) -> None:
        """Put another value in the place of an item; views of it know what they stood for.

        The arguments are those of :meth:`change`.
        """
        self._log_overwrite(tx, [present], value)
        self.change(tx, present, value, position)

    def change(
        self, tx: Transaction, present: Any, value: Any, position: int | None = None
    ) -> Place | None:
        """Write another value in the place of an item, which stays the same record.

        Of another key it is another record, and what cannot be placed waits in
        quarantine: gives where it is from now on, or None where that cannot be told.

        Args:
            tx: that it is part of.
            present: the record.
            value: what it says from now on.
            position: where it stands then; None: where it stood.
        """
        where = self.layout.rank(present) if position is None else position
        piece = self.piece(None, value, where)
        layout, homes = self.layout, (self.spec.name, QUARANTINE)
        found = [
            (put.collection, put.key)
            for put in self.writing(tx).edit([present], [piece], present)
            if isinstance(put, Put) and put.collection in homes
            if layout.owns(put.record) and layout.rank(put.record) == piece.position
        ]
        return found[0] if len(found) == 1 else None

    def move(self, tx: Transaction, record: Any, position: int) -> None:
        """Give a record another position."""
        waiting = isinstance(record, QuarantinedRecord)
        name = QUARANTINE if waiting else self.layout.collection
        put = self.store.schema.put(name, self.layout.placed(record, position))
        tx.collection(name).put(put.record)
        self.writing(tx).remember([put])

    def remove(self, tx: Transaction, *records: Any, named: bool = False) -> None:
        """Take records out of the file.

        Args:
            tx: that it is part of.
            records: the records.
            named: whether they are members, and no items.
        """
        for record in records:
            name = self.name(record) if named else None
            self._log_overwrite(tx, [record], MISSING, name)
        self.writing(tx).edit(records, [])

    # -- the log of overwrites ------------------------------------------------------------

    def log_place(self, *names: str) -> LogPlace:
        """Return the place of a record in the log: its name, or its collection and key."""
        return (self.reads, self.layout.file, *names)

    def log_overwrites(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        """Log that members get other values, or are taken out where that is ``MISSING``."""
        if overwrites.is_watched():
            writing = self.writing(tx)
            writing.aside(*items)  # all at once
            for name, value in items.items():
                self._log_overwrite(tx, self._under(writing, name), value, name)

    def _log_overwrite(
        self, tx: Transaction, old: Sequence[Any], new: Any, name: str | None = None
    ) -> None:
        """Log that a record gets another value, or is taken out."""
        if not old or not overwrites.is_watched():
            return
        record = old[-1]
        if name is None:
            waits = isinstance(record, QuarantinedRecord)
            spec = self.store.schema[QUARANTINE] if waits else self.spec
            place = self.log_place(spec.name, spec.key_of(record))
        else:
            place = self.log_place(name)
        log = partial(overwrites.record, place, (), self.value(record), new)
        if self.tx is None:
            tx.after_commit(log)
        else:
            log()


class FileSnapshot(NamedTuple):
    """What was seen of a file."""

    contents: FileRecords
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
