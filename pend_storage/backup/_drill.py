"""Drill: what a trial restore shows, compared with what is known of the backup.

A drill has three outcomes: *ok*, *failed* where the backup cannot be restored, or not in
time, and *inconclusive* where something else has prevented the answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from pend_storage._shown import listed
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._reachable import Archive
from pend_storage.backup._restore import RestoreReport
from pend_storage.backup._row_digest import RowDigest
from pend_storage.backup._segments import read_changes
from pend_storage.backup._streams import Keys
from pend_storage.backup._target import Resolved
from pend_storage.errors import ConfigError, CorruptFile, PendStorageError
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store

__all__ = [
    "Drill",
    "Outcome",
    "OverBudget",
    "Stopwatch",
    "examine",
    "first_read",
    "random_target",
    "verdict",
]

Outcome: TypeAlias = Literal["ok", "failed", "inconclusive"]

_RECENT: Final = 20_000
"""Commits before the position whose records are compared with the restored ones."""
_PAGE: Final = 500
"""Records that are read at once."""
_LARGE: Final = 10_000_000
"""Rows of the estimate for a large environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """Result of a drill; what was not reached is None."""

    outcome: Outcome
    reason: str | None
    """Why it is not ok."""
    damaged: bool
    """Whether the backup itself is the reason."""
    seed: int | None
    """Of a random target: the same one with the same repository again."""
    target: str | None
    backup: str | None
    sequence: int | None
    """Commits up to this number were restored."""
    at: datetime | None
    """Time of the last of them."""
    scratch: str
    """Where it was restored, without a password; it is removed again."""
    rto_seconds: float | None
    """From the decision to the first good read, as primary."""
    rpo_seconds: float | None
    """Age of the oldest commit that cannot be restored; of a store that does not answer,
    the age of the newest that can. 0: everything can be."""
    rows: int
    changes: int
    rate: float | None
    """Rows and commits per second."""
    stages: Mapping[str, float]
    """Seconds of each stage."""
    estimate_seconds: float | None
    """Of a restore of everything there is now."""
    estimate_large_seconds: float | None
    """Of 10 million rows."""

    @property
    def bottleneck(self) -> str | None:
        """The stage that has taken longest."""
        return max(self.stages, key=lambda name: self.stages[name], default=None)

    def to_fact(self) -> dict[str, Any]:
        """Return the detail of the fact about it."""
        return {
            "outcome": self.outcome,
            "damaged": self.damaged,
            "reason": self.reason,
            "target": self.target,
            "sequence": self.sequence,
            "rto_seconds": self.rto_seconds,
            "rpo_seconds": self.rpo_seconds,
            "rows": self.rows + self.changes,
            "rate": self.rate,
            "bottleneck": self.bottleneck,
            "estimate_seconds": self.estimate_seconds,
        }


class OverBudget(Exception):
    """The drill has used up its time."""


@dataclass(slots=True)
class Stopwatch:
    """Times of the stages of a drill; raises once its budget is used up."""

    budget: float
    began: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        """Seconds since the decision."""
        return time.monotonic() - self.began

    def ended(self, stage: str) -> None:
        """Note the end of a stage, which began at the end of the one before."""
        self.stages[stage] = self.elapsed - sum(self.stages.values())
        self.check()

    def check(self, _done: int = 0, _total: int = 0) -> None:
        """Raise where the budget is used up; fits as a callback for the progress.

        Raises:
            OverBudget: it is.
        """
        if self.elapsed > self.budget:
            raise OverBudget


def random_target(archive: Archive, rng: random.Random) -> str:
    """Choose a point that can be restored: each good backup is as likely as another.

    Args:
        archive: what there is.
        rng: source of randomness.

    Returns:
        A target: a sequence number.

    Raises:
        ConfigError: nothing can be restored.
    """
    good = [r for r in archive.reaches if not archive.is_damaged(r.backup)]
    if not good:
        raise ConfigError(
            "there is no good backup to restore. Make one: pend-storage backup create"
        )
    number = rng.randrange(len(good))
    chosen = good[number]
    following = {id(a): b for a, b in pairwise(good)}.get(id(chosen))
    end = chosen.end.sequence
    if following is not None and following.begin.sequence > chosen.begin.sequence:
        end = min(end, following.begin.sequence - 1)
    return str(rng.randint(chosen.begin.sequence, max(end, chosen.begin.sequence)))


# -- what a restored store shows ------------------------------------------------------------


def first_read(store: Store, report: RestoreReport) -> None:
    """Make a restored store primary, and read from each collection as a server would.

    Raises:
        CorruptFile: the store is not the sealed one, or a record cannot be decoded.
        StoreUnavailable: it cannot be reached.
    """
    found = store.role()
    if found != RoleState(Role.DETACHED, report.point.epoch):
        raise CorruptFile(
            f"the restored store is {found.role} at epoch {found.epoch}, and not sealed",
            path=f"backup {report.backup}",
        )
    opened = RoleState(Role.PRIMARY, report.point.epoch + 2)
    store.compare_and_set_meta(ROLE_META, store.meta(ROLE_META), opened.to_meta())
    for spec in store.schema:
        next(iter(store.collection(spec.name).scan()), None)


