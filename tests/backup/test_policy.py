"""Retention, against a model that states each rule for one backup at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pend_storage.backup._manifest import (
    BackupManifest,
    Part,
    Point,
    SegmentManifest,
)
from pend_storage.backup._policy import Policy, plan

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def backup(
    number: int,
    at: datetime,
    *,
    parent: str | None = None,
    kept: bool = False,
    epoch: int = 1,
) -> BackupManifest:
    text = at.isoformat()
    return BackupManifest(
        id=f"b{number}",
        kind="snapshot" if parent is None else "incremental",
        environment="production",
        point=Point(identity="x", epoch=epoch, sequence=number, at=text),
        started_at=text,
        finished_at=text,
        verified_at=text,
        library="1",
        schema_fingerprint="f",
        parts=(),
        parent=parent,
        kept=kept,
    )


def segment(after: int, upto: int, at: datetime) -> SegmentManifest:
    part = Part(
        name=f"log/{upto}", size=1, sha256="", content_size=1, content_sha256=""
    )
    return SegmentManifest(
        id=f"{after}",
        identity="x",
        epoch=1,
        after=after,
        upto=upto,
        upto_at=at.isoformat(),
        first_at=at.isoformat(),
        last_at=at.isoformat(),
        archived_at=at.isoformat(),
        entries=1,
        part=part,
        previous=None,
    )


def kept(backups: Sequence[BackupManifest], policy: Policy, **more: object) -> set[str]:
    found = plan(backups, (), policy, **{"now": NOW, **more})  # type: ignore[arg-type]
    return {decision.id for decision in found.backups if decision.keeps}


# -- the model ---------------------------------------------------------------------------

BUCKETS: dict[str, Callable[[datetime], Any]] = {
    "hourly": lambda at: (at.year, at.month, at.day, at.hour),
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: (at - timedelta(days=at.weekday())).date().isoformat(),
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: (at.year,),
}


def time_of(one: BackupManifest) -> datetime:
    return datetime.fromisoformat(one.point.at).astimezone(UTC)


def alike(
    one: BackupManifest, others: Sequence[BackupManifest]
) -> list[BackupManifest]:
    """Return the backups of the same family: snapshots, or copies of a server's files."""
    return [o for o in others if (o.kind == "snapshot") == (one.kind == "snapshot")]


def model(
    backups: Sequence[BackupManifest],
    policy: Policy,
    used: set[str],
    pinned: set[str],
    bad: set[str],
) -> set[str]:
    def is_good(one: BackupManifest) -> bool:
        if one.id in bad:
            return False
        return one.parent is None or any(
            b.id == one.parent and is_good(b) for b in backups
        )

    good = [b for b in backups if is_good(b)]
    newest_time = max([time_of(b) for b in good], default=NOW)
    reference = min(NOW, newest_time)
    later = {
        b.id: [o for o in alike(b, good) if o.point.sequence > b.point.sequence]
        for b in backups
    }
    result = set()
    for b in backups:
        is_wanted = b.id in pinned | used or b.kept or not later[b.id]
        if is_good(b):
            is_wanted |= len(later[b.id]) < policy.last
            for name, bucket in BUCKETS.items():
                mine = bucket(time_of(b))
                is_newest = all(bucket(time_of(o)) != mine for o in later[b.id])
                newer = {bucket(time_of(o)) for o in alike(b, good)}
                newer = {each for each in newer if each > mine}
                is_wanted |= is_newest and len(newer) < getattr(policy, name)
            if policy.within is not None:
                is_wanted |= time_of(b) >= reference - policy.within
        if is_wanted:
            result.add(b.id)
    while True:
        needed = {b.parent for b in backups if b.id in result} - result - {None}
        needed &= {b.id for b in backups}
        if not needed:
            return result
        result |= {n for n in needed if n is not None}


small = st.integers(0, 4)
policies = st.just(Policy()) | st.builds(
    Policy,
    last=small,
    hourly=small,
    daily=small,
    weekly=small,
    monthly=small,
    yearly=small,
    within=st.none() | st.timedeltas(timedelta(0), timedelta(days=40)),
)


