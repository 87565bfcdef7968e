"""Proof at the end of the demo: no acknowledged write is lost, both stores agree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pend_storage._layouts.unread_files import resting_on
from pend_storage.demo._worker import COUNTER
from pend_storage.demo._workers import Workers
from pend_storage.pend import BlockchainEvent, Document
from pend_storage.query import field
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.config import Settings
    from pend_storage.operations.check import Check

__all__ = ["Proof", "count_lost", "prove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Result of the proof: the closing table, as data."""

    acknowledged: int
    """Acknowledged records, every version counted."""
    lost: int
    """Acknowledged records that are missing, or older than what was acknowledged."""
    counted: int
    """Value of the counter that all writers increment."""
    increments: int
    """Committed increments: the value that the counter must have."""
    reads: int
    backward: int
    """Reads that returned an older version than an earlier read of the same client."""
    failed: int
    error: str
    """Message of one of the failed calls; empty if none failed."""
    repeated: int
    """Retries of calls while PostgreSQL was unavailable."""
    slowest: float
    """Duration of the slowest call, in seconds."""
    compared: int
    """Reads that were compared with the secondary."""
    diverged: int
    stores_equal: bool
    files: int
    """Legacy files that plain ``json.load`` reads."""
    unreadable: tuple[str, ...]
    """Legacy files that ``json.load`` refuses, as it did before the migration."""

    @property
    def ok(self) -> bool:
        """Return True if nothing was lost, failed, went backward or diverged."""
        broken = self.lost + self.failed + self.backward + self.diverged
        return (
            not broken
            and self.counted == self.increments
            and self.stores_equal
            # Without a single acknowledged write the run would prove nothing.
            and bool(self.acknowledged)
        )


def prove(settings: Settings, store: Store, workers: Workers) -> tuple[Proof, Check]:
    """Check every promise after the clients have ended.

    Args:
        settings: configuration of the environment.
        store: the pair; it is closed before the stores are compared.
        workers: the stopped clients, with their ledgers.

    Returns:
        The proof, and the comparison of both stores and the legacy files.
    """
    from pend_storage.operations.check import check

    acknowledged = 0
    newest: dict[tuple[str, str], int] = {}
    for collection, key, version in workers.acknowledged():
        acknowledged += 1
        newest[collection, key] = max(version, newest.get((collection, key), 0))
    lost = count_lost(store, newest)
    with resting_on(COUNTER.file):
        counter = store.collection(Document).get(COUNTER.id)
    # Each increment also writes one event in the same transaction. So the number of
    # events says what the counter must be, also where an answer was lost.
    demo_events = (field("event_type") == "demo", field("source") == "chain")
    increments = store.collection(BlockchainEvent).count(*demo_events)
    store.close()
    checked = check(settings, files=True)
    directory = settings.require_json().directory
    unreadable = tuple(_unreadable(directory))
    total, reads = workers.tally(), workers.tally("reader")
    return Proof(
        acknowledged=acknowledged,
        lost=lost,
        counted=0 if counter is None else int(str(counter.body)),
        increments=increments,
        reads=reads.calls,
        backward=reads.backward,
        failed=total.failed,
        error=total.error,
        repeated=total.repeated,
        slowest=total.slowest,
        compared=total.compared,
        diverged=total.diverged,
        stores_equal=checked.ok,
        files=len(_files(directory)) - len(unreadable),
        unreadable=unreadable,
    ), checked


def count_lost(store: Store, acknowledged: Mapping[tuple[str, str], int]) -> int:
    """Count acknowledged records that are missing or older than acknowledged.

    Args:
        store: store to read.
        acknowledged: newest acknowledged version by collection and key.
    """
    keys: dict[str, list[str]] = {}
    for collection, key in acknowledged:
        keys.setdefault(collection, []).append(key)
    lost = 0
    for collection, wanted in keys.items():
        found = store.read(collection, wanted)
        lost += sum(
            key not in found or found[key].version < acknowledged[collection, key]
            for key in wanted
        )
    return lost


def _files(directory: Path) -> Sequence[Path]:
    """List the legacy files, without those of the store's own directory."""
    return [
        path
        for path in sorted(directory.rglob("*.json"))
        if not path.relative_to(directory).parts[0].startswith(".")
    ]


def _unreadable(directory: Path) -> Iterator[str]:
    for path in _files(directory):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            yield str(path.relative_to(directory))
