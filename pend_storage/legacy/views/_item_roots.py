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

__all__ = ["ItemRoots", "MemberRoots", "given"]

T = TypeVar("T")


def given(roots: Roots, look: FileSnapshot, item: Listed) -> Any:
    """What is given for an item: a view of it where it is an object or a list."""
    value = item.value
    if value is AN_OBJECT:
        return NestedMap(item, roots)
    if value is A_LIST:
        return NestedList(item, roots)
    return look.listing.value(item) if value is A_TEXT else value


class MemberRoots(Roots):
    """Of the members of a file that is an object."""

    __slots__ = ("_look", "_view")

    def __init__(self, view: Members, look: FileSnapshot) -> None:
        super().__init__()
        self._view = view
        self._look = look

    @override
    def root(self, item: Listed) -> Root:
        return ListedMember(self._view, str(item.name), self._look, item)


class ItemRoots(Roots):
    """Of the items of a list."""

    __slots__ = ("_contents", "_look")

    def __init__(self, contents: FileRecords, look: FileSnapshot) -> None:
        super().__init__()
        self._contents = contents
        self._look = look

    @override
    def root(self, item: Listed) -> Root:
        return ItemRoot(self._contents, self._look, item)


class ListedMember(MemberRoot):
    """A member of a file that is an object, decoded when it is looked at."""

    __slots__ = ("_item", "_look")

    def __init__(
        self, view: Members, name: str, look: FileSnapshot, item: Listed
    ) -> None:
        super().__init__(view, name, MISSING, NEVER)
        self._look = look
        self._item: Listed | None = item

    @override
    def value(self) -> Any:
        item = self._item
        if item is not None:
            if self._look.is_current(item):
                return self._last()
            self._last()
            self._item = None
        return super().value()

    @override
    def _last(self) -> Any:
        if self._seen is MISSING and self._item is not None:
            self._seen = self._look.listing.value(self._item)
        return super()._last()


class ItemRoot(Root):
    """An item of a list, known by the key of its record, wherever it stands by now.

    A change of its own can give it another key: then it is known by that.
    """

    __slots__ = ("_contents", "_item", "_look", "_place", "_seen")

    def __init__(self, contents: FileRecords, look: FileSnapshot, item: Listed) -> None:
        self._contents = contents
        self._look = look
        self._item = item
        self._place: Place = (item.collection, item.key)
        self._seen: Any = MISSING

    @override
    def value(self) -> Any:
        contents, item = self._contents, self._item
        collection, key = self._place
        is_here = key == item.key and collection == item.collection
        if is_here and self._look.is_current(item):
            return self._last()
        if contents.tx is None and (now := contents.store.listing(contents.layout)):
            found = now.places.get(self._place)
            if found is not None:
                self._look, self._item = FileSnapshot(contents, now, NEVER), found
                self._seen = MISSING
            return self._last()
        record = contents.reads.collection(collection).get(key)
        if record is not None:
            self._seen = contents.value(record)
        return self._last()

    def _last(self) -> Any:
        """What it said when it was looked at last."""
        if self._seen is MISSING:
            self._seen = self._look.listing.value(self._item)
        return self._seen

    def _record(self, tx: Transaction) -> Any:
        collection, key = self._place
        found = tx.collection(collection).get(key)
        if found is None:
            raise self._gone()
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

    def _gone(self) -> LookupError:
        return LookupError(
            f"{self.place()} is not there any more: a view of it is held that was taken "
            "before. Nothing was changed; put it into the list again."
        )

    @override
    def place(self) -> str:
        return f"an item of {self._contents.layout.file}"

    @override
    def log_place(self) -> LogPlace:
        return self._contents.log_place(*self._place)
