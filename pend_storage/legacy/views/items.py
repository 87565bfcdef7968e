"""What a view of a file gives for its records, from one look at all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from typing_extensions import override

from pend_storage.diff import equal
from pend_storage.errors import StoreUnavailable
from pend_storage.legacy.views.contents import Contents, Look
from pend_storage.listing import A_LIST, A_TEXT, AN_OBJECT, Listed
from pend_storage.live import MISSING, Members, Root, as_json, wrapped
from pend_storage.live.members import MemberRoot
from pend_storage.live.recent import NEVER, is_closed, settled
from pend_storage.transaction import Transaction

__all__ = ["ItemRoot", "ListedMember", "given"]

T = TypeVar("T")

_OBJECT: Final[dict[str, Any]] = {}
_LIST: Final[list[Any]] = []


def given(root: Root, look: Look, item: Listed) -> Any:
    """What is given for an item: a view of it where it is an object or a list."""
    value = item.value
    if value is AN_OBJECT:
        return wrapped(root, (), _OBJECT)
    if value is A_LIST:
        return wrapped(root, (), _LIST)
    return look.listing.value(item) if value is A_TEXT else value


class ListedMember(MemberRoot):
    """A member of a file that is an object, decoded when it is looked at."""

    __slots__ = ("_item", "_look")

    # One is made for each member of a file that is looked at: no call to a base.
    def __init__(self, view: Members, name: str, look: Look, item: Listed) -> None:
        self._view = view
        self._name = name
        self._seen = MISSING
        self._moment = NEVER
        self._look = look
        self._item: Listed | None = item

    @override
    def value(self) -> Any:
        item = self._item
        if item is None:
            return super().value()
        try:
            if self._look.is_current(item):
                return self._told(item)
        except StoreUnavailable as error:
            if is_closed(error):
                return self._told(item)
            raise
        self._item = None
        return super().value()

    def _told(self, item: Listed) -> Any:
        if self._seen is MISSING:
            self._seen = self._look.listing.value(item)
        return self._seen

    @override
    def change(self, change: Callable[[Any], T]) -> T:
        self._item = None
        return super().change(change)


class ItemRoot(Root):
    """An item of a list, known by the key of its record, wherever it stands by now."""

    __slots__ = ("_contents", "_item", "_look", "_seen")

    def __init__(self, contents: Contents, look: Look, item: Listed) -> None:
        self._contents = contents
        self._look: Look | None = look
        self._item = item
        self._seen: Any = MISSING

    @override
    def value(self) -> Any:
        look = self._look
        try:
            if look is None or not look.is_current(self._item):
                return self._read_again()
        except StoreUnavailable as error:
            if not is_closed(error):
                raise
        if self._seen is MISSING and look is not None:
            self._seen = look.listing.value(self._item)
        return self._seen

    def _read_again(self) -> Any:
        contents = self._contents
        now = (
            None if contents.tx is not None else contents.store.listing(contents.layout)
        )
        if now is None:
            self._seen = contents.value(self._record(contents.reads))
            return self._seen
        item = now.places.get((self._item.collection, self._item.key))
        if item is None:
            raise self._gone()
        self._look, self._item = Look(contents, now, NEVER), item
        self._seen = now.value(item)
        return self._seen

    def _record(self, reads: Any) -> Any:
        found = reads.collection(self._item.collection).get(self._item.key)
        if found is None:
            raise self._gone()
        return found

    @override
    def change(self, change: Callable[[Any], T]) -> T:
        contents = self._contents

        def write(tx: Transaction) -> T:
            record = self._record(tx)
            value = contents.value(record)
            new = as_json(value)
            result = change(new)
            if not equal(value, new):
                contents.change(tx, record, new)
            return result

        self._look = None
        return settled(contents.store, contents.tx, write)

    def _gone(self) -> LookupError:
        return LookupError(
            f"{self.place()} is not there any more: a view of it is held that was taken "
            "before. Nothing was changed; put it into the list again."
        )

    @override
    def place(self) -> str:
        return f"an item of {self._contents.layout.file}"
