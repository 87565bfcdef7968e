"""Retention: which backups and segments are kept, each with its reason; a pure function.

All times are UTC. Backups are ordered by their positions, not by their times: a clock that
was set back makes no backup older than the one before it. An age counts from the newest
time that is known, or from now if that is earlier, so that one wrong clock drops nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from pend_storage.backup._manifest import BackupManifest, SegmentManifest

__all__ = ["Decision", "Policy", "RetentionPlan", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Policy of retention: numbers of the newest, and of the newest of each period."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: timedelta | None = None
    log_within: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Decision on one backup."""

    id: str
    at: datetime
    keeps: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """Decisions on all backups, oldest first, and the segments that go."""

    backups: tuple[Decision, ...]
    segments: tuple[SegmentManifest, ...]
    """Segments to drop: always the oldest ones, so that no gap arises."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Ids of the backups that go; an incremental one before the one it continues."""
        return tuple(d.id for d in reversed(self.backups) if not d.keeps)


_PERIODS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "hourly": lambda at: f"{at:%Y-%m-%dT%H}",
    "daily": lambda at: f"{at:%Y-%m-%d}",
    "weekly": lambda at: "{}-W{:02}".format(*at.isocalendar()[:2]),
    "monthly": lambda at: f"{at:%Y-%m}",
    "yearly": lambda at: f"{at:%Y}",
}


@dataclass(slots=True)
class _Reasons:
    """Reasons to keep each backup, by id."""

    of: dict[str, list[str]] = field(default_factory=dict)

    def add(self, backup: BackupManifest, reason: str) -> None:
        self.of.setdefault(backup.id, []).append(reason)


def plan(
    backups: Sequence[BackupManifest],
    segments: Sequence[SegmentManifest],
    policy: Policy,
    *,
    now: datetime,
    used: Collection[str] = (),
    pinned: Collection[str] = (),
    bad: Mapping[str, str] | None = None,
) -> RetentionPlan:
    """Decide what is kept.

    Args:
        backups: all published ones.
        segments: all of the archived change log.
        policy: what to keep.
        now: the time.
        used: ids of backups that a restore or a drill reads.
        pinned: ids of backups outside of the policy.
        bad: why a backup does not count as a good one, by id: damaged, never verified.
    """
    faults = _faults(backups, bad or {})
    ordered = sorted(backups, key=_position)
    good = [b for b in ordered if b.id not in faults]
    times = [_at(b) for b in good] + [_at_end(s) for s in segments]
    reference = min([now.astimezone(UTC), *([max(times)] if times else [])])
    reasons = _Reasons()
    for b in ordered:
        if b.kept or b.id in pinned:
            reasons.add(b, "pinned")
        if b.id in used:
            reasons.add(b, "a restore or a drill uses it")
    snapshots, copies = _families(good)
    for family in (snapshots, copies):
        _by_policy(family, policy, reference, reasons)
    # The change log continues a snapshot, and never a copy of a server's files.
    base = _base(snapshots, reference - policy.log_within) if segments else None
    if base is not None:
        reasons.add(base, "begins the window of the change log")
    for b in ordered:
        family = snapshots if b.kind == "snapshot" else copies
        if b.id in faults and not (family and _position(family[-1]) > _position(b)):
            reasons.add(b, f"{faults[b.id]}, but no newer one is good")
    _by_need(ordered, reasons)
    decisions = [_decision(b, reasons, faults) for b in ordered]
    anchors = [b for b in ordered if b.id in used or b is base]
    return RetentionPlan(
        backups=tuple(decisions),
        segments=_droppable(segments, anchors, reference - policy.log_within),
    )


def _families(
    good: Sequence[BackupManifest],
) -> tuple[list[BackupManifest], list[BackupManifest]]:
    """Divide backups into snapshots, and copies of a server's files.

    Neither does what the other one does, so a new one of one family drops none of the other.
    """
    snapshots = [b for b in good if b.kind == "snapshot"]
    return snapshots, [b for b in good if b.kind != "snapshot"]


def _faults(
    backups: Sequence[BackupManifest], bad: Mapping[str, str]
) -> dict[str, str]:
    """Return why backups do not count: by themselves, or by what they continue."""
    known = {b.id: b for b in backups}
    faults: dict[str, str] = {}
    for b in backups:
        link, seen = b, {b.id}
        while link.id not in bad and link.parent in known and link.parent not in seen:
            seen.add(link.parent)
            link = known[link.parent]
        if link.id in bad:
            about = "" if link is b else f"it continues {link.id}: "
            faults[b.id] = about + bad[link.id]
        elif link.parent is not None:
            faults[b.id] = f"it continues {link.parent}, which is missing"
    return faults


def _by_policy(
    good: Sequence[BackupManifest],
    policy: Policy,
    reference: datetime,
    reasons: _Reasons,
) -> None:
    for b in good[-1:]:
        reasons.add(b, "the last good one")
    for b in good[len(good) - min(policy.last, len(good)) :]:
        reasons.add(b, f"last {policy.last}")
    for name, bucket in _PERIODS.items():
        newest = {bucket(_at(b)): b for b in good}  # the last position of each wins
        for when in sorted(newest, reverse=True)[: getattr(policy, name)]:
            reasons.add(newest[when], f"{name} {when}")
    if policy.within is not None:
        for b in good:
            if _at(b) >= reference - policy.within:
                reasons.add(b, f"within {policy.within}")


def _base(good: Sequence[BackupManifest], beginning: datetime) -> BackupManifest | None:
    """Return the newest backup from which the log leads to the beginning of its window."""
    return next((b for b in reversed(good) if _at(b) <= beginning), None)


def _by_need(ordered: Sequence[BackupManifest], reasons: _Reasons) -> None:
    """Keep what a kept backup continues."""
    known = {b.id: b for b in ordered}
    for b in [b for b in ordered if b.id in reasons.of]:
        link, seen = b, {b.id}
        while link.parent in known and link.parent not in seen:
            seen.add(link.parent)
            link = known[link.parent]
            reasons.add(link, f"{b.id} continues it")


def _decision(
    backup: BackupManifest, reasons: _Reasons, faults: Mapping[str, str]
) -> Decision:
    kept = tuple(reasons.of.get(backup.id, ()))
    why = faults.get(backup.id)
    gone = ("no rule keeps it" if why is None else f"{why}; a newer good one is there",)
    return Decision(
        id=backup.id, at=_at(backup), keeps=bool(kept), reasons=kept or gone
    )


def _droppable(
    segments: Sequence[SegmentManifest],
    anchors: Sequence[BackupManifest],
    beginning: datetime,
) -> tuple[SegmentManifest, ...]:
    """Return the oldest segments that end before the window and before each anchor."""
    least = min(((a.point.epoch, a.point.sequence) for a in anchors), default=None)
    return tuple(
        itertools.takewhile(
            lambda s: (
                _at_end(s) < beginning and (least is None or (s.epoch, s.upto) <= least)
            ),
            sorted(segments, key=lambda s: (s.epoch, s.after)),
        )
    )


def _position(backup: BackupManifest) -> tuple[int, int, datetime, str]:
    return (backup.point.epoch, backup.point.sequence, _at(backup), backup.id)


def _at(backup: BackupManifest) -> datetime:
    return datetime.fromisoformat(backup.point.at).astimezone(UTC)


def _at_end(segment: SegmentManifest) -> datetime:
    return datetime.fromisoformat(segment.upto_at).astimezone(UTC)
