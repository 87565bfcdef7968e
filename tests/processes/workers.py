"""Worker processes of a test: write, read, and change phases, until they are stopped."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Final

from pend_storage.dualwrite import DualWriteStore
from pend_storage.errors import Conflict, PendStorageError, StoreUnavailable
from pend_storage.phases import Phase
from pend_storage.records import Delete, Put
from pend_storage.testing import Report
from pend_storage.testing.domain import SCHEMA, Tally

from .history import Outcome, Recorder, Seen
from .places import TALLIES, Place, go_to

__all__ = ["KEYS", "PAIRS", "QUIET", "STOP", "conduct", "read", "write"]

KEYS: Final = tuple(f"key {n}" for n in range(6))
PAIRS: Final = tuple((f"left {n}", f"right {n}") for n in range(2))
"""Written together, in one commit, or not at all."""
QUIET: Final = "quiet"
"""Signal: write no more."""
STOP: Final = "stop"
"""Signal: end."""
_PER_PROCESS: Final = 1 << 32


class _Worker:
    """A process of a server, and the record of all it does."""

    def __init__(
        self, store: DualWriteStore, place: Place, name: str, number: int
    ) -> None:
        self.store = store
        self.chance = random.Random(number)
        self._place = place
        self._recorder = Recorder(place.histories / f"{name}-{number}.jsonl")
        self._next = number * _PER_PROCESS

    def is_told(self, signal: str) -> bool:
        return self._place.signal(signal).exists()

    def fresh(self) -> int:
        """A value that no other call ever writes."""
        self._next += 1
        return self._next

    def read(self, keys: Sequence[str]) -> list[Seen]:
        """Versions and values, tombstones included; nothing if it fails."""
        number = self._recorder.begin("read", [Seen(key, None, None) for key in keys])
        try:
            rows = self.store.read(TALLIES, keys, deleted=True)
        except PendStorageError as error:
            self._recorder.end(number, "failed", reason=repr(error))
            return []
        seen = []
        for key in keys:
            row = rows.get(key)
            record: Tally | None = None if row is None else row.record
            value = None if record is None else record.value
            seen.append(Seen(key, 0 if row is None else row.version, value))
        self._recorder.end(number, "done", seen)
        return seen

    def write(self, wanted: Iterable[Seen], if_version: int | None = None) -> None:
        """One commit; a value of None deletes."""
        wanted = list(wanted)
        checks = {} if if_version is None else {(TALLIES, wanted[0].key): if_version}
        batch = SCHEMA.batch(map(_operation, wanted), checks)
        number = self._recorder.begin("write", wanted)
        try:
            versions = self.store.commit(batch)
        except Conflict:
            self._recorder.end(number, "conflict")
        except StoreUnavailable as error:
            outcome: Outcome = "failed" if error.outcome_known else "unknown"
            self._recorder.end(number, outcome, reason=repr(error))
        except PendStorageError as error:
            self._recorder.end(number, "failed", reason=repr(error))
        else:
            done = zip(wanted, versions, strict=True)
            seen = [
                Seen(each.key, version or None, each.value) for each, version in done
            ]
            self._recorder.end(number, "done", seen)


def _operation(wanted: Seen) -> Put | Delete:
    if wanted.value is None:
        return SCHEMA.delete(TALLIES, wanted.key)
    return SCHEMA.put(TALLIES, Tally(name=wanted.key, value=wanted.value))


def write(report: Report, place: Place, number: int) -> None:
    """Put, delete, put if unchanged, and put two at once; then rest until the end."""
    with place.open() as store:
        worker = _Worker(store, place, "writer", number)
        report("ready")
        while not worker.is_told(QUIET):
            _write_something(worker)
            time.sleep(worker.chance.uniform(0.0, 0.01))
        while not worker.is_told(STOP):
            time.sleep(0.05)


def _write_something(worker: _Worker) -> None:
    key = worker.chance.choice(KEYS)
    match worker.chance.choices(
        ("put", "check", "pair", "delete", "read"), (40, 20, 15, 10, 15)
    ):
        case ["put"]:
            worker.write([Seen(key, None, worker.fresh())])
        case ["check"]:
            for seen in worker.read([key]):
                is_there = seen.value is not None
                worker.write(
                    [Seen(key, None, worker.fresh())],
                    if_version=seen.version if is_there else 0,
                )
        case ["pair"]:
            value = worker.fresh()
            pair = worker.chance.choice(PAIRS)
            worker.write([Seen(each, None, value) for each in pair])
        case ["delete"]:
            worker.write([Seen(key, None, None)])
        case _:
            worker.read([key])


def read(report: Report, place: Place, number: int) -> None:
    """Read one key, or many, until the end."""
    with place.open(compare=0.2) as store:
        worker = _Worker(store, place, "reader", number)
        report("ready")
        everything = (*KEYS, *(key for pair in PAIRS for key in pair))
        while not worker.is_told(STOP):
            many = worker.chance.random() < 0.3
            worker.read(everything if many else [worker.chance.choice(everything)])
            time.sleep(worker.chance.uniform(0.0, 0.01))
        report(store.divergences())


def conduct(report: Report, place: Place, phases: Sequence[Phase], seed: int) -> None:
    """Go through these phases, and record when each change began and was made."""
    chance = random.Random(seed)
    with place.open() as store:
        for phase in phases:
            report((phase, "begin", time.monotonic()))
            go_to(store, phase)
            report((phase, "end", time.monotonic()))
            time.sleep(chance.uniform(0.1, 0.6))