def examine(
    store: Store,
    found: Resolved,
    report: RestoreReport,
    catalog: Catalog,
    keys: Keys,
) -> None:
    """Compare a restored store with all that is known of it, and write to it.

    Args:
        store: the restored one, as primary.
        found: the position that was restored.
        report: of the restore.
        catalog: of the repository.
        keys: to decrypt with.

    Raises:
        CorruptFile: it does not hold what it has to, or gives a number a second time.
        StoreUnavailable: it cannot be reached.
    """
    wrong = [
        *_wrong_digests(store, found),
        *_wrong_records(store, found, catalog, keys),
    ]
    if wrong:
        raise CorruptFile(
            f"the restored store differs from the backup in {listed(wrong)}",
            path=f"backup {report.backup}",
        )
    some: tuple[str, Any] | None = None
    for spec in store.schema:
        read = 0
        for record in store.collection(spec.name).scan():
            read += 1
            some = some or (spec.name, record)
        count = store.collection(spec.name).count()
        if count != read:
            raise CorruptFile(
                f"{spec.name} has {read:,} records, and counts {count:,}",
                path=f"backup {report.backup}",
            )
    if some is not None:
        version = store.collection(some[0]).put(some[1])
        if version <= report.above:
            raise CorruptFile(
                f"a write got the version {version}, and numbers up to {report.above} "
                "were given before",
                path=f"backup {report.backup}",
            )


def _wrong_digests(store: Store, found: Resolved) -> Iterator[str]:
    """Yield the collections that are not those of the backup, where nothing was replayed."""
    if found.upto != found.backup.point.sequence:
        return
    with store.snapshot() as reader:
        for name, facts in found.backup.collections.items():
            if RowDigest(name).add_all(reader.rows(name)).facts() != facts:
                yield name


def _wrong_records(
    store: Store, found: Resolved, catalog: Catalog, keys: Keys
) -> Iterator[str]:
    """Yield the records that the last commits have changed, and that are in another state."""
    segments = _last_segments(found)
    if not segments:
        return
    after = max(found.backup.point.sequence, segments[0].after)
    wanted: dict[tuple[str, str], tuple[int, bool]] = {}
    for change in read_changes(catalog.repository, segments, keys, after, found.upto):
        for record in change.records:
            wanted[record.collection, record.key] = (
                record.version,
                record.body is not None,
            )
    for name in sorted({name for name, _ in wanted}):
        expected = {key: state for (n, key), state in wanted.items() if n == name}
        if any(
            _differs(store, name, keys_of_page, expected)
            for keys_of_page in _pages(list(expected))
        ):
            yield name


def _pages(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), _PAGE):
        yield names[begin : begin + _PAGE]


def _differs(
    store: Store,
    collection: str,
    keys: Sequence[str],
    expected: Mapping[str, tuple[int, bool]],
) -> bool:
    """Return whether a record is missing, is there though deleted, or has another version."""
    there = {key: row.version for key, row in store.read(collection, keys).items()}
    return any(
        there.get(key) != (version if exists else None)
        for key, (version, exists) in ((k, expected[k]) for k in keys)
    )


def _last_segments(found: Resolved) -> Sequence[Any]:
    """Return the last segments before the position, with 20,000 commits at most."""
    chosen: list[Any] = []
    for segment in reversed(found.segments):
        if chosen and sum(s.entries for s in chosen) + segment.entries > _RECENT:
            break
        chosen.insert(0, segment)
    return chosen


# -- the verdict ----------------------------------------------------------------------------


def verdict(
    *,
    rto_seconds: float | None,
    rpo_seconds: float | None,
    rto: timedelta | None,
    rpo: timedelta | None,
) -> str | None:
    """Return which target a drill has missed, in a sentence; None: none."""
    missed = [
        f"{what} was {seconds:,.1f} s, and the target is {wanted.total_seconds():,.0f} s"
        for what, seconds, wanted in (
            ("RTO", rto_seconds, rto),
            ("RPO", rpo_seconds, rpo),
        )
        if seconds is not None
        and wanted is not None
        and seconds > wanted.total_seconds()
    ]
    return "; ".join(missed) or None


def estimates(
    report: RestoreReport | None, rto_seconds: float | None, present: int
) -> tuple[float | None, float | None]:
    """Return the seconds that a restore of everything, and of 10 million rows, would take.

    Args:
        report: of the restore.
        rto_seconds: of the drill.
        present: rows and commits that a restore to the latest position reads.
    """
    if report is None or rto_seconds is None or not report.rows + report.changes:
        return None, None
    fixed = max(0.0, rto_seconds - report.seconds)
    return fixed + present / report.rate, fixed + _LARGE / report.rate


def is_of_the_backup(error: BaseException) -> bool:
    """Return whether an error says that the backup, and nothing else, is at fault."""
    if isinstance(error, CorruptFile | FileNotFoundError):
        return True
    return isinstance(error, PendStorageError) and isinstance(
        error.__cause__, CorruptFile
    )
