"""Windows: to which points each backup can be restored, with the gaps of the archive.

The order of points is that of (epoch, sequence). Segments that continue one another are a
chain; what lies between the end of one and the beginning of the next is a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pend_storage._shown import moment
from pend_storage.backup._manifest import BackupManifest, Point, SegmentManifest

__all__ = ["Chain", "Gap", "Window", "chains", "gaps", "windows"]


@dataclass(frozen=True, slots=True)
class Window:
    """Points to which one backup can be restored: all from the earliest to the latest."""

    backup: BackupManifest
    earliest: Point
    """The position of the backup."""
    latest: Point
    """End of the segments that continue it."""
    gap: str | None
    """What keeps it from being restored to later points that are archived; None: nothing."""
    segments: tuple[SegmentManifest, ...] = ()
    """Segments that continue it, in order, for ``read_changes``."""


class Gap(NamedTuple):
    """Gap of the archive: what was committed there is in no segment."""

    after: Point | None
    """End of what is archived before; None: nothing is."""
    begin: SegmentManifest
    """First segment after it."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Segments that continue one another."""

    segments: tuple[SegmentManifest, ...]

    @property
    def first(self) -> SegmentManifest:
        """The first one."""
        return self.segments[0]

    @property
    def last(self) -> SegmentManifest:
        """The last one."""
        return self.segments[-1]

    @property
    def end(self) -> Point:
        """Point up to which it is complete."""
        return end_of(self.last)

    def after(self, point: Point) -> tuple[SegmentManifest, ...] | None:
        """Return the segments that are needed after a point; None where it is not covered."""
        place = (point.epoch, point.sequence)
        if (self.first.epoch, self.first.after) > place or place > _place(self.last):
            return None
        own = [s for s in self.segments if s.epoch == point.epoch]
        if not own or any(s.identity != point.identity for s in own):
            return None
        return tuple(s for s in self.segments if _place(s) > place)


def end_of(segment: SegmentManifest) -> Point:
    """Return the point up to which a segment is complete."""
    return Point(
        identity=segment.identity,
        epoch=segment.epoch,
        sequence=segment.upto,
        at=segment.upto_at,
    )


def _place(segment: SegmentManifest) -> tuple[int, int]:
    return segment.epoch, segment.upto


def chains(segments: Iterable[SegmentManifest]) -> list[Chain]:
    """Return the chains of segments, in the order of their beginnings.

    A segment whose predecessor is not there begins a chain. Of two that continue the same
    segment, the one counts that leads further.
    """
    known = sorted(segments, key=lambda s: (s.epoch, s.after, s.upto))
    digests = {s.digest for s in known}
    following: dict[str, list[SegmentManifest]] = {}
    for segment in known:
        if segment.previous in digests:
            following.setdefault(str(segment.previous), []).append(segment)
    roots = [s for s in known if s.previous not in digests]
    best = _best_continuations(roots, following)
    found = []
    for segment in roots:
        chain = [segment]
        while (further := best.get(chain[-1].digest)) is not None:
            chain.append(further)
        found.append(Chain(tuple(chain)))
    return found


def _best_continuations(
    roots: Sequence[SegmentManifest], following: Mapping[str, list[SegmentManifest]]
) -> dict[str, SegmentManifest]:
    """Return the continuation of each segment that leads furthest."""
    order = list(roots)
    for segment in order:  # grows: what continues a segment stands after it
        order += [s for s in following.get(segment.digest, ()) if continues(s, segment)]
    reach: dict[str, tuple[int, int]] = {}
    best: dict[str, SegmentManifest] = {}
    for segment in reversed(order):
        reach[segment.digest] = _place(segment)
        fitting = [
            s
            for s in following.get(segment.digest, ())
            if s.digest in reach and continues(s, segment)
        ]
        if fitting:
            further = max(fitting, key=lambda s: reach[s.digest])
            best[segment.digest] = further
            reach[segment.digest] = reach[further.digest]
    return best


def continues(segment: SegmentManifest, before: SegmentManifest) -> bool:
    """Return whether a segment begins where another one ends."""
    return segment.after == before.upto and segment.epoch >= before.epoch


def windows(
    backups: Iterable[BackupManifest], segments: Iterable[SegmentManifest]
) -> list[Window]:
    """Return the window of each backup, derived from what is there.

    Args:
        backups: complete ones.
        segments: whose objects are there.
    """
    known = chains(segments)
    return [_window(backup, known) for backup in backups]


def _window(backup: BackupManifest, known: Sequence[Chain]) -> Window:
    point, latest = backup.point, backup.point
    best: tuple[SegmentManifest, ...] = ()
    covering = set()
    for number, chain in enumerate(known):
        found = chain.after(point)
        if found is None:
            continue
        covering.add(number)
        if found and _place(found[-1]) > (latest.epoch, latest.sequence):
            best, latest = found, end_of(found[-1])
        elif not best and not found and chain.end.at > latest.at:
            latest = chain.end
    later = [
        _gap(chain, known)
        for number, chain in enumerate(known)
        if number not in covering and _start(chain) >= (latest.epoch, latest.sequence)
    ]
    gap = min(later, key=lambda g: (g.begin.epoch, g.begin.after), default=None)
    return Window(backup, point, latest, None if gap is None else gap.sentence, best)


def _start(chain: Chain) -> tuple[int, int]:
    return chain.first.epoch, chain.first.after


def gaps(known: Sequence[Chain]) -> list[Gap]:
    """Return the gaps before the chains, but for the first one."""
    return [_gap(chain, known) for chain in known[1:]]


def _gap(chain: Chain, known: Sequence[Chain]) -> Gap:
    begin = chain.first
    ends = [c.end for c in known if c is not chain and _start(c) <= _start(chain)]
    after = max(ends, key=lambda p: (p.epoch, p.sequence), default=None)
    return Gap(after, begin, _sentence(after, begin))


def _sentence(after: Point | None, begin: SegmentManifest) -> str:
    why = begin.begun or "the segment before it is missing"
    here = f"{begin.after} (epoch {begin.epoch})"
    if after is None:
        return f"nothing is archived before {here}, where the archive begins: {why}"
    end = f"{after.sequence} ({moment(after.at)}, epoch {after.epoch})"
    if (after.epoch, after.sequence) > (begin.epoch, begin.after):
        return f"the archive ends at {end}, and begins anew after {here}: {why}"
    return f"nothing is archived after {end} until {here}: {why}"
