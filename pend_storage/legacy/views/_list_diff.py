"""List diff: records of a list that are kept, changed, moved, inserted and deleted.

Unchanged records are not written. Records keep their identity: an item that equals an old
one is that record, and where as many were deleted as inserted between two that stay, they
were changed in place. Records that stay in order keep their positions, as far as there is
room for insertions between them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from operator import lt
from typing import Any, Final, NamedTuple

from pend_storage._layouts.listing import Listing, digest_of
from pend_storage._model.diff import equal
from pend_storage._transaction import Transaction
from pend_storage.legacy._exact_json import dump, normal
from pend_storage.legacy.views._file_records import FileRecords

__all__ = ["ListDiff"]


class _Slot(NamedTuple):
    """Item of the new list."""

    old: int | None
    """Index of its record in the old list; None: a new record."""
    value: Any
    is_changed: bool = False


class ListDiff:
    """Diff of a list against a new one, written in a transaction."""

    def __init__(
        self, contents: FileRecords, tx: Transaction, listing: Listing
    ) -> None:
        self._contents: Final = contents
        self._tx: Final = tx
        self._listing: Final = listing
        self._items: Final = listing.standing

    @cached_property
    def values(self) -> list[Any]:
        """Values of the list, as plain data."""
        return [self._listing.value(item) for item in self._items]

    def _value(self, index: int) -> Any:
        # The very objects that the change got: an identity is cheaper to match.
        if "values" in self.__dict__:
            return self.values[index]
        return self._listing.value(self._items[index])

    def _same(self, index: int, new: Any) -> bool:
        """Compare a record with a new value; decode it only where the digests differ."""
        item = self._items[index]
        if item.digest is not None and item.digest == digest_of(new):
            return True
        mine = self._value(index)
        return mine is new or equal(mine, new)

    def write_as(self, new: list[Any]) -> None:
        """Write the differences that turn the list into the new one."""
        slots = self._slots(new)
        kept = {slot.old for slot in slots}
        gone = [self._read_checked(i) for i in range(len(self._items)) if i not in kept]
        if gone:
            self._contents.remove(self._tx, *gone)
        self._place(slots)

    def _read_checked(self, index: int) -> Any:
        return self._contents.read_checked(self._tx, self._listing, self._items[index])

    # -- matching -------------------------------------------------------------------------

    def _slots(self, new: list[Any]) -> list[_Slot]:
        found: list[int | None] = [None] * len(new)
        self._match_ends(new, found)
        self._match_equal(new, found)
        slots = [_Slot(old, value) for old, value in zip(found, new, strict=True)]
        self._pair(slots)
        return slots

    def _match_ends(self, new: list[Any], found: list[int | None]) -> None:
        """Match the common head and tail: nearly everything, as a rule."""
        count = len(self._items)
        shorter = min(count, len(new))
        front = 0
        while front < shorter and self._same(front, new[front]):
            found[front] = front
            front += 1
        back = 1
        while back <= shorter - front and self._same(count - back, new[-back]):
            found[-back] = count - back
            back += 1

    def _match_equal(self, new: list[Any], found: list[int | None]) -> None:
        """Match equal items elsewhere: by identity first, then by value."""
        missing = [index for index, old in enumerate(found) if old is None]
        taken = set(found)
        left = [index for index in range(len(self._items)) if index not in taken]
        for name in (id, _text) if "values" in self.__dict__ else (_text,):
            if not missing or not left:
                return
            by_name: dict[Any, deque[int]] = defaultdict(deque)
            for index in left:
                by_name[name(self._value(index))].append(index)
            for index in missing:
                same = by_name.get(name(new[index]))
                if same:
                    found[index] = same.popleft()
            missing = [index for index in missing if found[index] is None]
            taken = set(found)
            left = [index for index in left if index not in taken]

    def _pair(self, slots: list[_Slot]) -> None:
        """Pair a deletion and an insertion at the same place: a change in place."""
        kept = {slot.old for slot in slots}
        gone = deque(index for index in range(len(self._items)) if index not in kept)
        last = -1
        for place, slot in enumerate(slots):
            if slot.old is not None:
                last = slot.old
                continue
            while gone and gone[0] <= last:
                gone.popleft()
            if gone and gone[0] == last + 1:
                last = gone.popleft()
                slots[place] = _Slot(last, slot.value, is_changed=True)

    # -- positions ------------------------------------------------------------------------

    def _place(self, slots: list[_Slot]) -> None:
        """Change, move and add records, from the oldest to the newest."""
        layout = self._contents.layout
        growing = slots[::-1] if layout.newest_first else slots
        ranks = [None if s.old is None else self._items[s.old].rank for s in growing]
        fixed = _longest_growing(ranks)
        last = self._first(ranks, fixed)
        for index, (slot, rank) in enumerate(zip(growing, ranks, strict=True)):
            stays = index in fixed and rank is not None and rank > last
            last = rank if stays and rank is not None else last + 1
            if slot.old is None:
                self._contents.add(
                    self._tx, self._contents.piece(None, slot.value, last)
                )
            elif slot.is_changed or not stays:
                self._write(slot, slot.old, None if stays else last)

    def _first(self, ranks: Sequence[int | None], fixed: dict[int, int]) -> int:
        """Return a rank with room above it for the items in front of all unmoved ones."""
        if not fixed:
            known = [rank for rank in ranks if rank is not None]
            return min(known, default=0) - len(ranks) - 1
        first = min(fixed)
        return fixed[first] - first - 1

    def _write(self, slot: _Slot, old: int, position: int | None) -> None:
        record = self._read_checked(old)
        if slot.is_changed:
            self._contents.overwrite(self._tx, record, slot.value, position)
        elif position is not None:
            self._contents.move(self._tx, record, position)


def _text(value: Any) -> bytes:
    try:
        return dump(normal(value))
    except (TypeError, ValueError):  # no JSON: it is refused when it is written
        return b""


def _longest_growing(ranks: Sequence[int | None]) -> dict[int, int]:
    """Return the longest increasing subsequence of ranks, by index: these do not move."""
    known = {place: rank for place, rank in enumerate(ranks) if rank is not None}
    if all(map(lt, known.values(), islice(known.values(), 1, None))):
        return known  # nearly always
    tails: list[int] = []
    tail_places: list[int] = []
    before: dict[int, int | None] = {}
    for place, rank in enumerate(ranks):
        if rank is None:
            continue
        index = bisect_left(tails, rank)
        before[place] = tail_places[index - 1] if index else None
        tails[index : index + 1] = [rank]
        tail_places[index : index + 1] = [place]
    found = dict(_walk(before, tail_places[-1] if tail_places else None, ranks))
    return dict(sorted(found.items()))


def _walk(
    before: dict[int, int | None], place: int | None, ranks: Sequence[int | None]
) -> Iterator[tuple[int, int]]:
    while place is not None:
        rank = ranks[place]
        assert rank is not None  # noqa: S101 - only ranked ones are in
        yield place, rank
        place = before[place]
