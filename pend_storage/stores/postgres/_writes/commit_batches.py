"""Commit groups: batches that may share a call, because they are independent.

Independent batches have the same outcome with or without each other. Only what can be
decided without the server is checked here. Uniqueness is not: the server refuses a
group that violates it, or in which one batch frees a value and another takes it, and
its batches are retried in smaller groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from pend_storage._model.records import Batch, Delete, Put
from pend_storage.schema import CollectionSpec, Schema

__all__ = ["MOST_BYTES", "MOST_KEYS", "CommitBatches"]

MOST_KEYS: Final = 128
"""Keys of one group, each of which is a lock: PostgreSQL has room for 64 times
``max_connections`` of them, and many processes may merge at the same time. What is
gained by sharing a sync is gained by then.
"""
MOST_BYTES: Final = 16 * 2**20
"""Bytes of the records of one group, in JSON; a larger commit goes alone. The time to
send a call grows faster than its size, and PostgreSQL takes a gibibyte at most.
"""

_Place = tuple[str, str]


class _Rules:
    """Constraints of a collection that decide whether batches are independent."""

    def __init__(self, schema: Schema, spec: CollectionSpec) -> None:
        self.references = tuple(spec.references.items())
        self.frees = bool(spec.unique or schema.referrers(spec.name))
        """Whether a delete may free a unique value, or remove the target of a
        reference.
        """
        ruled = {field for group in spec.unique for field in group}
        ruled.update(spec.references)
        self.ruled: Callable[[Any], Any] = (
            attrgetter(*sorted(ruled)) if ruled else lambda _: None
        )
        """Extracts the values that constraints depend on."""

    def targets(self, record: Any) -> Iterator[_Place]:
        """Keys that a record refers to."""
        for field, target in self.references:
            value = getattr(record, field)
            if value is not None:
                yield target, value


class CommitBatches:
    """Splits a list of batches into groups."""

    def __init__(self, schema: Schema) -> None:
        self._rules = {spec.name: _Rules(schema, spec) for spec in schema}

    def groups_of(self, batches: Sequence[Batch]) -> Iterator[range]:
        """Split batches into consecutive ranges, so that all keep their order."""
        start = 0
        while start < len(batches):
            commit_group = _CommitGroup(self._rules)
            stop = start
            while stop < len(batches) and commit_group.try_add(batches[stop]):
                stop += 1
            stop = max(stop, start + 1)
            yield range(start, stop)
            start = stop

    def targets(self, batch: Batch) -> Iterator[_Place]:
        """Keys that the records of a batch refer to."""
        for operation in batch.operations:
            if isinstance(operation, Put):
                rules = self._rules[operation.collection]
                yield from rules.targets(operation.record)


class _CommitGroup:
    """Batches that are independent of each other."""

    def __init__(self, rules: dict[str, _Rules]) -> None:
        self._rules = rules
        self._written: dict[_Place, Put | Delete] = {}
        self._may_fail: set[_Place] = set()
        """Keys written by batches that have checks."""
        self._checked: set[_Place] = set()
        self._targets: set[_Place] = set()
        self._tokens: set[str] = set()
        self._keys = 0
        self._bytes = 0

    def try_add(self, batch: Batch) -> bool:
        """Add a batch, if it is independent of those in the group."""
        size = _size(batch)
        if self._bytes + size > MOST_BYTES or batch.token in self._tokens:
            return False
        if not self._try_add_keys(batch):
            return False
        self._bytes += size
        if batch.token:
            self._tokens.add(batch.token)
        return True

    def _try_add_keys(self, batch: Batch) -> bool:
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
