"""Windows: against a model that walks from segment to segment."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.backup._manifest import BackupManifest, Part, Point, SegmentManifest
from pend_storage.backup._window import chains, gaps, windows
from tests.backup.snapshots_made import a_manifest

IDENTITY = {0: "a" * 32, 1: "b" * 32}
PART = Part(name="p", size=1, sha256="", content_size=1, content_sha256="")


def a_segment(
    epoch: int,
    after: int,
    upto: int,
    before: SegmentManifest | None,
    *,
    digest: str | None = None,
    begun: str | None = None,
) -> SegmentManifest:
    number = digest or f"{epoch:04d}{after:08d}{upto:08d}"
    return SegmentManifest(
        id=f"{epoch}-{after}-{number}",
        identity=IDENTITY[epoch % 2],
        epoch=epoch,
        after=after,
        upto=upto,
        upto_at=f"2026-01-31T12:{upto // 60:02d}:{upto % 60:02d}+00:00",
        first_at=None,
        last_at=None,
        archived_at="2026-01-31T13:00:00+00:00",
        entries=upto - after,
        part=PART,
        previous=None if before is None else before.digest,
        digest=number,
        begun=begun,
    )


def a_backup(epoch: int, sequence: int) -> BackupManifest:
    point = Point(
        identity=IDENTITY[epoch % 2],
        epoch=epoch,
        sequence=sequence,
        at=f"2026-01-31T12:{sequence // 60:02d}:{sequence % 60:02d}+00:00",
    )
    manifest = a_manifest(f"b-{epoch}-{sequence}")
    return msgspec.structs.replace(manifest, point=point)


@st.composite
def archives(draw: st.DrawFn) -> tuple[list[SegmentManifest], list[BackupManifest]]:
    """A log with switches, cut into segments; some are lost, some begin a chain."""
    segments: list[SegmentManifest] = []
    epoch, sequence = 1, draw(st.integers(0, 5))
    before = None
    for number in range(draw(st.integers(0, 8))):
        epoch += draw(st.sampled_from([0, 0, 1]))
        upto = sequence + draw(st.integers(0, 4))
        if draw(st.integers(0, 9)) == 0:
            before, sequence, upto = None, sequence + 3, upto + 3
        before = a_segment(epoch, sequence, upto, before, digest=f"{number:064d}")
        segments.append(before)
        sequence = upto
    kept = [s for s in segments if draw(st.integers(0, 5))]
    places = st.tuples(st.integers(1, epoch), st.integers(0, sequence + 2))
    backups = [a_backup(*place) for place in draw(st.lists(places, max_size=4))]
    return draw(st.permutations(kept)), backups


def model(backup: BackupManifest, kept: list[SegmentManifest]) -> tuple[int, int]:
    """Walk: to which place do segments lead, one after the other?"""
    best = start = (backup.point.epoch, backup.point.sequence)
    by_previous = {s.previous: s for s in kept if s.previous is not None}
    digests = {s.digest for s in kept}
    for root in kept:
        if root.previous in digests:
            continue
        chain = [root]
        while chain[-1].digest in by_previous:
            chain.append(by_previous[chain[-1].digest])
        places = [(s.epoch, s.upto) for s in chain]
        same = [s for s in chain if s.epoch == start[0]]
        if (root.epoch, root.after) <= start <= places[-1] and same:
            best = max(best, places[-1])
    return best


@given(archives())
def test_windows_are_those_of_the_model(
    archive: tuple[list[SegmentManifest], list[BackupManifest]],
) -> None:
    kept, backups = archive
    for window in windows(backups, kept):
        latest = (window.latest.epoch, window.latest.sequence)
        assert latest == model(window.backup, kept)
        place = (window.earliest.epoch, window.earliest.sequence)
        assert place == (window.backup.point.epoch, window.backup.point.sequence)
        ends = [(s.epoch, s.upto) for s in window.segments]
        assert ends == sorted(ends)
        assert all(end > place for end in ends)
        for before, after in zip(window.segments, window.segments[1:], strict=False):
            assert after.previous == before.digest
        further = [s for s in kept if (s.epoch, s.after) > latest]
        assert window.gap is not None or not further


def chain_of(*places: tuple[int, int, int]) -> list[SegmentManifest]:
    made: list[SegmentManifest] = []
    for place in places:
        made.append(a_segment(*place, made[-1] if made else None))
    return made


def test_a_window_ends_where_the_last_segment_ends() -> None:
    segments = chain_of((1, 0, 10), (1, 10, 20), (2, 20, 31))
    [window] = windows([a_backup(1, 15)], segments)
    assert window.latest.sequence == 31
    assert window.latest.identity == IDENTITY[0]
    assert window.segments == tuple(segments[1:])
    assert window.gap is None


def test_a_segment_taken_from_the_middle_is_a_gap() -> None:
    segments = chain_of((1, 0, 10), (1, 10, 20), (1, 20, 31))
    early, late = windows([a_backup(1, 5), a_backup(1, 25)], [segments[0], segments[2]])
    assert early.latest.sequence == 10
    assert early.gap is not None
    assert "after 10" in early.gap
    assert "until 20" in early.gap
    assert "is missing" in early.gap
    assert late.latest.sequence == 31
    assert late.gap is None


def test_a_backup_before_the_archive_begins_names_that_gap() -> None:
    [window] = windows([a_backup(1, 5)], chain_of((1, 8, 10)))
    assert window.latest == window.earliest
    assert window.gap is not None
    assert "where the archive begins" in window.gap


def test_a_backup_of_another_store_is_not_continued() -> None:
    backup = a_backup(1, 5)
    point = msgspec.structs.replace(backup.point, identity="c" * 32)
    other = msgspec.structs.replace(backup, point=point)
    [window] = windows([other], chain_of((1, 0, 10)))
    assert window.latest == window.earliest
    assert window.segments == ()


def test_a_time_without_commits_is_covered() -> None:
    segments = chain_of((1, 0, 10))
    idle = msgspec.structs.replace(
        a_segment(1, 10, 10, segments[0]), upto_at="2026-02-01T00:00:00+00:00"
    )
    [window] = windows([a_backup(1, 10)], [*segments, idle])
    assert window.latest.sequence == 10
    assert window.latest.at == "2026-02-01T00:00:00+00:00"


def test_a_chain_that_begins_anew_says_why() -> None:
    first = chain_of((1, 0, 10))
    second = a_segment(1, 30, 40, None, begun="the log was pruned up to 30")
    [gap] = gaps(chains([*first, second]))
    assert gap.begin == second
    assert "pruned up to 30" in gap.sentence
