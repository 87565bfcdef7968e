"""A file that is a list of records, or the list inside of a wrapped file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import TYPE_CHECKING, Any, Final, overload

from typing_extensions import override

from pend_storage.legacy.views.contents import Contents
from pend_storage.legacy.writing import Writing
from pend_storage.records import QuarantinedRecord
from pend_storage.schema import QUARANTINE
from pend_storage.store import Store
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["ListView"]


class ListView(MutableSequence[Any]):
    """Records in the order of the file.

    ``insert(0, ...)`` of a file that grows at the front, and ``append`` of any other, take
    the same time however long the list is. Everything else looks at the whole list.
    """

    def __init__(
        self, layout: RecordLayout, store: Store, *, strict: bool = False
    ) -> None:
        self._contents: Final = Contents(layout, store, strict)
        self._layout: Final = layout

    # -- reading ------------------------------------------------------------------------

    def _all(self) -> list[Any]:
        return self._contents.all(self._contents.store)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    @override
    def __getitem__(self, index: int | slice) -> Any:
        found = self._all()[index]
        if isinstance(index, slice):
            return [self._contents.value(record) for record in found]
        return self._contents.value(found)

    @override
    def __len__(self) -> int:
        return len(self._all())

    @override
    def __iter__(self) -> Iterator[Any]:
        return iter([self._contents.value(record) for record in self._all()])

    def snapshot(self) -> list[Any]:
        """Everything, as plain data."""
        return list(self)

    # -- writing ------------------------------------------------------------------------

    @override
    def append(self, value: Any) -> None:
        if self._layout.newest_first:
            self._insert_between(None, value)
        else:
            self._insert_newest(value)

    @override
    def insert(self, index: int, value: Any) -> None:
        if self._layout.newest_first and index == 0:
            self._insert_newest(value)
        else:
            self._insert_between(index, value)

    @overload
    def __setitem__(self, index: int, value: Any) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any]) -> None: ...
    @override
    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            if index != slice(None):
                raise TypeError(
                    "a view takes a whole new list (view[:] = ...) or an item"
                )
            new = list(value)
            self._contents.run(lambda writing: self.replace_in(writing, new))
            return

        def write(writing: Writing) -> None:
            present = self._contents.all(writing.tx)[index]
            self._contents.replace(writing, present, value)

        self._contents.run(write)

    @override
    def __delitem__(self, index: int | slice) -> None:
        def write(writing: Writing) -> None:
            found = self._contents.all(writing.tx)[index]
            records = found if isinstance(index, slice) else [found]
            self._contents.remove(writing, *records)

        self._contents.run(write)

    @override
    def pop(self, index: int = -1) -> Any:
        """As that of a list: what it gives is what it took out."""

        def take(writing: Writing) -> Any:
            found = self._contents.all(writing.tx)[index]
            self._contents.remove(writing, found)
            return self._contents.value(found)

        return self._contents.run(take)

    @override
    def remove(self, value: Any) -> None:
        """As that of a list: the first item that equals the value."""

        def take(writing: Writing) -> None:
            for record in self._contents.all(writing.tx):
                if self._contents.value(record) == value:
                    self._contents.remove(writing, record)
                    return
            raise ValueError("the list has no item of that value")

        self._contents.run(take)

    @override
    def reverse(self) -> None:
        """As that of a list: the records stay what they are and change places."""

        def write(writing: Writing) -> None:
            tx = writing.tx
            ordered = self._contents.all(tx)
            if not self._layout.newest_first:
                ordered.reverse()
            first = _below(self._layout, ordered)
            for position, record in enumerate(ordered, first):
                self._move(tx, record, position)

        self._contents.run(write)

    def values_in(self, reads: Store | Transaction) -> list[Any]:
        """Everything, as plain data, as a transaction sees it."""
        return [self._contents.value(record) for record in self._contents.all(reads)]

    def replace_in(self, writing: Writing, values: Iterable[Any]) -> None:
        """Make the list consist of these values, at the end of a transaction."""
        ordered = list(values)
        if self._layout.newest_first:
            ordered.reverse()
        pieces = [
            self._contents.piece(None, value, number, number)
            for number, value in enumerate(ordered)
        ]
        writing.rewrite(self._contents.all(writing.tx), pieces)

    def _insert_newest(self, value: Any) -> None:
        piece = self._contents.piece(None, value)
        self._contents.run(lambda writing: self._contents.add(writing, piece))

    def _insert_between(self, index: int | None, value: Any) -> None:
        """Insert somewhere; what is newer moves as far as it must to make room."""
        layout = self._layout
        piece = self._contents.piece(None, value)

        def write(writing: Writing) -> None:
            tx = writing.tx
            ordered = self._contents.all(tx)
            ordered.insert(len(ordered) if index is None else index, None)
            if layout.newest_first:
                ordered.reverse()
            last = _below(layout, ordered)
            for record in ordered:
                rank = None if record is None else layout.rank(record)
                last = last + 1 if rank is None or rank <= last else rank
                if record is None:
                    self._contents.add(writing, piece._replace(position=last))
                elif rank != last:
                    self._move(tx, record, last)

        self._contents.run(write)

    def _move(self, tx: Transaction, record: Any, position: int) -> None:
        waiting = isinstance(record, QuarantinedRecord)
        name = QUARANTINE if waiting else self._layout.collection
        tx.collection(name).put(self._layout.placed(record, position))

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._layout.file}>"


def _below(layout: RecordLayout, ordered: list[Any]) -> int:
    """A rank with room above it for what is to be first."""
    ranks = [layout.rank(record) for record in ordered if record is not None]
    return min((rank for rank in ranks if rank is not None), default=0) - 2
