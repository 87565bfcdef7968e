"""Pruning of a repository: races with readers, deaths in the middle, what is abandoned."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pend_storage import crashpoints
from pend_storage.backup._leases import holders
from pend_storage.backup._policy import Policy
from pend_storage.backup._prune import PruneReport, prune
from pend_storage.backup._standing import standings
from pend_storage.errors import LockTimeout
from pend_storage.testing import Child, Report, run_until_crash

from .shelves import DAY, HOUR, Shelf

LAST = Policy(last=1)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made = Shelf(tmp_path / "repository")
    made.backup("old-1", 9 * DAY, 10)
    made.backup("old-2", 8 * DAY, 20)
    made.backup("new-1", HOUR, 30)
    return made


def pruned(shelf: Shelf, *, dry_run: bool = False) -> PruneReport:
    return prune(shelf.repository, LAST, environment="production", dry_run=dry_run)


def test_a_dry_run_says_why_and_deletes_nothing(shelf: Shelf) -> None:
    before = shelf.objects

    report = pruned(shelf, dry_run=True)

    assert report.deleted == ("old-1", "old-2")
    assert [d.reasons for d in report.backups] == [
        ("no rule keeps it",),
        ("no rule keeps it",),
        ("the last good one", "last 1"),
    ]
    assert shelf.objects == before
    assert not holders(shelf.repository)


def test_a_pruning_deletes_what_it_said(shelf: Shelf) -> None:
    said = pruned(shelf, dry_run=True)
    shelf.catalog.add_fact("old-1", "verified", ok=True, detail={})

    report = pruned(shelf)

    assert (report.deleted, report.bytes) == (said.deleted, said.bytes)
    assert shelf.ids == ["new-1"]
    assert all("/new-1/" in name for name in shelf.objects)
    assert not shelf.repository.list("facts/")


def test_pins_are_kept_and_can_be_taken_back(shelf: Shelf) -> None:
    shelf.backup("kept-1", 9 * DAY, 5, kept=True)
    shelf.catalog.add_fact("old-1", "pinned", ok=True, detail={})
    pruned(shelf)
    assert shelf.ids == ["kept-1", "old-1", "new-1"]

    for name in ("kept-1", "old-1"):
        shelf.catalog.add_fact(name, "pinned", ok=False, detail={})
    pruned(shelf)

    assert shelf.ids == ["new-1"]


def test_what_was_found_damaged_does_not_count(shelf: Shelf) -> None:
    shelf.catalog.add_fact("new-1", "verified", ok=False, detail={})

    report = pruned(shelf)

    assert report.deleted == ("old-1",)
    assert shelf.ids == ["old-2", "new-1"]


def test_a_damaged_segment_makes_no_backup_a_bad_one(shelf: Shelf) -> None:
    said = {"damaged": ["log/0000000001-00000000000000000000-00.zst: it is missing"]}
    shelf.catalog.add_fact("new-1", "verified", ok=False, detail=said)

    pruned(shelf)

    assert shelf.ids == ["new-1"]


def test_a_later_success_ends_a_failure(shelf: Shelf) -> None:
    shelf.catalog.add_fact("new-1", "verified", ok=False, detail={})
    shelf.catalog.add_fact("new-1", "verified", ok=True, detail={})
    shelf.catalog.add_fact("new-1", "drilled", ok=False, detail={"damaged": True})
    assert standings(shelf.catalog)[-1].fault is not None

    shelf.catalog.add_fact("new-1", "drilled", ok=True, detail={"damaged": False})

    assert standings(shelf.catalog)[-1].fault is None


def test_backups_of_another_environment_stay_with_all_of_the_log(shelf: Shelf) -> None:
    shelf.segment(0, 10, 30 * DAY)
    shelf.backup("other", 50 * DAY, 1, environment="staging")

    report = pruned(shelf)

    assert "other" in shelf.ids
    assert "other" not in {d.id for d in report.backups}
    assert report.segments == 0


def test_the_log_goes_from_its_beginning(shelf: Shelf) -> None:
    for n in range(6):
        shelf.segment(n * 5, n * 5 + 5, (20 - n) * DAY)

    report = pruned(shelf)

    # The newest backup before the window of seven days is its base.
    assert shelf.ids == ["old-2", "new-1"]
    assert report.segments == 4
    assert [s.after for s in shelf.catalog.segments()] == [20, 25]


# -- readers -----------------------------------------------------------------------------


def read(report: Report, folder: str, name: str) -> None:
    """Hold the lease of a restore until the process is killed."""
    with Shelf(Path(folder)).repository.lease(f"use-{name}-0000"):
        report("reads")
        while True:
            time.sleep(1)


def test_a_restore_in_another_process_keeps_what_it_reads(shelf: Shelf) -> None:
    with Child(read, str(shelf.folder), "old-1") as reader:
        reader.wait_for_reports()
        report = pruned(shelf)
        reader.kill()

    assert report.deleted == ("old-2",)
    assert "a restore or a drill uses it" in report.backups[0].reasons
    assert pruned(shelf).deleted == ("old-1",)


def test_a_restore_that_begins_meanwhile_gets_its_manifest_back(shelf: Shelf) -> None:
    """The worst moment: the leases were read, and the manifest is just gone."""
    lease = shelf.repository.lease("use-old-1-0000")

    def begin(point: str) -> None:
        if point == "prune.unlisted" and "old-1" not in shelf.ids:
            lease.__enter__()

    with crashpoints.handled(begin):
        report = pruned(shelf)

    assert "old-1" in shelf.ids
    assert not shelf.catalog.damaged()
    assert report.deleted == ("old-2",)
    lease.__exit__(None, None, None)


def test_a_second_pruning_waits_or_says_who_is_first(shelf: Shelf) -> None:
    with (
        shelf.repository.lease("prune"),
        pytest.raises(LockTimeout, match="process"),
    ):
        pruned(shelf)

    assert len(shelf.ids) == 3


# -- deaths ------------------------------------------------------------------------------


def prune_in(report: Report, folder: str) -> None:
    pruned(Shelf(Path(folder)))
    report("done")


@pytest.mark.parametrize(
    ("point", "skip"), [("prune.unlisted", 0), ("prune.unlisted", 1), ("prune.part", 1)]
)
def test_a_death_leaves_nothing_half_listed(
    shelf: Shelf, point: str, skip: int
) -> None:
    run_until_crash(prune_in, str(shelf.folder), point=point, skip=skip)

    assert not shelf.catalog.damaged()
    assert "new-1" in shelf.ids
    for name in shelf.objects:
        shelf.age(name, 2 * DAY)
    pruned(shelf)
    assert shelf.ids == ["new-1"]
    assert all("/new-1/" in name for name in shelf.objects)


def test_what_an_interrupted_backup_left_goes_after_a_day(shelf: Shelf) -> None:
    young, old = "backups/young/rows-0001.zst", "backups/gone/rows-0001.zst"
    lone = "log/0000000001-00000000000000000099-00000000-0000.zst"
    for name in (young, old, lone):
        shelf.part(name)
    for name in (old, lone):
        shelf.age(name, 2 * DAY)

    report = pruned(shelf)

    assert report.abandoned == 2
    assert young in shelf.objects
    assert old not in shelf.objects
    assert not shelf.repository.list("log/")


def test_a_backup_that_is_being_made_is_not_abandoned(shelf: Shelf) -> None:
    slow = "backups/slow/rows-0001.zst"
    shelf.part(slow)
    shelf.age(slow, 2 * DAY)

    with shelf.repository.lease("create"):
        pruned(shelf)

    assert slow in shelf.objects


def test_what_is_damaged_is_named_and_left(shelf: Shelf) -> None:
    shelf.repository.put("backups/old-1/manifest.json", [b"{"])

    report = pruned(shelf)

    assert [d.backup for d in report.damaged] == ["old-1"]
    assert "backups/old-1/manifest.json" in shelf.objects
