"""Resolution of a restore target to one exact position of the archive.

A position is reached by a backup at or below it, and by the segments that follow that
backup without a gap. Each refusal says what is possible instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from pend_storage._model.snapshots import LogPoint, StoredChange
from pend_storage._shown import did_you_mean, listed, moment, shown
from pend_storage.backup._manifest import BackupManifest, SegmentManifest
from pend_storage.backup._reachable import Archive, Place, Reach
from pend_storage.backup._target_grammar import (
    AtBackup,
    AtMark,
    AtSequence,
    AtTime,
    BeforeSequence,
    BeforeVersion,
    Latest,
    Target,
    parse_target,
)
from pend_storage.errors import ConfigError

__all__ = ["Resolved", "parse_target", "resolve"]

_VERSIONS: Final = 5
"""Versions of a key that a refusal names."""
_ALL_DAMAGED: Final = (
    "the last verification of every backup has found damage. See: pend-storage backup verify "
    "--all; or name one by its ID to try it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Position that a target stands for, and what a restore to it needs."""

    target: str
    """As it was written."""
    backup: BackupManifest
    segments: tuple[SegmentManifest, ...]
    """To be replayed, the oldest first, up to :attr:`upto`."""
    point: LogPoint
    at: datetime
    """Time of the last commit up to it."""
    commit: int
    """Sequence number of that commit."""
    later: tuple[SegmentManifest, ...]
    """Segments with what the archive has after it."""
    out_of_order: int = 0
    """Of a time: commits up to the position whose clock was ahead of it."""

    @property
    def upto(self) -> int:
        """Sequence number up to which commits are restored, that one included."""
        return self.point.sequence


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Position that is wanted: a time, or a sequence number."""

    text: str
    sequence: int = 0
    at: datetime | None = None

    def is_from(self, begin: Place) -> bool:
        """Return whether it lies at or after a position."""
        if self.at is None:
            return begin.sequence <= self.sequence
        return begin.at <= self.at

    def is_above(self, end: Place) -> bool:
        """Return whether it lies after a position."""
        if self.at is None:
            return self.sequence > end.sequence
        return self.at > end.at

    def above(self, end: Place) -> str:
        """Return by how much it lies after a position."""
        if self.at is None:
            return f"{self.sequence - end.sequence:,} sequence numbers"
        return f"{(self.at - end.at).total_seconds():,.0f} s"


# -- targets --------------------------------------------------------------------------------


def resolve(  # noqa: PLR0911 - one for each form
    target: Target, archive: Archive, *, text: str, now: datetime | None = None
) -> Resolved:
    """Resolve a target.

    Args:
        target: what is wanted.
        archive: what there is.
        text: the target as it was written.
        now: present time; times after it are refused. None: of the clock.

    Raises:
        ConfigError: the target cannot be reached; the message says what can.
        CorruptFile: a segment that it needs is damaged.
    """
    resolver = _Resolver(archive, text)
    match target:
        case Latest():
            return resolver.latest()
        case AtBackup(name):
            return resolver.at_backup(name)
        case AtTime(at):
            return resolver.at_time(at, now or datetime.now(UTC))
        case AtSequence(sequence):
            return resolver.at_sequence(sequence)
        case BeforeSequence(sequence):
            return resolver.at_sequence(sequence - 1)
        case BeforeVersion():
            return resolver.at_sequence(resolver.sequence_of(target) - 1)
        case AtMark(name):
            return resolver.at_sequence(resolver.mark(name))


class _Resolver:
    def __init__(self, archive: Archive, text: str) -> None:
        self._archive = archive
        self._text = text

    def latest(self) -> Resolved:
        ends = sorted(
            self._require_reaches(), key=lambda c: (c.end.epoch, c.end.sequence)
        )
        reach = next((c for c in reversed(ends) if self._is_good(c)), None)
        if reach is None:
            raise ConfigError(_ALL_DAMAGED)
        return self._resolved(reach, reach.end.sequence)

    def at_backup(self, name: str) -> Resolved:
        backup = self._archive.find(name)
        wanted = self._archive.environment
        if wanted not in {None, backup.environment}:
            raise ConfigError(
                f"the backup {backup.id} is one of the environment "
                f"{shown(backup.environment)}, and not of {shown(wanted)}. Choose that "
                "environment by --env."
            )
        if backup.kind != "snapshot":
            raise ConfigError(
                f"the backup {backup.id} is of the kind {backup.kind}: it is the copy of a "
                "server's files, and no snapshot. Restore it as a server: pend-storage backup "
                f"restore --kind physical --to latest --backup {backup.id} --into DIR"
            )
        reach = next(c for c in self._archive.reaches if c.backup.id == backup.id)
        return self._resolved(reach, reach.begin.sequence)

    def at_time(self, at: datetime, now: datetime) -> Resolved:
        if at > now:
            raise ConfigError(
                f"{moment(at)} is in the future: it is {moment(now)} now. The last archived "
                "commit is the target latest."
            )
        reach = self._reach(_Wanted(moment(at), at=at))
        last, ahead = reach.begin.sequence, 0
        for segment in reach.segments:
            if datetime.fromisoformat(segment.upto_at) <= at:  # no later entry is older
                last = max(last, segment.upto)
                continue
            entries = list(_after(self._archive.entries(segment), last))
            inside = [e.sequence for e in entries if e.at <= at]
            if inside:
                last = inside[-1]
                ahead = sum(e.at > at and e.sequence < last for e in entries)
            break
        return self._resolved(reach, last, out_of_order=ahead)

    def at_sequence(self, sequence: int) -> Resolved:
        reach = self._reach(_Wanted(f"sequence {sequence}", sequence=sequence))
        return self._resolved(reach, sequence)

    def sequence_of(self, target: BeforeVersion) -> int:
        """Return the commit that has given a key a version; the newest segment first."""
        seen: list[int] = []
        newest = sorted(self._archive.segments, key=lambda s: (s.epoch, s.upto))
        for segment in reversed(newest):
            versions: dict[int, int] = {}
            for entry in self._archive.entries(segment):
                for record in entry.records:
                    if (record.collection, record.key) == (
                        target.collection,
                        target.key,
                    ):
                        versions[record.version] = entry.sequence
            if target.version in versions:
                return versions[target.version]
            seen += sorted(versions, reverse=True)
        place = f"{target.collection}[{shown(target.key)}]"
        if not seen:
            raise ConfigError(
                f"no archived commit has changed {place}. Take a sequence number or a time; "
                "see: pend-storage backup list"
            )
        raise ConfigError(
            f"no archived commit has made version {target.version} of {place}; the archived "
            f"ones are {listed(map(str, seen[:_VERSIONS]))}"
            f"{' and older ones' if len(seen) > _VERSIONS else ''}."
        )

    def mark(self, name: str) -> int:
        """Return the sequence number of a named mark."""
        known: dict[str, int] = {}
        for backup in self._archive.backups:
            known |= backup.marks
        known |= self._archive.marks
        if name in known:
            return known[name]
        some = (
            f" The marks are: {listed(known)}." if known else " There are no marks yet."
        )
        raise ConfigError(
            f"there is no mark {shown(name)}{did_you_mean(name, known)}{some}"
        )

    # -- reaches -----------------------------------------------------------------------------

    def _require_reaches(self) -> list[Reach]:
        reaches = self._archive.reaches
        if not reaches:
            raise ConfigError(
                "the repository has no snapshot of this environment to begin from. Make "
                "one: pend-storage backup create"
            )
        return reaches

    def _is_good(self, reach: Reach) -> bool:
        return not self._archive.is_damaged(reach.backup)

    def _reach(self, wanted: _Wanted) -> Reach:
        """Return the reach of the newest good backup that leads to a position."""
        reaches = self._require_reaches()
        good = [c for c in reaches if self._is_good(c)]
        before = [c for c in good if wanted.is_from(c.begin)]
        for reach in reversed(before):
            if not wanted.is_above(reach.end):
                return reach
        if not before:
            self._refuse_early(wanted, good, damaged=len(reaches) - len(good))
        furthest = max(before, key=lambda r: (r.end.epoch, r.end.sequence, r.end.at))
        last = furthest.end
        later = next((c for c in good if not wanted.is_from(c.begin)), None)
        if later is None and furthest.gap is not None:
            raise ConfigError(
                f"{wanted.text} lies behind a gap of the archive: {furthest.gap}. From the "
                f"backups, {last} can be restored at most; make a new one: pend-storage "
                "backup create"
            )
        if later is None:
            self._refuse_late(wanted, last)
        raise ConfigError(
            f"{wanted.text} lies in a gap of the archive: it is complete up to "
            f"{last}, and again from {later.begin}, the backup "
            f"{later.backup.id}. Take one of these as the target."
        )

    def _refuse_early(
        self, wanted: _Wanted, good: list[Reach], *, damaged: int
    ) -> NoReturn:
        if not good:
            raise ConfigError(_ALL_DAMAGED)
        first = good[0]
        more = f" {damaged:,} damaged backups do not count." if damaged else ""
        raise ConfigError(
            f"{wanted.text} is before everything that can be restored: the earliest is "
            f"{first.begin}, the backup {first.backup.id}.{more}"
        )

    def _refuse_late(self, wanted: _Wanted, end: Place) -> NoReturn:
        count = self._archive.beyond(end.sequence)
        more = (
            ""
            if count is None
            else f" The live store has {count:,} commits after that."
        )
        raise ConfigError(
            f"{wanted.text} is after the last archived commit: the archive ends at "
            f"{end}, {wanted.above(end)} before it.{more} Copy the rest, then call "
            "this again: pend-storage backup archive; or take the target latest."
        )

    def _resolved(self, reach: Reach, upto: int, *, out_of_order: int = 0) -> Resolved:
        needed: list[SegmentManifest] = []
        reached = reach.begin.sequence
        for segment in reach.segments:
            if reached >= upto:
                break
            needed.append(segment)
            reached = segment.upto
        identity, epoch = reach.begin.identity, reach.begin.epoch
        if needed:
            identity, epoch = needed[-1].identity, needed[-1].epoch
        last = self._last_commit(reach, needed, upto)
        return Resolved(
            target=self._text,
            backup=reach.backup,
            segments=tuple(needed),
            point=LogPoint(identity=identity, epoch=epoch, sequence=upto),
            at=reach.begin.at if last is None else last.at,
            commit=reach.begin.sequence if last is None else last.sequence,
            later=tuple(s for s in reach.segments if s.upto > upto),
            out_of_order=out_of_order,
        )

    def _last_commit(
        self, reach: Reach, needed: Sequence[SegmentManifest], upto: int
    ) -> StoredChange | None:
        """Return the last commit after the backup, up to a sequence number."""
        for segment in reversed(needed):
            found = None
            for entry in _after(self._archive.entries(segment), reach.begin.sequence):
                if entry.sequence > upto:
                    break
                found = entry
            if found is not None:
                return found
        return None


def _after(entries: Iterable[StoredChange], sequence: int) -> Iterator[StoredChange]:
    return (entry for entry in entries if entry.sequence > sequence)
