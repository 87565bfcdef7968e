"""View of a list of records: a whole file, or the list inside of a wrapped one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import index as as_index
from typing import Any, Final, TypeVar, overload

from typing_extensions import override

from pend_storage._layouts.listing import AN_OBJECT, Listed, digest_of
from pend_storage._shown import shown
from pend_storage._transaction import Transaction
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.legacy._record_reader import newest
from pend_storage.legacy.views._file_records import FileRecords, FileSnapshot
from pend_storage.legacy.views._item_roots import ItemRoots, item_view
from pend_storage.legacy.views._list_diff import ListDiff
from pend_storage.live import LiveList, as_json, plain
from pend_storage.live._lists import collect_items
from pend_storage.live._nested import NestedMap
from pend_storage.store import Store

__all__ = ["LegacySequence"]

T = TypeVar("T")

_POP: Final = "pop "


class LegacySequence(LiveList):
    """Live list of records, in the order of the file.

    ``insert(0, ...)`` into a file that grows at the front, and ``append`` and ``extend`` of
    any other, take constant time. An index or a slice is looked up in the cached listing
    of a JSON store. ``sort``, ``reverse`` and a new list write the differences.
    """

    def __init__(
        self,
        layout: RecordPlacement,
        store: Store,
        tx: Transaction | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self._contents: Final = FileRecords(layout, store, tx, strict)
        self._layout: Final = layout

    def _run(self, change: Callable[[Transaction], T]) -> T:
        return self._contents.run(change)

    # -- reading ------------------------------------------------------------------------

    @override
    def _data(self) -> list[Any]:
        return self.values_in(self._contents.reads)

    def values_in(self, reads: Store | Transaction) -> list[Any]:
        """Read the whole list as plain data, as a transaction sees it."""
        listing = self._contents.listing(reads)
        return [listing.value(item) for item in listing.standing]

    @override
    def _item_view(self, data: list[Any], index: int) -> Any:
        raise NotImplementedError("items are made from their records")

    @override
    def _children(self) -> list[Any]:
        snapshot = self._contents.read_snapshot()
        return self._views(snapshot, snapshot.listing.standing)

    def _views(self, snapshot: FileSnapshot, items: Iterable[Listed]) -> list[Any]:
        roots = ItemRoots(self._contents, snapshot)
        return [
            NestedMap(item, roots)
            if item.value is AN_OBJECT  # nearly all are, and calls take time
            else item_view(roots, snapshot, item)
            for item in items
        ]

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    @override
    def __getitem__(self, index: int | slice) -> Any:
        snapshot = self._contents.read_snapshot()
        items = snapshot.listing.standing
        if isinstance(index, slice):
            return self._views(snapshot, items[index])
        item = items[_place(index, len(items))]
        return item_view(ItemRoots(self._contents, snapshot), snapshot, item)

    @override
    def __len__(self) -> int:
        return self._contents.count(by_name=False)

    @override
    def snapshot(self) -> list[Any]:
        return self._data()

    @override
    def __contains__(self, value: object) -> bool:
        wanted, listing = plain(value), self._contents.read_snapshot().listing
        digest = digest_of(wanted)
        if digest is not None and any(i.digest == digest for i in listing.standing):
            return True
        # Other texts may be equal, too: those have to be decoded.
        return any(listing.value(item) == wanted for item in listing.standing)

    @override
    def __repr__(self) -> str:
        return f"<live view of {self._layout.file}: {shown(self._data())}>"

    @override
    def __str__(self) -> str:
        return str(self._data())

    # -- writing: single items ------------------------------------------------------------

    @override
    def append(self, value: Any) -> None:
        if self._layout.newest_first:
            super().append(value)
        else:
            self._add_newest([value])

    @override
    def extend(self, values: Iterable[Any]) -> None:
        if self._layout.newest_first:
            super().extend(values)
        else:
            self._add_newest(collect_items(values))

    @override
    def insert(self, index: int, value: Any) -> None:
        if self._layout.newest_first and as_index(index) == 0:
            self._add_newest([value])
        else:
            super().insert(index, value)

    def _add_newest(self, values: list[Any]) -> None:
        pieces = [self._contents.piece(None, as_json(value)) for value in values]

        def write(tx: Transaction) -> None:
            first = newest()
            self._contents.add(
                tx, *(p._replace(position=first + n) for n, p in enumerate(pieces))
            )

        if pieces:
            self._run(write)

    @overload
    def __setitem__(self, index: int, value: Any) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any]) -> None: ...
    @override
    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            if index == slice(None):
                whole = collect_items(value)
                self._run(lambda tx: self.replace_in(tx, whole))
            else:
                super().__setitem__(index, value)
            return
        new = as_json(value)

        def write(tx: Transaction) -> None:
            listing = self._contents.listing_to_change(tx)
            place = _place(index, len(listing.standing), "assignment ")
            record = self._contents.read_checked(tx, listing, listing.standing[place])
            self._contents.overwrite(tx, record, new)

        self._run(write)

    @override
    def __delitem__(self, index: int | slice) -> None:
        def write(tx: Transaction) -> None:
            listing = self._contents.listing_to_change(tx)
            count = len(listing.standing)
            if isinstance(index, slice):
                places: Iterable[int] = range(count)[index]
            else:
                places = (_place(index, count, "assignment "),)
            held = [
                self._contents.read_checked(tx, listing, listing.standing[place])
                for place in places
            ]
            if held:
                self._contents.remove(tx, *held)

        self._run(write)

    @override
    def pop(self, index: int = -1) -> Any:
        def take(tx: Transaction) -> Any:
            listing = self._contents.listing_to_change(tx)
            if not listing.standing:
                as_index(index)
                raise IndexError("pop from empty list")
            place = _place(index, len(listing.standing), _POP)
            record = self._contents.read_checked(tx, listing, listing.standing[place])
            self._contents.remove(tx, record)
            return self._contents.value(record)

        return self._run(take)

    # -- writing: whole lists -------------------------------------------------------------

    @override
    def _apply(self, change: Callable[[list[Any]], T]) -> T:
        """Change a copy of the list, and write the differences."""

        def write(tx: Transaction) -> T:
            listing = self._contents.listing_to_change(tx)
            old = ListDiff(self._contents, tx, listing)
            new = list(old.values)
            result = change(new)
            old.write_as(new)
            return result

        return self._run(write)

    def replace_in(self, tx: Transaction, values: Any) -> None:
        """Replace the whole list in a transaction; only differences are written.

        Raises:
            InvalidRecord: the values are not a list.
        """
        new = as_json(values)
        self._contents.require(new, list)
        ListDiff(self._contents, tx, self._contents.listing_to_change(tx)).write_as(new)


def _place(index: int, count: int, what: str = "") -> int:
    """Normalize an index; raises the errors of a list."""
    try:
        place = as_index(index)
    except TypeError:
        if what == _POP:
            raise
        raise TypeError(
            f"list indices must be integers or slices, not {type(index).__name__}"
        ) from None
    if place < 0:
        place += count
    if not 0 <= place < count:
        raise IndexError(
            "pop index out of range"
            if what == _POP
            else f"list {what}index out of range"
        )
    return place
