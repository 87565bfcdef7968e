"""Check of a history, and of both stores at its end, against the promises."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from pend_storage.phases import Phase, Role
from pend_storage.records import Change, Row
from pend_storage.store import Store

from .history import Operation
from .linear import Call, is_linearisable, version_faults
from .places import TALLIES
from .weather import Outage
from .workers import PAIRS

__all__ = [
    "Logs",
    "calls_by_key",
    "everything",
    "linearity_faults",
    "log_faults",
    "pair_faults",
    "undue_failures",
]

_GRACE = 5.0
"""Seconds after an outage in which calls may still fail: connections are made anew."""


def everything(store: Store) -> dict[str, Row]:
    """All that a store holds, tombstones included."""
    return {row.key: row for row in store.scan(TALLIES, deleted=True)}


# -- single keys ------------------------------------------------------------------------


def calls_by_key(operations: Iterable[Operation]) -> dict[str, list[Call]]:
    """The history of each key; without what certainly did not happen."""
    found: dict[str, list[Call]] = {}
    for call in operations:
        if call.outcome in {"done", "unknown"}:
            for seen in call.seen:
                found.setdefault(seen.key, []).append(
                    Call(
                        kind=call.kind,
                        value=seen.value,
                        begin=call.begin,
                        end=call.end,
                        version=seen.version,
                        process=call.process,
                    )
                )
    return found


def linearity_faults(operations: Sequence[Operation]) -> list[str]:
    """Keys whose histories no register could have had."""
    faults = []
    for key, calls in sorted(calls_by_key(operations).items()):
        faults += [f"{key}: {fault}" for fault in version_faults(calls)]
        if not is_linearisable(calls):
            faults.append(f"{key}: no order of its {len(calls)} calls explains them")
    return faults


# -- the change logs --------------------------------------------------------------------


@dataclass(frozen=True)
class Logs:
    """The change logs of both stores, whole: together they are all that was committed."""

    json: Sequence[Change]
    postgres: Sequence[Change]

    @classmethod
    def of(cls, json: Store, postgres: Store) -> Logs:
        return cls(list(json.changes()), list(postgres.changes()))

    def all(self) -> Iterator[Change]:
        yield from sorted(
            [*self.json, *self.postgres], key=lambda c: (c.epoch, c.sequence)
        )

    def written(self) -> Mapping[tuple[str, int], int | None]:
        """By key and version, what was written."""
        return {
            (record.key, record.version): record.record and record.record.value
            for change in self.all()
            for record in change.records
            if record.collection == TALLIES
        }


def log_faults(operations: Iterable[Operation], logs: Logs) -> list[str]:
    """Return acknowledged values that are in no log, and logged ones that should not be."""
    written = logs.written()
    values = {value for value in written.values() if value is not None}
    known: set[int] = set()
    refused: set[int] = set()
    faults = []
    for call in operations:
        if call.kind == "read":
            continue
        for seen in call.seen:
            if call.outcome == "done" and seen.version is not None:
                found = written.get((seen.key, seen.version), math.nan)
                if found != seen.value:
                    faults.append(f"acknowledged and lost: {call}, found {found}")
            if seen.value is not None:
                happened = call.outcome in {"done", "unknown"}
                (known if happened else refused).add(seen.value)
    faults += [f"refused, and there: {value}" for value in values & refused]
    faults += [f"written by no process: {value}" for value in values - known - refused]
    return [*faults, *_primary_faults(logs), *_version_order_faults(logs)]


def _primary_faults(logs: Logs) -> Iterator[str]:
    """Two stores that committed at one epoch were both primary."""
    both = {c.epoch for c in logs.json} & {c.epoch for c in logs.postgres}
    yield from (f"two stores were primary at epoch {epoch}" for epoch in sorted(both))


def _version_order_faults(logs: Logs) -> Iterator[str]:
    """Check that writes of a later epoch have a later version.

    (Inside of an epoch PostgreSQL's log need not be in the order of its versions.)
    """
    latest: dict[str, int] = {}
    for epoch, changes in groupby(logs.all(), key=lambda change: change.epoch):
        here: dict[str, int] = {}
        for record in (record for change in changes for record in change.records):
            here[record.key] = max(here.get(record.key, 0), record.version)
            if record.version <= latest.get(record.key, 0):
                yield f"{record.key}: version {record.version} at epoch {epoch} is late"
        latest |= here


def pair_faults(rows: Mapping[str, Row]) -> list[str]:
    """Half of a commit."""

    def value(key: str) -> int | None:
        row = rows.get(key)
        return row.record.value if row and row.record else None

    return [f"half of {a}, {b}" for a, b in PAIRS if value(a) != value(b)]


# -- failures ---------------------------------------------------------------------------


def undue_failures(
    operations: Iterable[Operation],
    outages: Sequence[Outage],
    told: Sequence[tuple[Phase, str, float]],
) -> list[str]:
    """Calls that failed though their process lived, and the primary could be reached.

    PostgreSQL may have been primary whenever JSON was not for certain.
    """
    safe = list(_times_of_json(told))
    excuses = [(each.begin, each.end + _GRACE) for each in outages]
    found: Counter[str] = Counter()
    for call in operations:
        if call.outcome in {"done", "conflict"} or call.answered == math.inf:
            continue
        begin, end = call.begin, call.answered
        is_excused = any(begin < last and first < end for first, last in excuses)
        is_safe = any(first <= begin and end <= last for first, last in safe)
        if is_safe or not is_excused:
            when = "while JSON was primary" if is_safe else "in fair weather"
            found[f"{call.kind} {call.outcome} {when}: {call.reason}"] += 1
    return [f"{number} times: {what}" for what, number in found.items()]


def _times_of_json(
    told: Sequence[tuple[Phase, str, float]],
) -> Iterator[tuple[float, float]]:
    """Return the times when JSON was primary, and no switch under way."""
    for (phase, what, begin), (_, _, end) in pairwise(told):
        if what == "end" and phase.json_role is Role.PRIMARY:
            yield begin, end
