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
from pend_storage.legacy._file_edit import FileEdit, has_written, piece_of, run_edit
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
    """Reads and writes of the records of one file in one store, for its views."""

    layout: RecordPlacement
    store: Store
    tx: Transaction | None = None
    """Transaction of all reads and writes; None: each is one of its own."""
    strict: bool = False
    """Refuse values that cannot be placed, instead of quarantining them."""

    @property
    def reads(self) -> _Reads:
        """The transaction, else the store."""
        return self.store if self.tx is None else self.tx

    @property
    def spec(self) -> CollectionSpec:
        """Declaration of the records' collection."""
        return self.store.schema[self.layout.collection]

    # -- reading ------------------------------------------------------------------------

    def listing(self, reads: _Reads) -> Listing:
        """List the records of the file in its order, quarantined ones included."""
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
        """Read the records that may have a member name in one round trip.

        Returns:
            Placed and quarantined records; None where two reads are as quick, or a
            transaction has to check them.
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

    def read_snapshot(self) -> FileSnapshot:
        """Read the records of the file, with the freshness of the read."""
        moment = Moment.now(self.store, self.tx)
        return FileSnapshot(self, self.listing(self.reads), moment)

    def count(self, *, by_name: bool) -> int:
        """Count the records of the file.

        Args:
            by_name: count records of one name once.
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
            # A quarantined record may be hidden by its name: only a listing knows.
            if not aside:
                return count
        found = self.listing(store) if known is None else known
        return len(found.members if by_name else found.standing)

    def _where_tells(self) -> bool:
        """Return whether the file's condition selects exactly its records."""
        mapping = self.layout.mapping
        return mapping.where_tells or type(mapping).owns is RecordMapping.owns

    def listing_to_change(self, tx: Transaction) -> Listing:
        """List the records of the file, in order to select some to change.

        From the store's cached listing where there is one: :meth:`read_checked` reads and checks
        the selected records. After a write of the transaction, which the store does not
        see, from the transaction.
        """
        is_alone = self.tx is None and not has_written(tx)
        known = self.store.listing(self.layout) if is_alone else None
        return self.listing(tx) if known is None else known

    def read_checked(self, tx: Transaction, listing: Listing, item: Listed) -> Any:
        """Read the record of a listed item in the transaction, which checks it.

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
        """Read the quarantined records of the file.

        Args:
            reads: the store or a transaction.
            name: only records that may have this member name.
        """
        found: tuple[QuarantinedRecord, ...]
        here = [field("file") == self.layout.file]
        if name is not None:
            here.append(field("place") == safe_text(name))
        found = reads.collection(QUARANTINE).find(*here).items
        return found

    def value(self, record: Any) -> Any:
        """Return the value of a record in the file."""
        return self.layout.shown(record)[1]

    def name(self, record: Any) -> str:
        """Return the member name of a record."""
        if not isinstance(record, QuarantinedRecord):
            return self.layout.mapping.name(record)
        name = name_of(record)
        return record.place if name is None else name

    # -- writing ------------------------------------------------------------------------

    def run(self, change: Callable[[Transaction], T]) -> T:
        """Run a change in the transaction of the view, or in one of its own."""
        if self.tx is not None:
            return change(self.tx)
        return run_edit(self.layout, self.store, change)

    def require(self, value: object, kind: type[dict[str, Any] | list[Any]]) -> None:
        """Refuse a value that is not of the file's shape.

        Args:
            value: to replace all records.
            kind: ``dict`` or ``list``.

        Raises:
            InvalidRecord: the value is of another shape.
        """
        if not isinstance(value, kind):
            names: dict[type, str] = {dict: "an object", list: "a list"}
            what = names.get(type(value), type(value).__name__)
            reason = f"the records of {self.layout.file} are {names[kind]}, not {what}"
            raise InvalidRecord(reason, collection=self.spec.name)

    def edit_in(self, tx: Transaction) -> FileEdit:
        """Return the edit of the file that is part of a transaction."""
        return FileEdit.of(tx, self.store, self.layout, strict=self.strict)

    def piece(self, name: str | None, value: Any, position: int | None = None) -> Piece:
        """Render a value as a text of the file; without a position, behind all others.

        Raises:
            InvalidRecord: it is not JSON.
        """
        where = newest() if position is None else position
        return piece_of(name, value, where, number=where, collection=self.spec.name)

    def set(self, tx: Transaction, name: str, value: Any) -> None:
        """Write a member; it keeps the position of one with this name."""
        edit, piece = self.edit_in(tx), self.piece(name, value)
        gone = self._records_named(edit, name)
        if gone:
            ranks = [self.layout.rank(record) for record in gone]
            rank = max((rank for rank in ranks if rank is not None), default=None)
            piece = piece if rank is None else piece._replace(position=rank)
        edit.edit(gone, [piece])

    def set_all(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        """Write members one after the other, as one edit."""
        self.edit_in(tx).aside(*items)  # one query for the quarantined records of all
        for name, value in items.items():
            self.set(tx, name, value)

    def unset(self, tx: Transaction, name: str) -> None:
        """Delete a member."""
        edit = self.edit_in(tx)
        edit.edit(self._records_named(edit, name), [])

    def _records_named(self, edit: FileEdit, name: str) -> list[Any]:
        """Return the records of exactly this name: one, as a rule."""
        found = edit.named(name)
        placed = [found] if found is not None and self.name(found) == name else []
        waiting = [
            record
            for record in edit.aside(name)
            if record.position is not None
            and self.name(record) == name
            and not is_superseded(record)
        ]
        return placed + waiting

    def add(self, tx: Transaction, *pieces: Piece) -> None:
        """Add new items, one after the other: some may be equal."""
        edit = self.edit_in(tx)
        for piece in pieces:
            edit.edit([], [piece])

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
        """Change the value of an item, which stays the same record.

        A value with another key is another record, and one that cannot be placed is
        quarantined.

        Args:
            tx: transaction of the change.
            present: the record.
            value: its new value.
            position: its new position; None: unchanged.

        Returns:
            Collection and key of the item from now on; None where that is not certain.
        """
        where = self.layout.rank(present) if position is None else position
        piece = self.piece(None, value, where)
        layout, homes = self.layout, (self.spec.name, QUARANTINE)
        found = [
            (put.collection, put.key)
            for put in self.edit_in(tx).edit([present], [piece], present)
            if isinstance(put, Put) and put.collection in homes
            if layout.owns(put.record) and layout.rank(put.record) == piece.position
        ]
        return found[0] if len(found) == 1 else None

    def move(self, tx: Transaction, record: Any, position: int) -> None:
        """Move a record to another position."""
        waiting = isinstance(record, QuarantinedRecord)
        name = QUARANTINE if waiting else self.layout.collection
        put = self.store.schema.put(name, self.layout.placed(record, position))
        tx.collection(name).put(put.record)
        self.edit_in(tx).record_writes([put])

    def remove(self, tx: Transaction, *records: Any, named: bool = False) -> None:
        """Delete records of the file.

        Args:
            tx: the transaction.
            records: the records.
            named: whether they are members, and no items.
        """
        for record in records:
            name = self.name(record) if named else None
            self._log_overwrite(tx, [record], MISSING, name)
        self.edit_in(tx).edit(records, [])

    # -- the log of overwrites ------------------------------------------------------------

    def log_place(self, *names: str) -> LogPlace:
        """Return the place of a record in the log: its name, or its collection and key."""
        return (self.reads, self.layout.file, *names)

    def log_overwrites(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        """Log that members get other values, or are taken out where that is ``MISSING``."""
        if overwrites.is_watched():
            edit = self.edit_in(tx)
            edit.aside(*items)  # all at once
            for name, value in items.items():
                self._log_overwrite(tx, self._records_named(edit, name), value, name)

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
    """Listing of a file, with the freshness of its read."""

    contents: FileRecords
    listing: Listing
    moment: Moment
    """Moment of the read; unused for a listing that the store keeps up to date."""

    def is_current(self, item: Listed) -> bool:
        """Return whether a listed item is unchanged since."""
        contents, seen = self.contents, self.listing
        if contents.tx is not None:
            return False
        if seen.mark is None:
            return self.moment.holds(contents.store)
        try:
            now = contents.store.listing(contents.layout)
        except StoreUnavailable as error:
            if is_closed(error):
                return True  # as a plain object, a view outlives its closed store
            raise
        if now is seen:
            return True
        return now is not None and now.places.get((item.collection, item.key)) is item
