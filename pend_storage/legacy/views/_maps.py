"""View of an object of records, such as ``wallet-db.json``."""

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
from pend_storage.legacy.views._item_roots import MemberRoots, item_view
from pend_storage.live import MISSING
from pend_storage.live._nested import NestedMap
from pend_storage.live._overwrites import Place
from pend_storage.live._recent import NEVER
from pend_storage.store import Store

__all__ = ["LegacyMapping"]


class LegacyMapping(FileMembers):
    """Live mapping of member names to records."""

    def _lookup(self, reads: Store | Transaction, name: str) -> Any:
        """Find the record of exactly this name, placed or quarantined; or None."""
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
        # dict(view) reads the names first, and then each member: use the same listing.
        contents = self._contents
        if contents.tx is None and type(name) is str:
            listing = contents.store.listing(contents.layout)
            if listing is not None and "members" in listing.__dict__:
                item = listing.members.get(name)
                if item is None:
                    raise KeyError(name)
                snapshot = FileSnapshot(contents, listing, NEVER)
                return item_view(MemberRoots(self, snapshot), snapshot, item)
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
        self._run(lambda tx: self._delete_others(tx, ()))

    def _delete_others(self, tx: Transaction, names: Collection[str]) -> Listing:
        """Delete members that have none of these names; returns the former listing."""
        contents = self._contents
        listing = contents.listing_to_change(tx)
        gone = [
            contents.read_checked(tx, listing, item)
            for item in listing.standing
            if item.name not in names
        ]
        if gone:
            contents.remove(tx, *gone, named=True)
        return listing

    def replace_in(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Replace all members in a transaction; only differences are written.

        Raises:
            InvalidRecord: the values are not an object.
        """
        self._contents.require(values, dict)
        former = self._delete_others(tx, values)
        changed = {
            name: value
            for name, value in values.items()
            if name not in former.members
            or not equal(former.value(former.members[name]), value)
        }
        self._overwrite_all(tx, changed)

    # -- reading all members -------------------------------------------------------------

    @override
    def _all(self, reads: Store | Transaction) -> dict[str, Any]:
        found = self._contents.listing(reads)
        return {name: found.value(item) for name, item in found.members.items()}

    @override
    def snapshot(self) -> dict[str, Any]:
        return self._all(self._contents.reads)

    @override
    def _pairs(self) -> list[tuple[str, Any]]:
        snapshot = self._contents.read_snapshot()
        roots = MemberRoots(self, snapshot)
        return [
            (
                name,
                NestedMap(item, roots)
                if item.value is AN_OBJECT  # nearly all are, and calls take time
                else item_view(roots, snapshot, item),
            )
            for name, item in snapshot.listing.members.items()
        ]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(list(self._contents.read_snapshot().listing.members))

    @override
    def __len__(self) -> int:
        return self._contents.count(by_name=True)
