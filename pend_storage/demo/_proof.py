"""What is left to prove at the end: that nothing was lost, and both stores are equal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pend_storage._layouts.unread_files import resting_on
from pend_storage.demo._worker import COUNTER
from pend_storage.demo._workers import Crew
from pend_storage.pend import BlockchainEvent, Document
from pend_storage.query import field
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.config import Settings
    from pend_storage.operations.check import Check

__all__ = ["Proof", "count_lost", "prove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The closing table, as data."""

    acknowledged: int
    """Records that were written and acknowledged, every version counted."""
    lost: int
    """Those that are not there any more, nor anything newer in their place."""
    counted: int
    """What the counter says that all writers incremented."""
    increments: int
    """How often it was incremented."""
    reads: int
    backward: int
    """Reads that gave something older than a read before."""
    failed: int
    error: str
    """Of one of the calls that failed."""
    repeated: int
    """Calls that clients made again while PostgreSQL was away."""
    slowest: float
    """Seconds of the slowest call."""
    compared: int
    """Reads that were compared with the other store."""
    diverged: int
    stores_equal: bool
    files: int
    """Legacy files that plain ``json.load`` reads."""
    unreadable: tuple[str, ...]
    """Legacy files that it does not read, and did not before."""

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        broken = self.lost + self.failed + self.backward + self.diverged
        return (
            not broken
            and self.counted == self.increments
            and self.stores_equal
            and bool(self.acknowledged)
        )


def prove(settings: Settings, store: Store, crew: Crew) -> tuple[Proof, Check]:
    """Look at everything. The clients have ended; the store is closed on the way."""
    from pend_storage.operations.check import check

    acknowledged = 0
    newest: dict[tuple[str, str], int] = {}
    for collection, key, version in crew.acknowledged():
        acknowledged += 1
        newest[collection, key] = max(version, newest.get((collection, key), 0))
    lost = count_lost(store, newest)
    with resting_on(COUNTER.file):
        counter = store.collection(Document).get(COUNTER.id)
    demo_events = (field("event_type") == "demo", field("source") == "chain")
    increments = store.collection(BlockchainEvent).count(*demo_events)
    store.close()
    checked = check(settings, files=True)
    directory = settings.require_json().directory
    unreadable = tuple(_unreadable(directory))
    total, reads = crew.tally(), crew.tally("reader")
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
    """How many of these records are missing, or older than what was acknowledged."""
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
    """The legacy files: what the store keeps beside them is not among them."""
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
