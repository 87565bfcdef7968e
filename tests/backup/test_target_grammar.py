"""Targets of a restore, as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.backup._target_grammar import (
    AtBackup,
    AtMark,
    AtSequence,
    AtTime,
    BeforeSequence,
    BeforeVersion,
    Latest,
    parse_target,
)
from pend_storage.errors import ConfigError

SEQUENCES = st.integers(0, 2**63 - 1)
COLLECTIONS = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("latest", Latest()),
        ("17", AtSequence(17)),
        ("20260131", AtSequence(20_260_131)),
        ("before:17", BeforeSequence(17)),
        (
            "20260131T120000Z-snapshot-1a2b3c",
            AtBackup("20260131T120000Z-snapshot-1a2b3c"),
        ),
        ("20260131T120000Z-", AtBackup("20260131T120000Z-")),
        ("20260131T120000Z", AtTime(datetime(2026, 1, 31, 12, tzinfo=UTC))),
        ("2026-01-31 12:00:00Z", AtTime(datetime(2026, 1, 31, 12, tzinfo=UTC))),
        ("2026-01-31T13:00+01:00", AtTime(datetime(2026, 1, 31, 12, tzinfo=UTC))),
        ("before:users/a@b@9", BeforeVersion("users", "a@b", 9)),
        ("before:users/a/b c@9", BeforeVersion("users", "a/b c", 9)),
        ("before:users/9@9@9", BeforeVersion("users", "9@9", 9)),
        ("point:before migrate", AtMark("before migrate")),
        ("point:latest", AtMark("latest")),
        ("point:a:b", AtMark("a:b")),
    ],
)
def test_forms(text: str, target: object) -> None:
    assert parse_target(text) == target


@given(SEQUENCES)
def test_a_sequence_number_and_the_one_before(sequence: int) -> None:
    assert parse_target(str(sequence)) == AtSequence(sequence)
    assert parse_target(f"before:{sequence}") == BeforeSequence(sequence)


@given(COLLECTIONS, KEYS, SEQUENCES)
def test_any_key_and_version(collection: str, key: str, version: int) -> None:
    found = parse_target(f"before:{collection}/{key}@{version}")
    assert found == BeforeVersion(collection, key, version)


@given(st.datetimes(timezones=OFFSETS))
def test_any_time_with_a_zone(at: datetime) -> None:
    assert parse_target(at.isoformat()) == AtTime(at)
    assert parse_target(at.isoformat(" ")) == AtTime(at)


@given(st.datetimes())
def test_no_time_without_a_zone(at: datetime) -> None:
    with pytest.raises(ConfigError, match=r"has no zone.*2026-01-31T12:00:00Z"):
        parse_target(at.isoformat())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-01-31", "has no zone"),
        ("20260131T1200", "has no zone"),
        ("2026-01-31T12:00 Europe/Berlin", "cannot be read as a time"),
        ("2026-1-31T12:00Z", "cannot be read as a time"),
        ("2026-02-30T12:00Z", "cannot be read as a time"),
        ("", "is no target"),
        ("-1", "is no target"),
        ("yesterday evening", "is no target"),
        ("before:", "is no target"),
        ("before:users", "is no target"),
        ("before:users/4711", "is no target"),
        ("before:users/@7", "is no target"),
        ("before:/4711@7", "is no target"),
        ("before:users/4711@", "is no target"),
        ("before:users/4711@7a", "is no target"),
        ("point:", "lacks a name"),
        ("9" * 20, "more than 19 digits"),
        ("before:" + "9" * 5000, "more than 19 digits"),
        ("before:users/1@" + "9" * 5000, "more than 19 digits"),
        ("\u0661\u0662", "is no target"),
    ],
)
def test_what_is_no_target(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_target(text)
    assert len(str(caught.value)) < 600


@given(st.text())
def test_any_other_text_is_refused_in_a_sentence(text: str) -> None:
    try:
        parse_target(text)
    except ConfigError as error:
        assert "\n" not in str(error)
