"""Roots of nested live objects: the records of a file, from one snapshot of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import override

from pend_storage._layouts.listing import A_LIST, A_TEXT, AN_OBJECT, Listed
from pend_storage._layouts.removal import Place
from pend_storage._model.diff import equal
from pend_storage._transaction import Transaction
from pend_storage.legacy.views._file_records import FileRecords, FileSnapshot
from pend_storage.live import MISSING, Members, Root, as_json
from pend_storage.live._members import MemberRoot
from pend_storage.live._nested import NestedList, NestedMap, Roots
from pend_storage.live._overwrites import Place as LogPlace
from pend_storage.live._recent import NEVER

__all__ = ["ItemRoots", "MemberRoots", "item_view"]

T = TypeVar("T")


def item_view(roots: Roots, snapshot: FileSnapshot, item: Listed) -> Any:
    """Return an item for the caller: a nested view of an object or a list."""
    value = item.value
    if value is AN_OBJECT:
        return NestedMap(item, roots)
    if value is A_LIST:
        return NestedList(item, roots)
    return snapshot.listing.value(item) if value is A_TEXT else value


class MemberRoots(Roots):
    """Factory of roots for the members of a file that is an object."""

    __slots__ = ("_snapshot", "_view")

    def __init__(self, view: Members, snapshot: FileSnapshot) -> None:
        super().__init__()
        self._view = view
        self._snapshot = snapshot

    @override
    def root(self, item: Listed) -> Root:
        return ListedMember(self._view, str(item.name), self._snapshot, item)


class ItemRoots(Roots):
    """Factory of roots for the items of a list."""

    __slots__ = ("_contents", "_snapshot")

    def __init__(self, contents: FileRecords, snapshot: FileSnapshot) -> None:
        super().__init__()
        self._contents = contents
        self._snapshot = snapshot

    @override
    def root(self, item: Listed) -> Root:
        return ItemRoot(self._contents, self._snapshot, item)


class ListedMember(MemberRoot):
    """Root for a member of a file that is an object, decoded on access."""

    __slots__ = ("_item", "_snapshot")

    def __init__(
        self, view: Members, name: str, snapshot: FileSnapshot, item: Listed
    ) -> None:
        super().__init__(view, name, MISSING, NEVER)
        self._snapshot = snapshot
        self._item: Listed | None = item

    @override
    def value(self) -> Any:
        item = self._item
        if item is not None:
            if self._snapshot.is_current(item):
                return self._last()
            self._last()
            self._item = None
        return super().value()

    @override
    def _last(self) -> Any:
        if self._seen is MISSING and self._item is not None:
            self._seen = self._snapshot.listing.value(self._item)
        return super()._last()


class ItemRoot(Root):
    """Root for a list item, identified by the key of its record, at any index.

    A change through this root can change the key: it follows the new one.
    """

    __slots__ = ("_contents", "_item", "_place", "_seen", "_snapshot")

    def __init__(
        self, contents: FileRecords, snapshot: FileSnapshot, item: Listed
    ) -> None:
        self._contents = contents
        self._snapshot = snapshot
        self._item = item
        self._place: Place = (item.collection, item.key)
        self._seen: Any = MISSING

    @override
    def value(self) -> Any:
        contents, item = self._contents, self._item
        collection, key = self._place
        is_here = key == item.key and collection == item.collection
        if is_here and self._snapshot.is_current(item):
            return self._last()
        if contents.tx is None and (now := contents.store.listing(contents.layout)):
            found = now.places.get(self._place)
            if found is not None:
                self._snapshot, self._item = FileSnapshot(contents, now, NEVER), found
                self._seen = MISSING
            return self._last()
        record = contents.reads.collection(collection).get(key)
        if record is not None:
            self._seen = contents.value(record)
        return self._last()

    def _last(self) -> Any:
        """Return the last value that was read."""
        if self._seen is MISSING:
            self._seen = self._snapshot.listing.value(self._item)
        return self._seen

    def _record(self, tx: Transaction) -> Any:
        collection, key = self._place
        found = tx.collection(collection).get(key)
        if found is None:
            raise self._stale_error()
        return found

    @override
    def change(self, change: Callable[[Any], T]) -> T:
        contents = self._contents
        place = self._place

        def write(tx: Transaction) -> T:
            nonlocal place
            record = self._record(tx)
            value = contents.value(record)
            new = as_json(value)
            result = change(new)
            place = self._place
            if not equal(value, new):
                place = contents.change(tx, record, new) or place
            return result

        result = contents.run(write)
        self._place = place
        return result

    def _stale_error(self) -> LookupError:
        return LookupError(
            f"{self.place()} no longer exists: this view of it is stale. Nothing was "
            "changed; put it into the list again."
        )

    @override
    def place(self) -> str:
        return f"an item of {self._contents.layout.file}"

    @override
    def log_place(self) -> LogPlace:
        return self._contents.log_place(*self._place)
