"""Whether what seems to differ does: looked at again until that is certain."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pend_storage._model.diff import Difference, differences
from pend_storage._model.records import Row
from pend_storage.reports import Confirmed, Divergence, Kind
from pend_storage.store import Store
from pend_storage.validation._merge_scan import Comparator

__all__ = ["TwoLooks"]

_LOOKS: Final = 8
_FIRST_PAUSE: Final = 0.02
"""Seconds between two looks at what is changing; doubled each time."""


@dataclass(frozen=True, slots=True)
class _Look:
    left: Row | None
    right: Row | None

    @property
    def versions(self) -> tuple[int, int]:
        return (
            0 if self.left is None else self.left.version,
            0 if self.right is None else self.right.version,
        )

    @property
    def kind(self) -> Kind:
        if self.right is None:
            return "missing"
        return "extra" if self.left is None else "different"

    @property
    def differences(self) -> tuple[Difference, ...]:
        if self.left is None or self.right is None:
            return ()
        return differences(self.left.record, self.right.record)


class TwoLooks:
    """Calls certain what two looks in a row see at the same two versions.

    That is as much as can be known of two stores of which nothing else is known. It takes
    a follower that is behind by more than the pause between the looks for a wrong one.
    """

    def __init__(self, left: Store, right: Store, details: int) -> None:
        """Compare two stores.

        Args:
            left: one store.
            right: the other one.
            details: so many divergences are compared field by field.
        """
        self._left, self._right = left, right
        self._details = details

    def __call__(self, collection: str, keys: Sequence[str]) -> Confirmed:
        """Look again until each is equal, or twice the same, or that was often enough."""
        comparator = Comparator(self._left.schema[collection])
        found: dict[str, Divergence] = {}
        before: dict[str, tuple[int, int] | None] = dict.fromkeys(keys)
        pause = _FIRST_PAUSE
        for _ in range(_LOOKS):
            moving: dict[str, tuple[int, int] | None] = {}
            for key, look in self._looks(collection, list(before)).items():
                if comparator.same(look.left, look.right):
                    continue
                if look.versions == before[key]:
                    found[key] = self._divergence(collection, key, look)
                else:
                    moving[key] = look.versions
            before = moving
            if not moving:
                break
            time.sleep(pause)
            pause *= 2
        return Confirmed(found, frozenset(before))

    def _divergence(self, collection: str, key: str, look: _Look) -> Divergence:
        self._details -= 1
        return Divergence(
            collection=collection,
            key=key,
            kind=look.kind,
            versions=look.versions,
            differences=look.differences if self._details >= 0 else (),
        )

    def _looks(self, collection: str, keys: Sequence[str]) -> dict[str, _Look]:
        left = self._left.read(collection, keys)
        right = self._right.read(collection, keys)
        return {key: _Look(left.get(key), right.get(key)) for key in keys}
