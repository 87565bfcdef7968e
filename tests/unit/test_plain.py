"""Results as JSON: numbers of the change log arrive in every language as they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage._plain import plain
from pend_storage.records import Change, ChangedRecord, Versioned

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def as_read_by_javascript(value: object) -> object:
    """Encode a result, and read it with doubles for all numbers."""
    text = msgspec.json.encode(plain(value), enc_hook=str).decode()
    return json.loads(text, parse_int=float)


@pytest.mark.parametrize("epoch", [1, 255, 256, 300, 4_000])
def test_a_sequence_of_the_feed_is_a_text_at_any_epoch(epoch: int) -> None:
    sequence = ((epoch << 44) | 12_345_677) << 1
    change = Change(
        sequence, epoch, NOW, (ChangedRecord("c", "k", sequence + 1, None),)
    )
    document = as_read_by_javascript(change)
    assert isinstance(document, dict)
    assert document["sequence"] == str(sequence)
    assert document["records"] == [["c", "k", str(sequence + 1), None]]
    assert document["epoch"] == epoch


@given(st.integers(-(2**63), 2**64))
def test_an_integer_is_never_rounded(number: int) -> None:
    document = as_read_by_javascript({"anything": number, "list": [number]})
    assert isinstance(document, dict)
    for found in (document["anything"], document["list"][0]):
        assert int(found) == number
        assert isinstance(found, str) is (abs(number) > 2**53)


def test_a_version_of_a_record_is_a_text_and_that_of_a_format_a_number() -> None:
    assert plain(Versioned("x", 7)) == ["x", "7"]
    assert plain({"version": 1}) == {"version": 1}


class Level(IntEnum):
    LOW = 3


@dataclass
class Numbers:
    versions: tuple[int, int]
    upto: int | None
    after: str | int
    commit: bool
    above: Level


def test_only_numbers_become_texts() -> None:
    found = Numbers((1, 2), None, "parallel", True, Level.LOW)  # noqa: FBT003
    assert plain(found) == {
        "versions": ["1", "2"],
        "upto": None,
        "after": "parallel",
        "commit": True,
        "above": 3,
    }


class Point(msgspec.Struct):
    sequence: int
    at: str


def test_structures_are_converted_too() -> None:
    assert plain([Point(9, "x")]) == [{"sequence": "9", "at": "x"}]
