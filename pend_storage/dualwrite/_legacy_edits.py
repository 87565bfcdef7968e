"""Synchronisation of edits of legacy files that were made while JSON was secondary.

The JSON store does not adopt them: it puts what they said in quarantine, makes a finding
of each, and writes its file again. Those rows are its own until they are brought to the
primary, where an operator finds them, and from where they come back as everything does.

Where JSON becomes primary first, they are in the primary and in no change log, so nothing
would ever bring them to the other store. Then they are committed there once more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final

from pend_storage._model.records import FindingRecord, Put, Row
from pend_storage.dualwrite._divergence_registry import DivergenceRegistry
from pend_storage.dualwrite._relay_schedule import RelaySchedule
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.dualwrite._route import Route
from pend_storage.errors import ChangesExpired, Conflict
from pend_storage.query import field, make_query
from pend_storage.schema import FINDINGS, LEGACY_FILES, QUARANTINE
from pend_storage.store import Store

__all__ = ["LegacyEditSync", "commit_unlogged", "replicate_edits", "settled_edits"]

_AT_ONCE: Final = 100
_SHORT: Final = 16
"""How often a row is written to get past the version that the secondary gave it."""


class LegacyEditSync:
    """Synchronises edits that were made while JSON was secondary with the primary."""

    def __init__(self, registry: DivergenceRegistry, schedule: RelaySchedule) -> None:
        """Make it.

        Args:
            registry: emits and settles the findings of edits.
            schedule: wakes the relay, which brings the rows to the secondary.
        """
        self._registry = registry
        self._schedule = schedule

    def sync(self, route: Route) -> None:
        """Commit to the primary what only one side knows of edits.

        Raises:
            StaleEpoch: roles have changed; look again.
            StoreUnavailable: a store cannot be reached.
        """
        with contextlib.suppress(Conflict):  # another process is just doing it
            replicated = replicate_edits(route)
            self._registry.emit_edits(replicated)
            settled = settled_edits(route)
            if settled:
                self._registry.record_accepted(settled)
            if commit_unlogged(route) or replicated or settled:
                self._schedule.wake()


def replicate_edits(route: Route) -> list[FindingRecord]:
    """Commit to the primary what only its secondary knows of edits; return the new ones.

    Raises:
        StaleEpoch: roles have changed; look again.
        StoreUnavailable: a store cannot be reached.
        Conflict: another process is replicating them.
    """
    follower = route.follower
    if follower is None:
        return []
    there = {row.key: row for row in _edits(follower)}
    here = route.store.read(FINDINGS, there, deleted=True, epoch=route.epoch)
    news = [row for key, row in there.items() if key not in here]
    for start in range(0, len(news), _AT_ONCE):
        part = [row.record for row in news[start : start + _AT_ONCE]]
        aside = [r.quarantined for r in part if r.quarantined is not None]
        held = follower.read(QUARANTINE, aside)
        known = route.store.read(QUARANTINE, aside, deleted=True, epoch=route.epoch)
        schema = route.store.schema
        puts = [schema.put(FINDINGS, record) for record in part]
        puts += [
            schema.put(QUARANTINE, row.record)
            for key, row in held.items()
            if key not in known
        ]
        versions = {row.key: row.version for row in (*news, *held.values())}
        _commit_above(route, puts, versions)
    return [row.record for row in news]


def _commit_above(route: Route, puts: list[Put], versions: dict[str, int]) -> None:
    """Commit rows until they are newer here than there, so that they can be replicated."""
    checks = {(put.collection, put.key): 0 for put in puts}
    batch = route.store.schema.batch(puts, checks)
    for _ in range(_SHORT):
        given = route.store.commit(batch, epoch=route.epoch)
        low = [
            (put, version)
            for put, version in zip(batch.operations, given, strict=True)
            if version <= versions.get(put.key, 0)
        ]
        if not low:
            return
        checks = {(put.collection, put.key): version for put, version in low}
        batch = route.store.schema.batch([put for put, _ in low], checks)


def commit_unlogged(route: Route) -> int:
    """Commit rows that the primary wrote outside of its log as secondary; return how many.

    Nothing is done before the secondary has caught up: what it lacks then is not in the
    change log.

    Raises:
        StaleEpoch: roles have changed; look again.
        StoreUnavailable: a store cannot be reached.
        Conflict: another process is committing them, or has changed them.
    """
    follower = route.follower
    if follower is None:
        return 0
    noted = list(_noted(route))
    if not noted or not _has_caught_up(route.store, follower):
        return 0
    schema, left = route.store.schema, []
    for name, rows in groupby(noted, itemgetter(0)):
        mine = {row.key: row for _, row in rows}
        there = follower.read(name, mine, deleted=True)
        left += [
            (name, row)
            for key, row in mine.items()
            if key not in there or there[key].version < row.version
        ]
    for start in range(0, len(left), _AT_ONCE):
        part = left[start : start + _AT_ONCE]
        puts = [schema.put(name, row.record) for name, row in part]
        checks = {(name, row.key): row.version for name, row in part}
        route.store.commit(schema.batch(puts, checks), epoch=route.epoch)
    return len(left)


def _noted(route: Route) -> Iterator[tuple[str, Row]]:
    """Yield the rows, by collection, that a store may write outside of its log."""
    store, epoch = route.store, route.epoch
    findings = list(_edits(store))
    asides = [row.record.quarantined for row in findings]
    held = store.read(QUARANTINE, [a for a in asides if a is not None], epoch=epoch)
    yield from ((QUARANTINE, row) for row in held.values())
    yield from ((FINDINGS, row) for row in findings)
    yield from ((LEGACY_FILES, row) for row in store.scan(LEGACY_FILES, epoch=epoch))


def _has_caught_up(primary: Store, follower: Store) -> bool:
    mark = ReplicationPosition.load(follower)
    if mark is None:
        return False
    try:
        return not primary.pending(mark.sequence).commits
    except ChangesExpired:
        return False


def _edits(store: Store) -> Iterator[Row]:
    query = make_query(store.schema[FINDINGS], (field("source") == "edit",))
    yield from store.query(FINDINGS, query)


def settled_edits(route: Route) -> list[str]:
    """Return the ids of open findings whose quarantined record does not wait any more."""
    query = make_query(
        route.store.schema[FINDINGS],
        (field("state") == "open", field("source") == "edit"),
    )
    rows = route.store.query(FINDINGS, query, epoch=route.epoch)
    asides = {row.key: row.record.quarantined for row in rows}
    wanted = [aside for aside in asides.values() if aside is not None]
    held = route.store.read(QUARANTINE, wanted, epoch=route.epoch)
    return [
        key
        for key, aside in asides.items()
        if aside is not None
        and (aside not in held or not held[aside].record.is_waiting)
    ]
