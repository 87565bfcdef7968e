"""Physical backups of real servers, 15 and 18: copied, chained, archived, recovered."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._streams import put_stream
from pend_storage.backup.physical._base import facts_of, fetch_base, verify_files
from pend_storage.backup.physical._combine import fetch_chain
from pend_storage.backup.physical._restore import plan_log
from pend_storage.backup.physical._server import look_at, require_replication
from pend_storage.backup.physical._tar import tar_of
from pend_storage.backup.physical._targets import (
    RecoveryTarget,
    end_of_backup,
    end_of_log,
    named_point,
    sequence_target,
    time_target,
)
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable
from tests.backup.servers import DEBIAN, Lab, as_server_user, killed_at, lab, newest

BEFORE, ROWS = 5, 12


@pytest.fixture(scope="module")
def old() -> Iterator[Lab]:
    """Server 15: rows 1 to 5, a backup, rows 6 to 12, all of them archived."""
    with lab(DEBIAN) as made:
        as_server_user(made.prepare)
        made.fill(BEFORE)
        made.back_up()
        made.fill(ROWS - BEFORE - 2)
        made.sql("select pg_create_restore_point('before the phase')")
        made.fill(2)
        made.archive_once()
        yield made


@pytest.fixture(scope="module")
def new() -> Iterator[Lab]:
    """Server 18: a full backup with rows 1 to 5, an incremental one with 6 to 12."""
    with lab(newest(), {"summarize_wal": "on"}) as made:
        as_server_user(made.prepare)
        made.fill(BEFORE)
        full = made.back_up()
        made.fill(ROWS - BEFORE)
        made.back_up(parent=full)
        yield made


def before(made: Lab, row: int, *, inclusive: bool = False) -> RecoveryTarget:
    return sequence_target(
        made.number_of(row),
        inclusive=inclusive,
        offset=0,
        backup_end=made.made[0].point.sequence,
    )


# -- 15: recovery to a point ---------------------------------------------------------------


def test_a_recovery_stops_exactly_before_a_commit(old: Lab) -> None:
    rows, recovered = old.restore("exact", before(old, 9))

    assert rows == [1, 2, 3, 4, 5, 6, 7, 8]
    assert recovered.timeline == 2
    assert recovered.stopped.startswith(
        "recovery stopping before commit of transaction"
    )


def test_a_target_that_is_not_in_the_log_fails(old: Lab) -> None:
    with pytest.raises(
        ConfigError, match="not in the archived log, which ends before it"
    ):
        old.restore("unknown", named_point("no such point"))


@pytest.mark.deep
def test_a_recovery_stops_exactly_after_a_commit(old: Lab) -> None:
    rows, _ = old.restore("with", before(old, 9, inclusive=True))

    assert rows == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.deep
def test_a_recovery_stops_at_a_named_point(old: Lab) -> None:
    rows, _ = old.restore("named", named_point("before the phase"))

    assert rows == list(range(1, ROWS - 1))


@pytest.mark.deep
def test_a_recovery_stops_at_a_time(old: Lab) -> None:
    at = old.time_of(8) - timedelta(microseconds=1)
    end = datetime.fromisoformat(old.made[0].point.at)

    rows, _ = old.restore("time", time_target(at, backup_end=end))

    assert rows == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.deep
def test_a_time_after_the_last_archived_commit_fails(old: Lab) -> None:
    end = datetime.fromisoformat(old.made[0].point.at)

    with pytest.raises(ConfigError, match="its last commit is of"):
        old.restore("late", time_target(datetime.now(UTC), backup_end=end))


@pytest.mark.deep
def test_the_end_of_a_backup_and_of_the_log_can_be_restored(old: Lab) -> None:
    assert old.restore("end", end_of_backup())[0] == [1, 2, 3, 4, 5]
    assert old.restore("all", end_of_log())[0] == list(range(1, ROWS + 1))


def test_nothing_is_written_over(old: Lab) -> None:
    def work() -> None:
        (old.place / "full").mkdir()
        (old.place / "full" / "file").touch()

    as_server_user(work)

    with pytest.raises(ConfigError, match="never writes over anything"):
        old.restore("full", end_of_backup())


def test_a_missing_segment_is_a_gap(old: Lab) -> None:
    facts = facts_of(old.made[0])

    def work() -> tuple[str | None, str, str | None]:
        whole = plan_log(facts, old.archive)
        segment = next(name for name in whole.names if not name.endswith("history"))
        old.fill(1)
        old.receiver.once()
        stem = f"wal/{facts.system}/{segment[:8]}/{segment}"
        content = old.repository.read(f"{stem}.json")
        old.repository.delete(f"{stem}.json")
        with pytest.raises(ConfigError, match="is missing, so"):
            old.restore("gap", end_of_log())
        holed = plan_log(facts, old.archive)
        old.repository.put(f"{stem}.json", [content])
        return whole.gap, segment, holed.gap

    gap, segment, found = as_server_user(work)

    assert gap is None
    assert found == segment


def test_what_is_not_allowed_to_replicate_is_sent_to_snapshots(old: Lab) -> None:
    old.sql("create role app login")
    app = {**old.settings, "user": "app"}

    assert look_at(app).major == 15
    with pytest.raises(ConfigError, match="bring back every commit"):
        require_replication(app)
    assert require_replication(old.settings)[0] == old.facts.system


def test_a_server_of_15_makes_no_incremental_backup(old: Lab) -> None:
    with pytest.raises(ConfigError, match="begin with 17"):
        old.facts.require_incremental()


def test_the_log_of_another_cluster_is_refused(old: Lab, new: Lab) -> None:
    def work() -> None:
        spool = new.place / "spool"
        new.receiver.once()
        mixed = old.receiver.__class__(
            old.tools, old.facts, old.archive, spool, old.settings
        )
        mixed.upload()

    with pytest.raises(ConfigError, match="Use a spool directory of its own"):
        as_server_user(work)


@pytest.mark.parametrize("point", ["backup.wal-content-written", "backup.wal-uploaded"])
def test_an_archiver_that_died_goes_on_without_a_gap(old: Lab, point: str) -> None:
    old.fill(1)

    assert killed_at(point, old.receive)
    old.fill(1)
    old.archive_once()

    plan = as_server_user(lambda: plan_log(facts_of(old.made[0]), old.archive))
    assert plan.gap is None
    assert plan.continues


# -- 18: chains ----------------------------------------------------------------------------


def test_a_chain_is_combined_and_recovered(new: Lab) -> None:
    rows, _ = new.restore("chain", end_of_backup(), *new.made)

    assert rows == list(range(1, ROWS + 1))


def test_a_flipped_byte_of_an_incremental_backup_is_found_before_it_is_combined(
    new: Lab,
) -> None:
    """pg_combinebackup makes a "successfully verified" full backup of it."""
    full, incremental = new.made

    def work() -> None:
        source = new.place / "flipped"
        source.mkdir(mode=0o700)
        fetch_base(incremental, new.repository, new.keys, source)
        victim = max(
            (p for p in source.glob("base/*/INCREMENTAL.*")),
            key=lambda path: path.stat().st_size,
        )
        content = bytearray(victim.read_bytes())
        content[-100] ^= 1
        victim.write_bytes(content)
        # Stored with a right hash of its own: what is verified is what was backed up.
        part = put_stream(
            new.repository, "backups/bad/base-0001", tar_of(source), new.keys
        )
        bad = BackupManifest(
            **{
                **{
                    name: getattr(incremental, name)
                    for name in incremental.__struct_fields__
                },
                "parts": (part, incremental.parts[-1]),
            }
        )
        into = new.place / "combined"
        into.mkdir(mode=0o700)
        fetch_chain([full, bad], new.repository, new.keys, new.tools, into)

    with pytest.raises(
        CorruptFile, match=f"backup {incremental.id}.*checksum mismatch"
    ):
        as_server_user(work)
    assert not (new.place / "combined" / "data").exists()


def test_a_damaged_part_is_found_before_anything_is_started(new: Lab) -> None:
    full = new.made[0]

    def work() -> None:
        file = new.place / "repository" / full.parts[0].name
        content = file.read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        file.chmod(0o600)
        file.write_bytes(changed)
        into = new.place / "damaged"
        into.mkdir(mode=0o700)
        try:
            fetch_chain([full], new.repository, new.keys, new.tools, into)
        finally:
            file.write_bytes(content)

    with pytest.raises(CorruptFile):
        as_server_user(work)


def test_a_wrong_order_is_refused(new: Lab) -> None:
    full, incremental = new.made

    with pytest.raises(ConfigError, match="begins with a full backup"):
        new.restore("order", end_of_backup(), incremental, full)


@pytest.mark.deep
def test_a_server_that_does_not_summarize_is_refused() -> None:
    with lab(newest(), {"summarize_wal": "off"}) as made:
        with pytest.raises(ConfigError, match="summarize_wal = off"):
            made.facts.require_incremental()
        made.fill(1)
        full = made.back_up()
        with pytest.raises(StoreUnavailable, match="pg_basebackup"):
            made.back_up(parent=full)


@pytest.mark.deep
def test_a_restored_server_goes_on_with_a_timeline_of_its_own(new: Lab) -> None:
    """The second recovery follows the first one's timeline, or the original one."""
    new.archive_once()
    rows, recovered = new.restore("first", end_of_log(), *new.made)

    assert rows == list(range(1, ROWS + 1))
    assert recovered.timeline == 2


