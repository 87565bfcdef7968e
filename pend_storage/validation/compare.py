"""Every record of two stores compared by value, in both directions."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from pend_storage.diff import differences
from pend_storage.errors import ConfigError
from pend_storage.events import Progress
from pend_storage.query import And
from pend_storage.records import Row
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store
from pend_storage.validation.merge import Block, Comparator, merged
from pend_storage.validation.report import (
    CollectionCheck,
    Divergence,
    Kind,
    ValidationReport,
)

__all__ = ["validate"]

_TICK: Final = 2_000
"""Records between two calls of ``progress``."""
_SAMPLED: Final = 500
"""Keys of a sample that are read at once."""
_LOOKS: Final = 8
_FIRST_PAUSE: Final = 0.02
"""Seconds between two looks at what is changing; doubled each time."""

_Look = tuple[Row | None, Row | None]


def validate(
    left: Store,
    right: Store,
    *,
    sample: float | None = None,
    progress: Progress | None = None,
    details: int = 1_000,
    rng: random.Random | None = None,
) -> ValidationReport:
    """Compare two stores, which may be in use meanwhile.

    What differs is read again until two looks in a row see the same two versions: then
    it is a divergence; or until it is equal: then somebody was just writing it.

    Args:
        left: one store.
        right: the other one, with the same schema.
        sample: a share of the records of ``left``, 0 to 1, to compare with ``right``; a
            collection that is not equally large in both is then compared whole. None
            compares everything.
        progress: called now and then with the records done and to do.
        details: so many divergences are confirmed and told in full; the rest is counted
            as the scan found it.
        rng: chooses the sample.

    Raises:
        ConfigError: ``sample`` is not a share.
    """
    if sample is not None and not 0 <= sample <= 1:
        raise ConfigError(f"sample must be a share from 0 to 1, not {sample}.")
    started = time.monotonic()
    work = _Work(left, right, details, _Ticker(left, progress))
    work.run(sample, rng or random.Random())  # noqa: S311 - nothing secret
    return ValidationReport(
        checked=sum(check.checked for check in work.checks.values()),
        found=work.found,
        divergences=tuple(work.divergences),
        collections=work.checks,
        sampled=sample is not None,
        seconds=time.monotonic() - started,
    )


def _equally_many(left: Store, right: Store, spec: CollectionSpec) -> bool:
    return left.count(spec.name, And(())) == right.count(spec.name, And(()))


class _Ticker:
    """Tells about progress, not too often."""

    def __init__(self, store: Store, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0
        self._total = 0
        if progress is not None:
            self._total = sum(store.count(spec.name, And(())) for spec in store.schema)

    def tick(self, rows: int) -> None:
        before = self._done // _TICK
        self._done += rows
        if self._progress is not None and self._done // _TICK > before:
            self._progress(min(self._done, self._total), self._total)

    def finish(self) -> None:
        if self._progress is not None:
            self._progress(self._total, self._total)


@dataclass(slots=True)
class _Tally:
    checked: int = 0
    kinds: dict[Kind, int] = field(default_factory=dict)

    def check(self) -> CollectionCheck:
        return CollectionCheck(checked=self.checked, **self.kinds)


class _Work:
    """A validation under way."""

    def __init__(
        self, left: Store, right: Store, details: int, ticker: _Ticker
    ) -> None:
        self.checks: dict[str, CollectionCheck] = {}
        self.divergences: list[Divergence] = []
        self.found = 0
        self._left, self._right = left, right
        self._details = details
        self._ticker = ticker

    def run(self, sample: float | None, rng: random.Random) -> None:
        """Compare every collection."""
        for spec in self._left.schema:
            if sample is None or not _equally_many(self._left, self._right, spec):
                self.compare(spec)
            else:
                self.compare_sample(spec, sample, rng)
        self._ticker.finish()

    def compare(self, spec: CollectionSpec) -> None:
        """Compare a whole collection."""
        tally, comparator = _Tally(), Comparator(spec)
        blocks = merged(self._left.scan(spec.name), self._right.scan(spec.name))
        with closing(blocks):
            for block in blocks:
                self._compare_block(spec, block, comparator, tally)
        self.checks[spec.name] = tally.check()

    def _compare_block(
        self,
        spec: CollectionSpec,
        block: Block,
        comparator: Comparator,
        tally: _Tally,
    ) -> None:
        size = len(block.left)
        tally.checked += size
        self._ticker.tick(size)
        if comparator.all_same(block):
            return
        looks = zip(block.left, block.right, strict=True)
        suspects = {_key(look): look for look in looks if not comparator.same(*look)}
        self._settle(spec, suspects, comparator, tally)

    def compare_sample(
        self, spec: CollectionSpec, sample: float, rng: random.Random
    ) -> None:
        """Compare a part of a collection that is equally large in both stores."""
        tally, comparator = _Tally(), Comparator(spec)
        rows = self._left.scan(spec.name)
        for batch in _batches(row for row in rows if rng.random() < sample):
            others = self._right.read(spec.name, [row.key for row in batch])
            block = Block([*batch], [others.get(row.key) for row in batch])
            self._compare_block(spec, block, comparator, tally)
        self.checks[spec.name] = tally.check()

    def _settle(
        self,
        spec: CollectionSpec,
        suspects: dict[str, _Look],
        comparator: Comparator,
        tally: _Tally,
    ) -> None:
        """Confirm or drop suspects."""
        wanted = self._details - len(self.divergences)
        chosen = dict(islice(suspects.items(), wanted))
        rest = [look for key, look in suspects.items() if key not in chosen]
        confirmed = self._confirmed(spec, chosen, comparator)
        self.divergences += [_divergence(spec, look) for look in confirmed]
        for look in (*confirmed, *rest):
            kind = _kind(look)
            tally.kinds[kind] = tally.kinds.get(kind, 0) + 1
            self.found += 1

    def _confirmed(
        self, spec: CollectionSpec, suspects: dict[str, _Look], comparator: Comparator
    ) -> list[_Look]:
        """Look again until each is equal, or twice the same, or looked at often enough."""
        confirmed: dict[str, _Look] = {}
        pause = _FIRST_PAUSE
        for _ in range(_LOOKS):
            if not suspects:
                break
            left = self._left.read(spec.name, suspects)
            right = self._right.read(spec.name, suspects)
            moving: dict[str, _Look] = {}
            for key, before in suspects.items():
                look = (left.get(key), right.get(key))
                if comparator.same(*look):
                    continue
                seen_twice = _versions(look) == _versions(before)
                (confirmed if seen_twice else moving)[key] = look
            if moving:
                time.sleep(pause)
                pause *= 2
            suspects = moving
        return [*confirmed.values(), *suspects.values()]


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _SAMPLED)):
        yield batch


def _key(look: _Look) -> str:
    left, right = look
    return left.key if left is not None else right.key if right is not None else ""


def _versions(look: _Look) -> tuple[int, int]:
    left, right = look
    return (0 if left is None else left.version, 0 if right is None else right.version)


def _kind(look: _Look) -> Kind:
    left, right = look
    if right is None:
        return "missing"
    return "extra" if left is None else "different"


def _divergence(spec: CollectionSpec, look: _Look) -> Divergence:
    left, right = look
    found = (
        differences(left.record, right.record)
        if left is not None and right is not None
        else ()
    )
    return Divergence(
        collection=spec.name,
        key=_key(look),
        kind=_kind(look),
        versions=_versions(look),
        differences=found,
    )
