"""Quiescence of a legacy file that another program writes, by a clock of the test's own."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from typing import Final

import pytest

from pend_storage._layouts.layout import Layout
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileSignature,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.one_record_per_line.layout import (
    RecordPerLineLayout,
)
from pend_storage.stores.json._legacy_sync.quiescence import (
    HURRY_AFTER,
    SETTLE,
    UNSOUND,
    QuiescentReader,
    is_whole,
)
from pend_storage.testing.domain import SCHEMA

LAYOUT: Final[Layout] = RecordPerLineLayout(SCHEMA["tallies"], "tallies.json")
START: Final = 1_700_000_000.0
PROMISED: Final = 3.0


@dataclass
class Clock:
    """A clock that only goes on during a wait."""

    now: float = START

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - START

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def text(number: int) -> bytes:
    """A whole file that says so; the numbers of digits differ."""
    return json.dumps({"t": {"name": "t" * 50, "value": number}}).encode()


def sound(raw: bytes) -> bool:
    return is_whole(LAYOUT, SCHEMA, raw)


@dataclass
class File:
    """A file with a history of contents: when, what, and whether by rename."""

    clock: Clock
    history: list[tuple[float, bytes, bool]] = field(default_factory=list)

    def write(self, raw: bytes, *, at: float = 0.0, renamed: bool = False) -> None:
        self.history.append((START + at, raw, renamed))

    def status(self) -> os.stat_result | None:
        past = [item for item in self.history if item[0] <= self.clock.now]
        if not past:
            return None
        at, raw, renamed = past[-1]
        inode = 1 + sum(item[2] for item in past)
        mtime = round(at * 1e9)
        times = {
            "st_mtime": at,
            "st_mtime_ns": mtime,
            "st_ctime_ns": mtime + (5_000_000 if renamed else 0),
        }
        return os.stat_result((0, inode, 0, 1, 0, 0, len(raw), 0, 0, 0), times)

    def read(self) -> tuple[bytes, os.stat_result] | None:
        status = self.status()
        if status is None:
            return None
        past = [raw for at, raw, _ in self.history if at <= self.clock.now]
        return past[-1], status


@pytest.fixture(autouse=True)
def _same_chances() -> None:
    random.seed(7)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(clock: Clock) -> File:
    return File(clock)


def taken(rest: QuiescentReader, known: FileSignature | None = None) -> bytes | None:
    """Content that is read; None while it is being written."""
    try:
        found = rest.read(known, sound)
    except InterruptedError:
        return None
    assert found is not None
    return found[0]


def known_of(file: File) -> FileSignature:
    status = file.status()
    assert status is not None
    return signature_of(status)


def test_a_file_that_is_missing_is_told_as_such(clock: Clock, file: File) -> None:
    assert QuiescentReader(file, clock).read(None, sound) is None


def test_what_was_written_in_place_is_read_when_it_has_rested(
    clock: Clock, file: File
) -> None:
    file.write(text(1))
    rest = QuiescentReader(file, clock)
    known = known_of(file)
    assert taken(rest, known) is None

    clock.sleep(SETTLE)

    assert taken(rest, known) == text(1)


def test_what_was_renamed_into_place_is_read_at_once(clock: Clock, file: File) -> None:
    file.write(text(1), renamed=True)

    assert taken(QuiescentReader(file, clock)) == text(1)


def test_so_is_another_file_whose_times_do_not_tell(clock: Clock, file: File) -> None:
    file.write(text(1))
    known = known_of(file)._replace(inode=99)

    assert taken(QuiescentReader(file, clock), known) == text(1)


@pytest.mark.parametrize("part", [b"", b" \n", text(1)[:-1], b"\0" * 9])
@pytest.mark.parametrize("renamed", [False, True])
def test_what_is_not_whole_counts_only_after_a_long_rest(
    part: bytes, renamed: bool, clock: Clock, file: File
) -> None:
    file.write(part, renamed=renamed)
    rest = QuiescentReader(file, clock)
    for _ in range(2):
        assert taken(rest) is None
        clock.sleep(UNSOUND - 0.1 - (clock.now - START))

    clock.sleep(0.2)

    assert taken(rest) == part


def test_who_waits_gets_what_follows_a_truncation(clock: Clock, file: File) -> None:
    file.write(b"")
    file.write(text(1), at=0.8)
    clock.sleep(0.3)

    found = QuiescentReader(file, clock).read(None, sound, patience=10)

    assert found is not None
    assert found[0] == text(1)


def test_who_waits_gives_up_where_it_is_never_whole(clock: Clock, file: File) -> None:
    for n in range(200):
        file.write(text(n)[:-1], at=n / 10)

    with pytest.raises(InterruptedError):
        QuiescentReader(file, clock).read(None, sound, patience=10)

    assert clock.now - START < 11


def test_two_reads_that_differ_are_not_taken(clock: Clock, file: File) -> None:
    """A program that writes over the old text without truncating it."""
    for n in range(2_000):
        file.write(text(n), at=n / 500)
    rest = QuiescentReader(file, clock)
    while clock.now < START + 3:
        assert taken(rest, known_of(file)) is None
        clock.sleep(0.3)


def steady(file: File, every: float, offset: float, how: str, seconds: int) -> None:
    """A program that writes for so long, as one that truncates or writes in two parts."""
    n, at = 0, offset
    while at < seconds:
        if how != "at once":
            file.write(b"", at=at)
            file.write(text(n)[:20], at=at + 0.01)
        file.write(text(n), at=at + (0.0 if how == "at once" else 0.02))
        n, at = n + 1, at + every


@pytest.mark.parametrize("how", ["at once", "in parts"])
@pytest.mark.parametrize("every", [0.1, 0.2, 0.3, 0.5, 1.0, 1.3])
def test_a_steady_writer_keeps_nobody_from_the_file(
    every: float, how: str, clock: Clock, file: File
) -> None:
    """Rounds of a second, in step with the writer at any phase, as the keeper makes them."""
    seconds = 25
    for phase in (0.0, 0.15, 0.4, 0.75, 0.9):
        clock.now = START
        file.history.clear()
        steady(file, every, phase, how, seconds)
        clock.sleep(phase + 0.03)
        rest, last = QuiescentReader(file, clock), clock.now
        while clock.now < START + seconds:
            begun = clock.now
            found = taken(rest, known_of(file))
            if found is None:
                clock.sleep(SETTLE * random.uniform(1, 1.4))
                found = taken(rest, known_of(file))
            if found is not None:
                assert sound(found)
                assert clock.now - last < PROMISED, f"phase {phase}"
                last = clock.now
            clock.sleep(max(0.0, begun + 1.0 - clock.now))


def test_it_must_rest_again_when_it_was_quiet(clock: Clock, file: File) -> None:
    for n in range(40):
        file.write(text(n), at=n / 10)
    rest, known = QuiescentReader(file, clock), known_of(file)
    for _ in range(4):
        taken(rest, known)
        clock.sleep(0.99)
    assert rest.restless > HURRY_AFTER
    assert not rest.is_quiet

    clock.now = START + 10
    assert taken(rest, known) == text(39)
    assert (rest.restless, rest.is_quiet) == (0.0, True)
    file.write(text(50), at=10.0)

    assert taken(rest, known) is None


def test_a_whole_file_is_one_that_can_be_divided() -> None:
    assert sound(b"{}")
    assert sound(text(1))
    assert not sound(b"[]")
    assert not sound(text(1) + b"}")
