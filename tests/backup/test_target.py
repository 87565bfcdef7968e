"""Positions that targets stand for, and refusals that say what is possible."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage._model.snapshots import StoredRecord
from pend_storage.backup._reachable import Archive
from pend_storage.backup._target import Resolved, parse_target, resolve
from pend_storage.errors import ConfigError

from .archives import History, a_change, at

NOW = at(100_000)


def resolved(archive: Archive, text: str) -> Resolved:
    return resolve(parse_target(text), archive, text=text, now=NOW)


def refused(archive: Archive, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(archive, text)
    return str(caught.value)


def record(key: str, version: int) -> StoredRecord:
    return StoredRecord("logs", key, version, b"{}")


def chained() -> History:
    """Commits 10, 20, ... 80; segments of two, each from the horizon of the one before."""
    history = History()
    previous, after = None, 0
    for first in range(1, 9, 2):
        pair = [
            a_change(n * 10, n, record(f"k{n % 3}", n * 10)) for n in (first, first + 1)
        ]
        upto = pair[-1].sequence + 5
        previous = history.archive(
            pair, after=after, upto=upto, seconds=first + 1.5, previous=previous
        )
        after = upto
    history.back_up(20, 2, marks={"phase parallel": 20})
    history.back_up(50, 5, marks={"phase parallel": 20, "migrate 2": 40})
    return history


def test_latest_is_the_end_of_the_archive_from_the_newest_snapshot() -> None:
    history = chained()
    found = resolved(history.archived(), "latest")
    assert (found.backup, found.upto, found.commit) == (history.backups[1], 85, 80)
    assert found.at == at(8)
    assert [s.upto for s in found.segments] == [65, 85]
    assert found.later == ()


def test_latest_without_an_archive_is_the_newest_snapshot() -> None:
    history = chained()
    history.segments.clear()
    found = resolved(history.archived(), "latest")
    assert (found.backup, found.upto, found.segments) == (history.backups[1], 50, ())


def test_a_backup_is_its_own_position_by_its_id_or_the_beginning_of_it() -> None:
    history = chained()
    first = history.backups[0]
    for name in (first.id, first.id[:17]):
        found = resolved(history.archived(), name)
        assert (found.backup, found.upto, found.segments) == (first, 20, ())


@pytest.mark.parametrize(
    ("text", "backup", "upto", "commit"),
    [
        ("20", 0, 20, 20),
        ("49", 0, 49, 40),
        ("before:50", 0, 49, 40),
        ("50", 1, 50, 50),
        ("before:51", 1, 50, 50),
        ("85", 1, 85, 80),
        ("before:logs/k1@70", 1, 69, 60),
        ("before:logs/k0@30", 0, 29, 20),
        ("point:phase parallel", 0, 20, 20),
        ("point:migrate 2", 0, 40, 40),
        ("point:now", 1, 75, 70),
    ],
)
def test_numbers_versions_and_marks(
    text: str, backup: int, upto: int, commit: int
) -> None:
    history = chained()
    found = resolved(history.archived(marks={"now": 75}), text)
    assert (found.backup, found.upto) == (history.backups[backup], upto)
    assert found.commit == commit
    after = found.backup.point.sequence
    read = [e.sequence for s in found.segments for e in history.entries[s.id]]
    assert [n for n in read if after < n <= upto] == [
        n for n in range(10, 90, 10) if after < n <= upto
    ]


@pytest.mark.parametrize(
    ("seconds", "commit"),
    [(2, 20), (2.9, 20), (3, 30), (5, 50), (6.5, 60), (6.7, 60), (8, 80), (8.5, 80)],
)
def test_a_time_has_all_commits_up_to_it(seconds: float, commit: int) -> None:
    history = chained()
    found = resolved(history.archived(), at(seconds).isoformat())
    assert found.commit == commit
    assert commit <= found.upto < commit + 10
    assert found.out_of_order == 0


def test_a_time_with_clocks_that_differ_says_what_else_is_in_it() -> None:
    history = History()
    history.back_up(10, 1)
    changes = [a_change(20, 2), a_change(30, 9), a_change(40, 3), a_change(50, 10)]
    history.archive(changes, after=10, upto=50, seconds=20)
    found = resolved(history.archived(), at(4).isoformat())
    assert (found.commit, found.out_of_order) == (40, 1)


# -- refusals -------------------------------------------------------------------------------


def test_before_the_earliest_snapshot() -> None:
    history = chained()
    archive = history.archived()
    for text in ("19", "before:20", at(1.9).isoformat(), "before:logs/k1@10"):
        message = refused(archive, text)
        assert "before everything that can be restored" in message
        assert "sequence 20 at 2026-01-31 12:00:02 UTC" in message
        assert history.backups[0].id in message


def test_after_the_last_archived_commit_says_by_how_much() -> None:
    history = chained()
    archive = history.archived(beyond=lambda sequence: 1_000 + sequence)
    message = refused(archive, "100")
    assert "the archive ends at sequence 85" in message
    assert "15 sequence numbers before it" in message
    assert "1,085 commits after that" in message
    assert "pend-storage backup archive" in message
    assert "91 s before it" in refused(archive, at(99.5).isoformat())
    assert "commits after" not in refused(history.archived(), "100")


def test_a_time_in_the_future() -> None:
    message = refused(chained().archived(), (NOW + timedelta(seconds=1)).isoformat())
    assert "in the future" in message
    assert "latest" in message


@pytest.mark.parametrize("text", ["60", at(5.9).isoformat(), "before:logs/k0@60"])
def test_in_a_gap_both_of_its_ends_are_named(text: str) -> None:
    history = chained()
    history.back_up(80, 8)
    lost = history.segments[2]
    history = history.without(lost)
    history.entries[history.segments[1].id].append(a_change(60, 6, record("k0", 60)))
    message = refused(history.archived(), text)
    assert "lies in a gap" in message
    assert "sequence 50 at" in message or "sequence 45 at" in message
    assert "again from sequence 80" in message
    assert history.backups[2].id in message
    assert resolved(history.archived(), "latest").upto == 85
    assert resolved(history.archived(), "45").upto == 45


def test_behind_a_gap_after_which_there_is_no_backup() -> None:
    history = chained()
    lost = history.segments[2]
    message = refused(history.without(lost).archived(), "85")
    assert "lies behind a gap" in message
    assert "sequence 50 at" in message
    assert "backup create" in message


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    history = chained()
    archive = history.archived()
    assert "did you mean 'migrate 2'" in refused(archive, "point:migrate2")
    assert "phase parallel" in refused(archive, "point:never")
    assert "There are no marks yet" in refused(History().archived(), "point:x")


def test_a_key_without_such_a_version() -> None:
    archive = chained().archived()
    message = refused(archive, "before:logs/k1@71")
    assert "no archived commit has made version 71" in message
    assert "70, 40, 10" in message
    assert "no archived commit has changed logs['absent']" in refused(
        archive, "before:logs/absent@1"
    )


def test_another_environment_and_another_kind() -> None:
    history = chained()
    other = history.back_up(70, 7, environment="staging")
    physical = history.back_up(75, 7, kind="physical")
    archive = history.archived()
    assert "environment 'staging'" in refused(archive, other.id)
    assert "--kind physical" in refused(archive, physical.id)
    assert resolved(archive, "80").backup == history.backups[1]


def test_an_empty_repository() -> None:
    for text in ("latest", "7", at(1).isoformat()):
        assert "backup create" in refused(History().archived(), text)


def test_a_damaged_snapshot_is_passed_over_unless_it_is_named() -> None:
    history = chained()
    first, second = history.backups
    archive = history.archived(is_damaged=lambda b: b is second)
    assert resolved(archive, "latest").backup == first
    assert resolved(archive, "70").backup == first
    assert resolved(archive, second.id).backup == second
    archive = history.archived(is_damaged=lambda b: b is first)
    assert "1 damaged backups do not count" in refused(archive, "20")
    archive = history.archived(is_damaged=lambda _: True)
    for text in ("latest", "70"):
        assert "every backup has found damage" in refused(archive, text)


def test_a_switch_leads_to_the_log_of_the_new_primary() -> None:
    history = chained()
    old = history.identity
    history.identity, history.epoch = "b" * 32, 2
    last = history.segments[-1]
    history.archive(
        [a_change(90, 9, epoch=2), a_change(100, 10, epoch=2)],
        after=85,
        upto=105,
        seconds=11,
        previous=last,
    )
    found = resolved(history.archived(), "95")
    assert (found.point.identity, found.point.epoch) == ("b" * 32, 2)
    assert (found.upto, found.commit, len(found.segments)) == (95, 90, 3)
    found = resolved(history.archived(), "85")
    assert (found.point.identity, found.point.epoch) == (old, 1)


# -- against a model ------------------------------------------------------------------------


@given(st.data())
def test_against_a_brute_force_model(data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=12))
    commits: list[int] = []
    for step in numbers:
        commits.append((commits[-1] if commits else 0) + step)
    end = commits[-1]
    cuts = sorted({0, *data.draw(st.lists(st.integers(0, end))), end})
    history, previous = History(), None
    for after, upto in itertools.pairwise(cuts):
        inside = [a_change(n, n) for n in commits if after < n <= upto]
        previous = history.archive(
            inside, after=after, upto=upto, seconds=upto, previous=previous
        )
    for sequence in data.draw(st.lists(st.integers(0, end), min_size=1, max_size=3)):
        history.back_up(sequence, sequence)
    lost = set(data.draw(st.lists(st.sampled_from(history.segments), max_size=2)))
    for segment in lost:
        history = history.without(segment)
    wanted = data.draw(st.integers(0, end + 2))

    def covered(begin: int) -> bool:
        missing = [n for s in lost for n in range(s.after + 1, s.upto + 1)]
        return begin <= wanted <= end and not any(begin < n <= wanted for n in missing)

    possible = [b.point.sequence for b in history.backups if covered(b.point.sequence)]
    by_time = data.draw(st.booleans())
    text = at(wanted).isoformat() if by_time else str(wanted)
    if not possible:
        refused(history.archived(), text)
        return
    found = resolved(history.archived(), text)
    assert found.backup.point.sequence == max(possible)
    got = [e.sequence for s in found.segments for e in history.entries[s.id]]
    begin = found.backup.point.sequence
    assert [n for n in got if begin < n <= found.upto] == [
        n for n in commits if begin < n <= wanted
    ]
    assert found.commit == max([begin, *(n for n in commits if n <= wanted)])
