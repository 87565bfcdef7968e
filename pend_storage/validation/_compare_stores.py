"""Comparison of two stores: every record by value, in both directions."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from pend_storage._layouts.unread_files import as_stored
from pend_storage._model.records import Row
from pend_storage.errors import ConfigError
from pend_storage.events import Progress
from pend_storage.query import And
from pend_storage.reports import (
    MOST_DIFFERENCES,
    CollectionCheck,
    Confirm,
    Divergence,
    Kind,
    ValidationReport,
)
from pend_storage.schema import FINDINGS, CollectionSpec
from pend_storage.store import Store
from pend_storage.validation._confirmation import StableReadConfirmer
from pend_storage.validation._merge_scan import Block, Comparator, merged

__all__ = ["validate"]

_TICK: Final = 2_000
"""Records between two calls of ``progress``."""
_SAMPLED: Final = 500
"""Keys of a sample that are read at once."""

_RowPair = tuple[Row | None, Row | None]


@as_stored()
def validate(
    left: Store,
    right: Store,
    *,
    sample: float | None = None,
    progress: Progress | None = None,
    details: int = 1_000,
    certain: Confirm | None = None,
    rng: random.Random | None = None,
    collections: Collection[str] | None = None,
) -> ValidationReport:
    """Compare two stores, which may be in use meanwhile.

    Records that differ are read again until the difference is certain, or gone: then
    another process was just writing them. Only certain divergences are reported.

    Args:
        left: one store.
        right: the other one, with the same schema.
        sample: a share of the records of ``left``, 0 to 1, to compare with ``right``; a
            collection that is not equally large in both is then compared whole. None
            compares everything.
        progress: called now and then with the records done and to do.
        details: number of divergences that the report has in full; the rest is confirmed
            and counted.
        certain: confirms divergences; None: two reads in a row at the same two versions.
            A pair passes its own, which knows the change log and the mark.
        rng: chooses the sample.
        collections: names of those to compare; None: all.

    Returns:
        The counts, and the divergences in detail.

    Raises:
        ConfigError: ``sample`` is not a share.
    """
    if sample is not None and not 0 <= sample <= 1:
        raise ConfigError(f"sample must be a share from 0 to 1, not {sample}.")
    started = time.monotonic()
    specs = compared(left, collections)
    work = _Validation(
        left,
        right,
        details,
        _ProgressReporter(left, specs, progress),
        certain or StableReadConfirmer(left, right, details),
    )
    work.run(specs, sample, rng or random.Random())  # noqa: S311 - nothing secret
    return ValidationReport(
        checked=sum(check.checked for check in work.checks.values()),
        found=work.found,
        divergences=tuple(work.divergences),
        collections=work.checks,
        sampled=sample is not None,
        seconds=time.monotonic() - started,
        unsettled=work.unsettled,
    )


def compared(
    store: Store, names: Collection[str] | None = None
) -> list[CollectionSpec]:
    """List the collections that are compared: all but the findings themselves."""
    return [
        spec
        for spec in store.schema
        if spec.name != FINDINGS and (names is None or spec.name in names)
    ]


def _equally_many(left: Store, right: Store, spec: CollectionSpec) -> bool:
    return left.count(spec.name, And(())) == right.count(spec.name, And(()))


class _ProgressReporter:
    """Reporter of progress: one call for some thousand records."""

    def __init__(
        self,
        store: Store,
        specs: Iterable[CollectionSpec],
        progress: Progress | None,
    ) -> None:
        self._progress = progress
        self._done = 0
        self._total = 0
        if progress is not None:
            self._total = sum(store.count(spec.name, And(())) for spec in specs)

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


class _Validation:
    """Validation under way: its counts and divergences."""

    def __init__(
        self,
        left: Store,
        right: Store,
        details: int,
        reporter: _ProgressReporter,
        certain: Confirm,
    ) -> None:
        self.checks: dict[str, CollectionCheck] = {}
        self.divergences: list[Divergence] = []
        self.found = self.unsettled = 0
        self._left, self._right = left, right
        self._certain = certain
        self._details = details
        self._reporter = reporter

    def run(
        self,
        specs: Iterable[CollectionSpec],
        sample: float | None,
        rng: random.Random,
    ) -> None:
        """Compare collections."""
        for spec in specs:
            if sample is None or not _equally_many(self._left, self._right, spec):
                self.compare(spec)
            else:
                self.compare_sample(spec, sample, rng)
        self._reporter.finish()

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
        self._reporter.tick(size)
        if comparator.all_same(
            block
        ):  # nearly always: one comparison for a whole block
            return
        pairs = zip(block.left, block.right, strict=True)
        suspects = [_key(pair) for pair in pairs if not comparator.same(*pair)]
        if suspects:
            self._confirm(spec, suspects, tally)

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

    def _confirm(
        self, spec: CollectionSpec, suspects: Sequence[str], tally: _Tally
    ) -> None:
        """Confirm the suspects and count them; keep the first ones in detail."""
        confirmed = self._certain(spec.name, suspects)
        self.unsettled += len(confirmed.unsettled)
        self.found += len(confirmed.found)
        for found in confirmed.found.values():
            tally.kinds[found.kind] = tally.kinds.get(found.kind, 0) + 1
            if len(self.divergences) < self._details:
                self.divergences.append(_bounded(found))


def _bounded(found: Divergence) -> Divergence:
    """Return a divergence with its first differences only, and their values cut."""
    differences = found.differences
    return replace(
        found,
        differences=tuple(each.bounded() for each in differences[:MOST_DIFFERENCES]),
        more_differences=max(0, len(differences) - MOST_DIFFERENCES),
    )


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _SAMPLED)):
        yield batch


def _key(pair: _RowPair) -> str:
    left, right = pair
    return left.key if left is not None else right.key if right is not None else ""
