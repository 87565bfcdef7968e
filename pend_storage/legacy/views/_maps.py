"""A file that is an object of records, such as ``wallet-db.json``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from typing_extensions import override

from pend_storage._layouts.duplicate_members import is_superseded
from pend_storage._layouts.listing import AN_OBJECT, Listing
from pend_storage._model.diff import equal
from pend_storage._transaction import Transaction
from pend_storage.legacy.views._file_members import FileMembers
from pend_storage.legacy.views._file_records import FileSnapshot
from pend_storage.legacy.views._item_roots import MemberRoots, given
from pend_storage.live import MISSING
from pend_storage.live._nested import NestedMap
from pend_storage.live._overwrites import Place
from pend_storage.live._recent import NEVER
from pend_storage.store import Store

__all__ = ["LegacyMapping"]


class LegacyMapping(FileMembers):
    """Member name to record."""

    def _lookup(self, reads: Store | Transaction, name: str) -> Any:
        """The record under exactly this name, or None."""
        contents = self._contents
        at_once = contents.named(name) if reads is self._store else None
        if at_once is None:
            found = contents.layout.mapping.find(reads, name)
            placed = [] if found is None else [found]
        else:
            placed = at_once[0]
        for record in placed:
            if contents.name(record) == name:
                return record
        aside = contents.quarantined(reads, name) if at_once is None else at_once[1]
        waiting = [
            record
            for record in aside
            if record.position is not None
            and not is_superseded(record)
            and contents.name(record) == name
        ]
        order = contents.layout.order
        return max(waiting, key=lambda record: order(record, 0), default=None)

    @override
    def _value(self, reads: Store | Transaction, name: str) -> Any:
        found = self._lookup(reads, name)
        return MISSING if found is None else self._contents.value(found)

    @override
    def __getitem__(self, name: str) -> Any:
        # dict(view) asks for the names first, and then for each of them.
        contents = self._contents
        if contents.tx is None and type(name) is str:
            listing = contents.store.listing(contents.layout)
            if listing is not None and "members" in listing.__dict__:
                item = listing.members.get(name)
                if item is None:
                    raise KeyError(name)
                look = FileSnapshot(contents, listing, NEVER)
                return given(MemberRoots(self, look), look, item)
        return super().__getitem__(name)

    @override
    def log_place(self, name: str) -> Place:
        return self._contents.log_place(name)

    @override
    def _log_overwrite(self, tx: Transaction, name: str, new: Any) -> None:
        self._contents.log_overwrites(tx, {name: new})

    @override
    def _overwrite_all(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        self._contents.log_overwrites(tx, items)
        self._set_all(tx, items)

    @override
    def _set(self, tx: Transaction, name: str, value: Any) -> None:
        self._contents.set(tx, name, value)

    @override
    def _set_all(self, tx: Transaction, items: Mapping[str, Any]) -> None:
        self._contents.set_all(tx, items)

    @override
    def _remove(self, tx: Transaction, name: str) -> None:
        self._contents.unset(tx, name)

    @override
    def clear(self) -> None:
        self._run(lambda tx: self._keep(tx, ()))

    def _keep(self, tx: Transaction, names: Collection[str]) -> Listing:
        """Take out what has none of these names; gives what there was."""
        contents = self._contents
        listing = contents.to_change(tx)
        gone = [
            contents.held(tx, listing, item)
            for item in listing.standing
            if item.name not in names
        ]
        if gone:
            contents.remove(tx, *gone, named=True)
        return listing

    def replace_in(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Make the map consist of these members, at the end of a transaction.

        Raises:
            InvalidRecord: they are no object.
        """
        self._contents.require(values, dict)
        there = self._keep(tx, values)
        changed = {
            name: value
            for name, value in values.items()
            if name not in there.members
            or not equal(there.value(there.members[name]), value)
        }
        self._overwrite_all(tx, changed)

    # -- all of them ---------------------------------------------------------------------

    @override
    def _all(self, reads: Store | Transaction) -> dict[str, Any]:
        found = self._contents.listing(reads)
        return {name: found.value(item) for name, item in found.members.items()}

    @override
    def snapshot(self) -> dict[str, Any]:
        return self._all(self._contents.reads)

    @override
    def _pairs(self) -> list[tuple[str, Any]]:
        look = self._contents.look()
        roots = MemberRoots(self, look)
        return [
            (
                name,
                NestedMap(item, roots)
                if item.value is AN_OBJECT  # nearly all are, and calls take time
                else given(roots, look, item),
            )
            for name, item in look.listing.members.items()
        ]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(list(self._contents.look().listing.members))

    @override
    def __len__(self) -> int:
        return self._contents.count(by_name=True)
