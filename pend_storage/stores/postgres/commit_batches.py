"""Groups of commits that go to the server in one call: those that are independent.

Each of a group would end alike without the others.

Only what can be told without asking the server is looked at here. Uniqueness is not: the
server refuses a wave that breaks it, or in which a value is given up by one and taken by
another, and its batches are tried again in smaller waves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from pend_storage.records import Batch, Delete, Put
from pend_storage.schema import CollectionSpec, Schema

__all__ = ["MOST_BYTES", "MOST_KEYS", "CommitBatches"]

MOST_KEYS: Final = 128
"""Keys of one wave, each of which is a lock: PostgreSQL has room for 64 times
``max_connections`` of them, and many processes may merge at the same time. What is gained
by sharing a sync is gained by then."""
MOST_BYTES: Final = 16 * 2**20
"""Of the records of one wave, in JSON; a commit that is larger goes alone. The time to send
a call grows faster than its size, and PostgreSQL takes a gibibyte at most."""

_Place = tuple[str, str]


class _Rules:
    """What of a collection decides whether batches are independent."""

    def __init__(self, schema: Schema, spec: CollectionSpec) -> None:
        self.references = tuple(spec.references.items())
        self.frees = bool(spec.unique or schema.referrers(spec.name))
        """Whether a delete makes room for what others write, or takes their target."""
        ruled = {field for group in spec.unique for field in group}
        ruled.update(spec.references)
        self.ruled: Callable[[Any], Any] = (
            attrgetter(*sorted(ruled)) if ruled else lambda _: None
        )
        """The values that the server would judge."""

    def targets(self, record: Any) -> Iterator[_Place]:
        """Where a record's references lead."""
        for field, target in self.references:
            value = getattr(record, field)
            if value is not None:
                yield target, value


class CommitBatches:
    """Cuts a list of batches into waves."""

    def __init__(self, schema: Schema) -> None:
        self._rules = {spec.name: _Rules(schema, spec) for spec in schema}

    def of(self, batches: Sequence[Batch]) -> Iterator[range]:
        """The places of the batches of each wave: runs, so that all keep their order."""
        start = 0
        while start < len(batches):
            wave = _Wave(self._rules)
            stop = start
            while stop < len(batches) and wave.takes(batches[stop]):
                stop += 1
            stop = max(stop, start + 1)
            yield range(start, stop)
            start = stop

    def targets(self, batch: Batch) -> Iterator[_Place]:
        """Where the references of a batch's records lead."""
        for operation in batch.operations:
            if isinstance(operation, Put):
                rules = self._rules[operation.collection]
                yield from rules.targets(operation.record)


class _Wave:
    """Batches that are independent of each other."""

    def __init__(self, rules: dict[str, _Rules]) -> None:
        self._rules = rules
        self._written: dict[_Place, Put | Delete] = {}
        self._may_fail: set[_Place] = set()
        """What was written by batches that have checks."""
        self._checked: set[_Place] = set()
        self._targets: set[_Place] = set()
        self._tokens: set[str] = set()
        self._keys = 0
        self._bytes = 0

    def takes(self, batch: Batch) -> bool:
        """Take another batch, if it is independent of those in the wave."""
        size = _size(batch)
        if self._bytes + size > MOST_BYTES or batch.token in self._tokens:
            return False
        if not self._takes_keys(batch):
            return False
        self._bytes += size
        if batch.token:
            self._tokens.add(batch.token)
        return True

    def _takes_keys(self, batch: Batch) -> bool:
        targets: list[_Place] = []
        written: dict[_Place, Put | Delete] = {}
        for operation in batch.operations:
            rules = self._rules[operation.collection]
            place = (operation.collection, operation.key)
            if isinstance(operation, Put):
                if rules.references:
                    targets += rules.targets(operation.record)
            elif rules.frees:
                return False
            if not self._may_write(place, operation, batch, rules):
                return False
            written[place] = operation
        # One without any keys counts too: its number must be below that of the commits
        # for which a transaction has room.
        keys = max(1, len({*written, *batch.checks, *targets}))
        if self._keys + keys > MOST_KEYS:
            return False
        # What it refers to may have been put by an earlier one: if that one fails, the
        # server refuses both, and they are tried again apart.
        if not self._written.keys().isdisjoint(batch.checks):
            return False
        self._keys += keys
        self._written.update(written)
        self._targets.update(targets)
        if batch.checks:
            self._checked.update(batch.checks)
            self._may_fail.update(written)
        return True

    def _may_write(
        self, place: _Place, operation: Put | Delete, batch: Batch, rules: _Rules
    ) -> bool:
        if place in self._checked or place in self._targets:
            return False
        before = self._written.get(place)
        if before is None:
            return True
        # Of several puts only the last one gets to the table, where the rules are.
        return (
            isinstance(before, Put)
            and isinstance(operation, Put)
            and not batch.checks
            and place not in self._may_fail
            and bool(rules.ruled(before.record) == rules.ruled(operation.record))
        )


def _size(batch: Batch) -> int:
    return sum(len(o.body) for o in batch.operations if isinstance(o, Put))