def test_files_are_those_that_were_copied(new: Lab) -> None:
    def work() -> None:
        place = new.place / "again"
        place.mkdir(mode=0o700)
        fetch_base(new.made[0], new.repository, new.keys, place)
        verify_files(new.tools, place, what="again")
        (place / "PG_VERSION").write_text("17\n")
        with pytest.raises(CorruptFile, match="PG_VERSION"):
            verify_files(new.tools, place, what="again")

    as_server_user(work)


def test_a_receiver_that_follows_stores_what_comes_and_ends_cleanly(old: Lab) -> None:
    def work() -> tuple[int, list[str]]:
        stop, stored = threading.Event(), 0
        for files in old.receiver.follow(stop, interval=0.1):
            stored += files
            if stored:
                stop.set()
            else:
                old.fill(1)
                old.sql("select pg_switch_wal()")
        running = subprocess.run(
            ["pgrep", "-f", f"pg_receivewal --directory={old.place}"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return stored, running.split()

    stored, running = as_server_user(work)

    assert stored >= 1
    assert running == []


def test_a_server_that_removed_the_log_is_no_silent_gap() -> None:
    with lab(newest(), {"max_slot_wal_keep_size": "1MB"}) as made:
        as_server_user(made.prepare)
        for _ in range(4):
            made.fill(1)
            made.sql("select pg_switch_wal()")
        made.sql("checkpoint")
        with pytest.raises(ConfigError, match="Until then the archive ends before"):
            made.archive_once()
