"""Targets, positions, timelines and programs of physical backups: without any server."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.backup.physical import _targets as targets
from pend_storage.backup.physical._lsn import (
    SegmentName,
    lsn_text,
    parse_lsn,
    parse_segment,
    segment_at,
)
from pend_storage.backup.physical._side_server import (
    CLAIM,
    claim_side_directory,
    make_side_directory,
)
from pend_storage.backup.physical._targets import (
    named_point,
    sequence_target,
    time_target,
)
from pend_storage.backup.physical._tools import (
    Tools,
    find_tools,
    libpq_environment,
)
from pend_storage.backup.physical._wal import Way, ways
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.stores.postgres._functions import sequence_numbers as numbering

SIZE = 16 << 20
END = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_the_numbering_is_that_of_the_store() -> None:
    assert targets.NUMBERS_PER_TRANSACTION == numbering.NUMBERS_PER_TRANSACTION
    assert targets.OFFSET_META == numbering.OFFSET_META


# -- commits -------------------------------------------------------------------------------


@given(
    xid=st.integers(3, 1 << 40),
    offset=st.integers(0, 1 << 20),
    number=st.integers(0, 1023),
    inclusive=st.booleans(),
)
def test_a_number_leads_to_its_transaction(
    xid: int, offset: int, number: int, inclusive: bool
) -> None:
    sequence = (xid + offset) * 1024 + number
    target = sequence_target(sequence, inclusive=inclusive, offset=offset, backup_end=0)

    assert dict(target.settings) == {
        "recovery_target_xid": str(xid % 2**32),
        "recovery_target_inclusive": "on" if inclusive else "off",
    }


@given(
    numbers=st.sets(st.integers(0, 20), min_size=1),
    place=st.integers(0, 20),
    inside=st.booleans(),
)
def test_a_transaction_is_not_divided(
    numbers: set[int], place: int, inside: bool
) -> None:
    """Before the first commit of a transaction, or after its last one, and nowhere else."""
    first = 100 * 1024
    others = [first + n for n in numbers] + [first - 1, first + 1024]
    divides = any(n > place if inside else n < place for n in numbers)

    def call() -> None:
        sequence_target(
            first + place, inclusive=inside, offset=0, backup_end=0, others=others
        )

    if divides:
        with pytest.raises(ConfigError, match="cannot stop inside one"):
            call()
    else:
        call()


def test_a_commit_that_the_backup_has_is_no_target() -> None:
    with pytest.raises(ConfigError, match="not after the end of the backup"):
        sequence_target(5000, inclusive=False, offset=0, backup_end=5000)
    sequence_target(5001, inclusive=False, offset=0, backup_end=5000)


def test_a_commit_of_another_server_is_no_target() -> None:
    with pytest.raises(ConfigError, match="not made by this server"):
        sequence_target(5 * 1024, inclusive=False, offset=4, backup_end=0)


# -- times and names -----------------------------------------------------------------------


def test_a_time_is_given_to_the_server_in_utc() -> None:
    at = datetime(2026, 1, 31, 22, 0, 0, 5, tzinfo=timezone(timedelta(hours=9)))

    target = time_target(at, backup_end=END)

    assert ("recovery_target_time", "2026-01-31 13:00:00.000005+00") in target.settings


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (datetime(2026, 1, 31, 13), "has no time zone"),  # noqa: DTZ001 - the point
        (END, "not after the end of the backup"),
        (END - timedelta(seconds=1), "not after the end of the backup"),
        (datetime(9000, 1, 1, tzinfo=UTC), "lies in the future"),
    ],
)
def test_a_time_that_cannot_be_reached_is_refused(at: datetime, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        time_target(at, backup_end=END)


@pytest.mark.parametrize("name", ["", "x" * 64, "a\nb"])
def test_what_cannot_name_a_point_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a point"):
        named_point(name)


# -- positions and timelines ---------------------------------------------------------------


@given(st.integers(0, (1 << 64) - 1))
def test_positions_are_read_as_they_are_shown(position: int) -> None:
    assert parse_lsn(lsn_text(position)) == position


@given(
    timeline=st.integers(1, 1 << 30),
    position=st.integers(0, (1 << 50)),
    size=st.sampled_from([1 << 20, SIZE, 1 << 30]),
)
def test_names_of_segments_are_read_as_they_are_written(
    timeline: int, position: int, size: int
) -> None:
    segment = segment_at(timeline, position, size)

    assert parse_segment(segment.text(size), size) == segment
    assert parse_segment(segment.text(size) + ".partial", size) is None


def test_a_segment_has_the_name_that_the_server_gives_it() -> None:
    assert SegmentName(1, 256).text(SIZE) == "000000010000000100000000"


@pytest.mark.parametrize("text", ["", "0", "0/", "x/1", "0/2000028 "])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no position"):
        parse_lsn(text)


def test_a_way_leads_over_timelines() -> None:
    histories = {
        2: ((1, 5 * SIZE + 100),),
        3: ((1, 5 * SIZE + 100), (2, 9 * SIZE)),
        4: ((1, SIZE),),
    }

    def way(to: int) -> list[Way]:
        return ways(1, 2 * SIZE + 40, to=to, size=SIZE, histories=histories)

    assert way(1) == [Way(1, 2, None)]
    assert way(2) == [Way(1, 2, 4), Way(2, 5, None)]
    assert way(3) == [Way(1, 2, 4), Way(2, 5, 8), Way(3, 9, None)]
    for wrong in (4, 5):
        with pytest.raises(ConfigError, match="does not continue"):
            way(wrong)


# -- programs ------------------------------------------------------------------------------


def test_a_password_is_no_argument_and_in_no_message(tmp_path: Path) -> None:
    program = tmp_path / "pg_basebackup"
    program.write_text('#!/bin/sh\necho "$@ $PGPASSWORD $PGHOST"; exit 1\n')
    program.chmod(0o700)
    settings = {"host": "db", "password": "s3cret word", "user": "app"}
    tools = Tools(tmp_path, 15, libpq_environment(settings))

    done = tools.run("pg_basebackup", "--pgdata=x", timeout=10.0)

    assert done.output == "--pgdata=x ******** db\n"
    assert "s3cret" not in repr(tools)
    with pytest.raises(StoreUnavailable) as caught:
        tools.require("pg_basebackup", "--pgdata=x", timeout=10.0)
    assert "s3cret" not in str(caught.value)


def test_a_setting_that_programs_cannot_get_is_refused() -> None:
    with pytest.raises(ConfigError, match="sslpassword"):
        libpq_environment({"sslpassword": "x"})


def test_programs_of_another_version_are_not_used(tmp_path: Path) -> None:
    program = tmp_path / "pg_basebackup"
    program.write_text('#!/bin/sh\necho "pg_basebackup (PostgreSQL) 16.2"\n')
    program.chmod(0o700)

    assert find_tools(16, bindir=tmp_path).major == 16
    with pytest.raises(ConfigError, match="has 16"):
        find_tools(15, bindir=tmp_path)


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "pg_ctl"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)

    with pytest.raises(StoreUnavailable, match="did not end within"):
        Tools(tmp_path, 15).run("pg_ctl", timeout=0.2)
    with pytest.raises(ConfigError, match="has no pg_waldump"):
        Tools(tmp_path, 15).run("pg_waldump", timeout=0.2)


def test_a_side_directory_is_new_private_and_short(tmp_path: Path) -> None:
    made = make_side_directory(tmp_path / "side")

    assert made.stat().st_mode & 0o777 == 0o700
    assert make_side_directory(made) == made  # an empty one will do
    (made / "file").touch()
    with pytest.raises(ConfigError, match="never writes over anything"):
        make_side_directory(made)
    with pytest.raises(ConfigError, match="too long for the socket"):
        make_side_directory(tmp_path / ("x" * 120))
    with pytest.raises(ConfigError, match="cannot be made"):
        make_side_directory(tmp_path / "none" / "side")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError):
        make_side_directory(tmp_path / "link")


def test_only_what_a_restore_left_is_emptied(tmp_path: Path) -> None:
    tools = Tools(tmp_path, 15)
    place = tmp_path / "side"
    claim = claim_side_directory(place, tools)
    (place / "wal").mkdir()
    with pytest.raises(ConfigError, match="another process restores into"):
        claim_side_directory(place, tools)
    os.close(claim)
    os.close(claim_side_directory(place, tools))
    assert [each.name for each in place.iterdir()] == [CLAIM]

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / CLAIM).write_text("notes")
    (mine / "file").touch()
    with pytest.raises(ConfigError, match="never writes over anything"):
        claim_side_directory(mine, tools)
    assert (mine / "file").exists()