@st.composite
def histories(draw: st.DrawFn) -> list[BackupManifest]:
    """Backups at any times: the clock may go back, and be ahead of now."""
    count = draw(st.integers(0, 12))
    ages = draw(
        st.lists(
            st.integers(-48, 24 * 800) | st.integers(0, 72),
            min_size=count,
            max_size=count,
        )
    )
    result: list[BackupManifest] = []
    for number, age in enumerate(ages):
        parent = None
        if result and draw(st.integers(0, 3)) == 0:
            parent = draw(st.sampled_from(result)).id
        at = NOW - timedelta(hours=age)
        zone = timezone(timedelta(hours=draw(st.integers(-12, 14))))
        result.append(
            backup(
                number,
                at.astimezone(zone),
                parent=parent,
                kept=draw(st.integers(0, 9)) == 0,
            )
        )
    return result


@settings(max_examples=200, deadline=None)
@given(histories(), policies, st.data())
def test_the_plan_is_that_of_the_model(
    backups: list[BackupManifest], policy: Policy, data: st.DataObject
) -> None:
    ids = [b.id for b in backups]
    some = st.sets(st.sampled_from(ids), max_size=3) if ids else st.just(set())
    used, pinned, bad = data.draw(some), data.draw(some), data.draw(some)
    shuffled = list(backups)
    random.Random(len(ids)).shuffle(shuffled)

    found = kept(
        shuffled, policy, used=used, pinned=pinned, bad=dict.fromkeys(bad, "damaged")
    )

    assert found == model(backups, policy, used, pinned, bad)


@settings(max_examples=50, deadline=None)
@given(histories(), policies, st.timedeltas(-800 * DAY, 800 * DAY))
def test_whatever_the_clock_says_the_last_good_one_stays(
    backups: list[BackupManifest], policy: Policy, wrong: timedelta
) -> None:
    for b in backups:
        b_kept = kept(backups, policy, now=NOW + wrong)
        assert b.id in b_kept or any(
            o.id in b_kept and o.point.sequence > b.point.sequence
            for o in alike(b, backups)
        )


# -- single rules ------------------------------------------------------------------------


def test_copies_of_a_server_drop_no_snapshot() -> None:
    """Only from a snapshot does the change log lead on, and only a snapshot is portable."""
    snapshot = backup(1, NOW - 9 * DAY)
    copies = [
        msgspec.structs.replace(backup(n, NOW - (9 - n) * DAY), kind="physical")
        for n in range(2, 5)
    ]
    log = [segment(0, 2, NOW - 8 * DAY), segment(2, 9, NOW)]

    found = plan([snapshot, *copies], log, Policy(last=1), now=NOW)

    assert found.dropped == ("b3", "b2")
    assert found.segments == ()


def test_the_last_good_one_stays_where_no_rule_keeps_any() -> None:
    every = [backup(n, NOW - (900 - n) * DAY) for n in range(3)]

    assert kept(every, Policy()) == {"b2"}
    assert kept(every, Policy(), bad={"b2": "damaged"}) == {"b1", "b2"}


def test_a_clock_that_is_years_ahead_drops_nothing_within() -> None:
    every = [backup(n, NOW - n * timedelta(hours=1)) for n in range(5)]

    found = kept(every, Policy(within=DAY), now=NOW + 5_000 * DAY)

    assert len(found) == 5


def test_a_clock_that_was_set_back_makes_no_backup_older() -> None:
    first, second = backup(1, NOW), backup(2, NOW - DAY)

    assert kept([first, second], Policy(last=1)) == {"b2"}


def test_the_hour_that_a_clock_has_twice_is_two_hours() -> None:
    # In Berlin both read 02:30 on the day when summer time ends.
    summer = datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    winter = datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=1)))

    found = kept([backup(1, summer), backup(2, winter)], Policy(hourly=2))

    assert found == {"b1", "b2"}


