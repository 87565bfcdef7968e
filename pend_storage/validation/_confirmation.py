"""Confirmation of divergences: suspects are read again until the difference is stable."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pend_storage._model.diff import Difference, differences
from pend_storage._model.records import Row
from pend_storage._redaction import redacted
from pend_storage.reports import Confirmed, Divergence, Kind
from pend_storage.store import Store
from pend_storage.validation._merge_scan import Comparator

__all__ = ["StableReadConfirmer"]

_ATTEMPTS: Final = 8
_FIRST_PAUSE: Final = 0.02
"""Seconds between two reads of keys that are changing; doubled each time."""


@dataclass(frozen=True, slots=True)
class _Observation:
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


class StableReadConfirmer:
    """Confirmer: a difference is certain if two reads in a row find the same two versions.

    More cannot be known of two stores without their change log. A follower that is behind
    by more than the pause between the reads is reported as diverging.
    """

    def __init__(self, left: Store, right: Store, details: int) -> None:
        """Compare two stores.

        Args:
            left: one store.
            right: the other one.
            details: number of divergences that are compared field by field.
        """
        self._left, self._right = left, right
        self._details = details

    def __call__(self, collection: str, keys: Sequence[str]) -> Confirmed:
        """Read keys again until each is equal, or stable, or the attempts are used up."""
        comparator = Comparator(self._left.schema[collection])
        found: dict[str, Divergence] = {}
        before: dict[str, tuple[int, int] | None] = dict.fromkeys(keys)
        pause = _FIRST_PAUSE
        for _ in range(_ATTEMPTS):
            moving: dict[str, tuple[int, int] | None] = {}
            for key, observed in self._observe(collection, list(before)).items():
                if comparator.same(observed.left, observed.right):
                    continue
                if observed.versions == before[key]:
                    found[key] = self._divergence(collection, key, observed)
                else:
                    moving[key] = observed.versions
            before = moving
            if not moving:
                break
            time.sleep(pause)
            pause *= 2
        return Confirmed(found, frozenset(before))

    def _divergence(
        self, collection: str, key: str, observed: _Observation
    ) -> Divergence:
        self._details -= 1
        spec = self._left.schema[collection]
        wanted = observed.differences if self._details >= 0 else ()
        return Divergence(
            collection=collection,
            key=key,
            kind=observed.kind,
            versions=observed.versions,
            differences=tuple(redacted(spec, each) for each in wanted),
        )

    def _observe(self, collection: str, keys: Sequence[str]) -> dict[str, _Observation]:
        left = self._left.read(collection, keys)
        right = self._right.read(collection, keys)
        return {key: _Observation(left.get(key), right.get(key)) for key in keys}
