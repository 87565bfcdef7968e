from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pend_storage._files.directory import Directory
from pend_storage.errors import CorruptFile, StoreUnavailable
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord
from pend_storage.stores.json._journal.journal import (
    Journal,
    Position,
    SegmentDropped,
    create_segment,
)
from pend_storage.stores.json._journal.log_records import (
    SegmentStart,
    decode_payload,
    encode_effects,
)
from pend_storage.stores.json._journal.segments import segment_path

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def effect(number: int) -> LogRecord:
    row = ChangedRow("logs", f"k{number}", number, b'{"id":"k%d"}' % number)
    return LogRecord(number, 0, AT, (row,))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    start = SegmentStart(number=1, chain=0, base=0, at=AT)
    with Directory(tmp_path) as own:
        create_segment(own, start).close()
    return tmp_path


@contextmanager
def journal(directory: Path) -> Iterator[Journal]:
    opened = Journal(directory, 1, 0)
    try:
        yield opened
    finally:
        opened.close()


def written(directory: Path, *numbers: int, told: int | None = None) -> list[int]:
    """Write effects, and publish so many of them; gives how long the file was after each."""
    sizes: list[int] = []
    with journal(directory) as mine:
        list(mine.effects())
        for number in numbers:
            mine.append(encode_effects([effect(number)]))
            if told is None or len(sizes) < told:
                mine.publish()
            sizes.append(mine.position.end)
    return sizes


def read(directory: Path) -> list[int]:
    with journal(directory) as mine:
        return [found.sequence for found in mine.effects()]


def test_effects_come_back_as_they_were() -> None:
    whole = LogRecord(
        5,
        2,
        AT,
        (
            ChangedRow("logs", 'k"1', 5, '{"id":"k\\"1","text":"é\\u0000"}'.encode()),
            ChangedRow("logs", "k2", 6, None),
        ),
        (("role", {"role": "primary", "epoch": 2}), ("gone", None)),
    )
    aside = LogRecord(rows=(ChangedRow("logs", "k3", 9, b'{"n":1e400}'),))

    payload = encode_effects([whole, aside])

    assert decode_payload(payload).effects == [whole, aside]
    assert b"\n" not in payload


def test_what_is_published_is_news_to_another_process_and_only_once(
    directory: Path,
) -> None:
    with journal(directory) as mine, journal(directory) as other:
        mine.append(encode_effects([effect(1)]))
        assert other.unread_end() is None
        mine.publish()

        end = other.unread_end()

        assert end == mine.position
        assert [found.sequence for found in other.effects(end)] == [1]
        assert other.unread_end() is None


def test_a_frame_that_is_not_published_is_not_read_up_to_what_is(
    directory: Path,
) -> None:
    with journal(directory) as mine, journal(directory) as other:
        mine.append(encode_effects([effect(1)]))
        mine.publish()
        mine.append(encode_effects([effect(2)]))

        found = [one.sequence for one in other.effects(other.unread_end())]

        assert found == [1]


def test_readers_follow_into_the_next_segment(directory: Path) -> None:
    with journal(directory) as mine, journal(directory) as other:
        mine.append(encode_effects([effect(1)]))
        mine.continue_in(mine.end_segment(1))
        mine.append(encode_effects([effect(2)]))
        mine.continue_in(mine.end_segment(2))
        mine.append(encode_effects([effect(3)]))
        mine.publish()

        found = [one.sequence for one in other.effects(other.unread_end())]

        assert found == [1, 2, 3]
        assert other.position == mine.position
        assert other.start.base == 2


def test_a_segment_that_was_made_but_never_named_is_made_again(directory: Path) -> None:
    segment_path(directory, 2).write_bytes(b"left by a process that died")

    with journal(directory) as mine:
        mine.continue_in(mine.end_segment(0))
        mine.append(encode_effects([effect(1)]))

    assert read(directory) == [1]


def test_a_last_frame_that_was_not_published_may_be_torn_anywhere(
    directory: Path,
) -> None:
    *_, before, end = written(directory, 1, 2, 3, told=2)
    path = segment_path(directory, 1)
    whole = path.read_bytes()
    assert len(whole) == end

    for size in range(before, end):
        path.write_bytes(whole[:size])
        assert read(directory) == [1, 2], size


def test_a_published_frame_that_is_not_there_is_corruption_wherever_the_file_ends(
    directory: Path,
) -> None:
    _, before, end = written(directory, 1, 2, 3)
    path = segment_path(directory, 1)
    whole = path.read_bytes()

    for size in range(before, end):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFile) as caught:
            read(directory)
        assert (caught.value.path, caught.value.offset) == (str(path), before), size
        assert f"byte {before} of segment 1" in caught.value.reason
        assert f"byte {end} of segment 1" in caught.value.reason
        assert path.read_bytes() == whole[:size]


def test_a_published_frame_that_never_reached_the_disk_is_corruption(
    directory: Path,
) -> None:
    before, end = written(directory, 1, 2)
    path = segment_path(directory, 1)
    path.write_bytes(path.read_bytes()[:before] + bytes(end - before))

    with pytest.raises(CorruptFile, match=f"byte {end} of segment 1"):
        read(directory)