def test_a_week_belongs_to_the_year_of_its_thursday() -> None:
    # Both are in week 53 of 2026.
    every = [
        backup(1, datetime(2026, 12, 31, tzinfo=UTC)),
        backup(2, datetime(2027, 1, 1, tzinfo=UTC)),
    ]

    assert kept(every, Policy(weekly=5), now=NOW + 60 * DAY) == {"b2"}


def test_a_damaged_backup_takes_no_place_of_a_good_one() -> None:
    every = [backup(n, NOW - (9 - n) * DAY) for n in range(3)]

    found = plan(every, (), Policy(last=1), now=NOW, bad={"b2": "damaged"})

    assert {d.id: d.keeps for d in found.backups} == {
        "b0": False,
        "b1": True,
        "b2": True,
    }
    assert found.backups[2].reasons == ("damaged, but no newer one is good",)


def test_a_damaged_backup_goes_once_a_newer_one_is_good() -> None:
    every = [backup(1, NOW - 2 * DAY), backup(2, NOW - DAY)]

    found = plan(every, (), Policy(last=2), now=NOW, bad={"b1": "damaged"})

    assert found.dropped == ("b1",)
    assert found.backups[0].reasons == ("damaged; a newer good one is there",)


def test_incremental_ones_go_before_what_they_continue() -> None:
    full = [
        msgspec.structs.replace(backup(n, at), kind="physical")
        for n, at in ((1, NOW - 9 * DAY), (3, NOW))
    ]
    every = [full[0], backup(2, NOW - 8 * DAY, parent="b1"), full[1]]

    assert plan(every, (), Policy(last=1), now=NOW).dropped == ("b2", "b1")


def test_a_pinned_incremental_one_keeps_what_it_continues() -> None:
    every = [
        backup(1, NOW - 9 * DAY),
        backup(2, NOW - 8 * DAY, parent="b1"),
        backup(3, NOW),
    ]

    assert kept(every, Policy(last=1), pinned={"b2"}) == {"b1", "b2", "b3"}


# -- the change log ----------------------------------------------------------------------

LOG = [segment(n * 10, n * 10 + 10, NOW - (20 - n) * DAY) for n in range(20)]
"""A segment a day."""


def dropped(backups: Sequence[BackupManifest], **more: object) -> list[int]:
    arguments = {"now": NOW, **more}
    found = plan(backups, LOG, Policy(last=1), **arguments)  # type: ignore[arg-type]
    return [s.after for s in found.segments]


def test_the_log_goes_after_its_time_where_no_backup_needs_it() -> None:
    # The newer backup lies before the window, so the window begins with it.
    every = [backup(45, NOW - 16 * DAY), backup(105, NOW - 9 * DAY)]

    assert dropped(every) == [n * 10 for n in range(10)]


def test_the_base_of_the_window_is_kept_with_the_log_from_it_on() -> None:
    every = [backup(45, NOW - 16 * DAY), backup(195, NOW - timedelta(hours=1))]

    found = plan(every, LOG, Policy(last=1), now=NOW)

    assert found.backups[0].reasons == ("begins the window of the change log",)
    assert [s.after for s in found.segments] == [0, 10, 20, 30]


def test_a_restore_under_way_keeps_the_log_that_it_may_read() -> None:
    every = [backup(45, NOW - 16 * DAY), backup(105, NOW - 9 * DAY)]

    assert dropped(every, used={"b45"}) == [0, 10, 20, 30]


def test_no_gap_arises_where_a_clock_was_set_back() -> None:
    odd = [*LOG]
    odd[2] = segment(20, 30, NOW)

    found = plan([backup(195, NOW)], odd, Policy(last=1), now=NOW)

    assert [s.after for s in found.segments] == [0, 10]


@pytest.mark.parametrize("ahead", [0, 5_000])
def test_a_clock_that_is_ahead_drops_no_log(ahead: int) -> None:
    every = [backup(195, NOW)]

    found = plan(every, LOG, Policy(last=1), now=NOW + ahead * DAY)

    assert len(found.segments) == 13