def test_a_running_reader_is_told_each_time_that_published_frames_are_missing(
    directory: Path,
) -> None:
    with journal(directory) as mine, journal(directory) as other:
        mine.append(encode_effects([effect(1)]))
        mine.publish()
        os.truncate(segment_path(directory, 1), mine.position.end - 1)

        for _ in range(3):
            assert other.changed()
            with pytest.raises(CorruptFile, match="acknowledged"):
                list(other.effects(other.unread_end()))


def test_a_published_segment_of_which_nothing_is_known_is_corruption(
    directory: Path,
) -> None:
    with journal(directory) as mine:
        mine.append(encode_effects([effect(1)]))
        end = mine.position.end
        mine.continue_in(mine.end_segment(1))
    os.truncate(segment_path(directory, 1), end)

    with pytest.raises(CorruptFile, match="segment 2"):
        read(directory)


def test_a_torn_frame_is_set_aside_by_the_next_writer_and_by_nobody_else(
    directory: Path,
) -> None:
    before, _ = written(directory, 1, 2, told=1)
    path = segment_path(directory, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert read(directory) == [1]
    assert path.read_bytes() == whole[:-5]

    with journal(directory) as mine:
        list(mine.effects())
        aside = mine.cut_torn_tail()
        mine.append(encode_effects([effect(3)]))

    assert aside.read_bytes() == whole[before:-5]
    assert read(directory) == [1, 3]


@pytest.mark.parametrize("bit", [0x01, 0x40])
def test_a_changed_byte_is_found_where_its_frame_begins(
    bit: int, directory: Path
) -> None:
    sizes = written(directory, 1, 2, 3)
    path = segment_path(directory, 1)
    whole = path.read_bytes()
    starts = [0, whole.index(b"\n") + 1, *sizes]

    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= bit
        path.write_bytes(changed)
        with pytest.raises(CorruptFile) as caught:
            read(directory)
        offset = max(start for start in starts if start <= place)
        assert (caught.value.path, caught.value.offset) == (str(path), offset)
        assert path.read_bytes() == changed


def test_a_segment_that_lost_its_last_frame_is_not_continued(directory: Path) -> None:
    with journal(directory) as mine:
        mine.append(encode_effects([effect(1)]))
        end = mine.position.end
        mine.append(encode_effects([effect(2)]))
        mine.continue_in(mine.end_segment(2))
    path = segment_path(directory, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-2], lines[-1]]))

    with pytest.raises(CorruptFile) as caught:
        read(directory)

    assert caught.value.offset == end


def test_a_failed_write_leaves_the_journal_as_it_was(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(directory, 1)
    path = segment_path(directory, 1)
    before = path.read_bytes()
    with journal(directory) as mine:
        list(mine.effects())
        monkeypatch.setattr("pend_storage._files.durability._fdatasync", _failing(5))
        with pytest.raises(StoreUnavailable) as caught:
            mine.append(encode_effects([effect(2)]))
        monkeypatch.undo()

        assert caught.value.outcome_known
        assert path.read_bytes() == before
        mine.append(encode_effects([effect(3)]))

    assert read(directory) == [1, 3]


def test_when_not_even_the_cut_can_be_synced_the_next_writer_reads_what_is_there(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(directory, 1)
    with journal(directory) as mine, journal(directory) as other:
        list(mine.effects())
        monkeypatch.setattr("pend_storage._files.durability._fdatasync", _failing(5))
        monkeypatch.setattr(os, "ftruncate", _refusing(5))
        with pytest.raises(StoreUnavailable) as caught:
            mine.append(encode_effects([effect(2)]))
        monkeypatch.undo()
        assert not caught.value.outcome_known

        assert [one.sequence for one in other.effects()] == [1, 2]
        other.append(encode_effects([effect(3)]))
        other.publish()

        assert [one.sequence for one in mine.effects()] == [2, 3]
        mine.append(encode_effects([effect(4)]))

    assert read(directory) == [1, 2, 3, 4]


def _refusing(number: int) -> object:
    def refuse(_: int, __: int) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def _failing(number: int) -> object:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_journal_that_was_deleted_or_cut_while_in_use_takes_no_more(
    directory: Path,
) -> None:
    written(directory, 1)
    path = segment_path(directory, 1)
    with journal(directory) as mine:
        list(mine.effects())
        os.truncate(path, mine.position.end - 1)
        with pytest.raises(CorruptFile, match="truncated"):
            mine.size_changed()
        path.unlink()
        with pytest.raises(SegmentDropped):
            mine.size_changed()


def test_a_published_place_that_is_damaged_is_no_place(directory: Path) -> None:
    written(directory, 1)
    end = directory / "end"
    end.write_bytes(end.read_bytes()[:-1] + b"?")

    with journal(directory) as mine:
        assert mine.published() == Position()
        assert mine.unread_end() is None
