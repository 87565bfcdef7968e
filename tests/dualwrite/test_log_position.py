"""Positions: compared at every read, moved only on top of what was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
from typing_extensions import override

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES
from pend_storage.dualwrite import _log_position as log_position
from pend_storage.dualwrite._log_position import LogPosition, entries_after, has_entry
from pend_storage.dualwrite._pair_metadata import PAIR_META
from pend_storage.dualwrite._replication_position import (
    BACKFILL_META,
    POSITION_META,
    ReplicationPosition,
    changes_after,
    is_complete_for,
    is_complete_replica,
    log_reaches,
    position_from_now,
    rebind,
    resume_position,
)
from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    StoreUnavailable,
    SwitchRefused,
)
from pend_storage.phases import Phase
from pend_storage.records import JSON, Advance, Change
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

from .processes import Place, Process, Task, living
from .test_complete_replica import with_a_past
from .test_restored_stores import copied, replaced

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def a_store(commits: int = 3) -> MemoryStore:
    made = MemoryStore(SCHEMA)
    for n in range(commits):
        made.collection(Log).put(a_log(f"{n}", "1"))
    return made


def position_at(store: MemoryStore, index: int = -1) -> LogPosition:
    change = list(store.changes())[index]
    return LogPosition.on(change, store.identity(), store.incarnation())


class HeldBack(WrapperStore):
    """Its log is shown up to a sequence: another transaction stays open."""

    def __init__(self, inner: MemoryStore, shown: int) -> None:
        super().__init__(inner)
        self.shown = shown

    @override
    def head(self) -> int:
        return self.shown

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        return (c for c in self.inner.changes(after) if c.sequence <= self.shown)


# -- comparing ----------------------------------------------------------------------------


def test_what_follows_a_position_is_given_where_its_entry_is_there() -> None:
    store = a_store()

    found = [c.sequence for c in entries_after(store, position_at(store, 0))]

    assert found == [2, 3]


def other_token(store: MemoryStore, position: LogPosition) -> LogPosition:
    return replace(position, token="0" * 32)


def other_time(store: MemoryStore, position: LogPosition) -> LogPosition:
    return replace(position, token=None, committed_at="2001-01-01T00:00:00+00:00")


def beyond_the_end(store: MemoryStore, position: LogPosition) -> LogPosition:
    return replace(position, sequence=99, token="0" * 32)


def beyond_the_end_with_a_token_of_before(
    store: MemoryStore, position: LogPosition
) -> LogPosition:
    return replace(position, sequence=99)


def on_no_entry_and_beyond_the_end(
    store: MemoryStore, position: LogPosition
) -> LogPosition:
    return replace(position, sequence=99, token=None, committed_at=None)


@pytest.mark.parametrize(
    "change",
    [
        other_token,
        other_time,
        beyond_the_end,
        beyond_the_end_with_a_token_of_before,
        on_no_entry_and_beyond_the_end,
    ],
)
@pytest.mark.parametrize("index", [0, -1])
def test_another_log_is_refused_and_both_entries_are_named(
    change: Callable[[MemoryStore, LogPosition], LogPosition], index: int
) -> None:
    store = a_store()
    position = change(store, replace(position_at(store, index), incarnation="old one"))
    if (
        position.sequence == 99
        and position.committed_at is None
        and position.token is None
    ):
        position = replace(position, incarnation=None)

    for look in (has_entry, lambda s, p: next(entries_after(s, p), None)):
        with pytest.raises(ConfigError) as caught:
            look(store, position)
        assert f"number {position.sequence}" in str(caught.value)
        if position.incarnation:
            assert "old one" in str(caught.value)
            assert store.incarnation() in str(caught.value)


def test_an_entry_that_is_held_back_is_no_false_alarm_and_no_news() -> None:
    """However long it lasts."""
    store = a_store()
    position = position_at(store)

    for shown in (0, 2):
        held = HeldBack(store, shown)
        assert list(entries_after(held, position)) == []
        assert has_entry(held, position)


def test_an_entry_without_a_token_that_is_held_back_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_position, "HELD_BACK", 0.05)
    store = a_store()
    position = replace(position_at(store), token=None)

    with pytest.raises(StoreUnavailable, match="cannot be compared"):
        next(entries_after(HeldBack(store, 2), position), None)
    assert list(entries_after(store, position)) == []


def test_a_log_that_ends_earlier_is_refused_though_nothing_is_held_back() -> None:
    store = a_store()
    position = replace(position_at(store), token=None)
    shorter = a_store(2)
    shorter._state.sequence = 3

    with pytest.raises(ConfigError):
        next(entries_after(shorter, position), None)


def test_an_entry_that_was_pruned_is_passed_over() -> None:
    store = a_store()
    position = position_at(store, 1)
    store.prune(2)

    assert [c.sequence for c in entries_after(store, position)] == [3]
    assert has_entry(store, position)
    with pytest.raises(ChangesExpired):
        list(entries_after(store, position_at(a_store(), 0)))


def test_a_position_on_no_entry_says_nothing_about_another_server() -> None:
    store = a_store()
    position = LogPosition(source=store.identity(), incarnation="old one", sequence=2)

    with pytest.raises(ChangesExpired):
        next(entries_after(store, position), None)
    here = replace(position, incarnation=store.incarnation())
    assert [c.sequence for c in entries_after(store, here)] == [3]


def test_a_mark_stands_on_an_entry_where_there_is_one() -> None:
    store = a_store()

    mark = position_from_now(store)

    last = list(store.changes())[-1]
    assert (mark.sequence, mark.committed_at, mark.token) == (
        last.sequence,
        last.at.isoformat(),
        last.token,
    )
    assert mark.incarnation == store.incarnation()
    assert log_reaches(store, mark)
    rewound = a_store()
    with pytest.raises(ConfigError):
        list(changes_after(rewound, mark))


# -- complete replicas --------------------------------------------------------------------


def test_a_mark_in_another_stores_log_covers_nothing(place: Place) -> None:
    """A pair began at an empty directory; then the right one takes its place."""
    Process(place).store.close()
    right = MemoryStore(SCHEMA)
    right.collection(Log).put_many(a_log(f"{n}", "1") for n in range(3))

    process = Process(replaced(place, json=right))
    to(process, PAR)
    with pytest.raises(SwitchRefused) as caught:
        to(process, PG)

    assert [code for code, _ in caught.value.blockers] == ["backfill"]
    mark = ReplicationPosition.load(place.postgres)
    assert mark is not None
    assert mark.source == right.identity()
    process.store.backfill()
    to(process, PG)
    assert process.get("2") == "1"
    process.store.close()


def test_whose_log_a_mark_counts_in_is_looked_at_where_it_is_used() -> None:
    primary, follower = a_store(), a_store(0)
    mark = replace(position_from_now(a_store()), needs_no_backfill=True)

    assert not is_complete_for(primary, follower, mark)
    assert not is_complete_replica(primary, follower)
    follower.compare_and_set_meta(POSITION_META, None, mark.to_meta())
    assert not is_complete_replica(primary, follower)
    assert resume_position(primary, follower).source == primary.identity()
    assert not resume_position(primary, follower).needs_no_backfill


def test_a_backfill_from_another_server_counts_once_the_mark_was_compared() -> None:
    """Its numbers mean nothing here, unless the log is known to go on from there."""
    primary, follower = a_store(), a_store(0)
    backfill(primary, follower)
    mark = replace(
        position_from_now(primary), needs_no_backfill=False, incarnation="old one"
    )
    follower.compare_and_set_meta(POSITION_META, None, mark.to_meta())
    fact = follower.meta(BACKFILL_META)
    assert isinstance(fact, Mapping)
    assert is_complete_replica(primary, follower)
    old: JSON = {**fact, "incarnation": "old one"}
    follower.compare_and_set_meta(BACKFILL_META, fact, old)
    assert not is_complete_replica(primary, follower)

    rebind(primary, follower, replace(mark, sequence=mark.sequence + 1))
    assert not is_complete_replica(primary, follower)
    rebind(primary, follower, mark)

    assert is_complete_replica(primary, follower)
    bound = ReplicationPosition.load(follower)
    assert bound is not None
    assert bound.incarnation == primary.incarnation()


def lose_the_log(place: Place, two: Process) -> None:
    """The relay of another process finds that the log does not reach back."""
    put = SCHEMA.put(Log, a_log("0", "not in the log any more"))
    place.json.commit(SCHEMA.batch([put]), epoch=place.json.role().epoch)
    place.json.prune(place.json.head())
    two.store.catch_up()


def begin_anew(place: Place, two: Process) -> None:
    """As it would if it had found so just before the fence, and is late."""
    found = place.postgres.meta(POSITION_META)
    mark = replace(position_from_now(place.json), needs_no_backfill=False)
    place.postgres.apply(
        (),
        epoch=place.postgres.role().epoch,
        mark=Advance(POSITION_META, found, mark.to_meta()),
    )


@pytest.mark.parametrize(
    ("point", "accident"),
    [("switch.prepared", lose_the_log), ("switch.fenced", begin_anew)],
)
def test_a_follower_that_begins_anew_during_a_switch_does_not_become_primary(
    place: Place, point: str, accident: Callable[[Place, Process], None]
) -> None:
    """Completeness of the replica was checked before."""
    one = with_a_past(place)
    to(one, PAR)
    one.store.backfill()
    one.put("later", "1")
    one.store.catch_up()
    two = Process(place)
    switch = Task(lambda: to(one, PG)).start(point)
    accident(place, two)
    assert not is_complete_replica(place.json, place.postgres)

    switch.resume()

    assert isinstance(switch.error, SwitchRefused)
    assert [code for code, _ in switch.error.blockers] == ["backfill"]
    one.store.recover()
    assert place.primaries() == ["json"]
    one.store.backfill()
    to(one, PG)
    assert living(place.postgres) == living(place.json)
    one.store.close()
    two.store.close()


# -- on top of what was read --------------------------------------------------------------


def test_shared_values_that_were_moved_meanwhile_are_read_again(
    place: Place, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    to(one, PAR)
    one.store.compare_and_set_meta("name", None, "mine")
    switch = Task(lambda: to(one, PG)).start("switch.sealed")
    place.postgres.compare_and_set_meta(
        PAIR_META, place.postgres.meta(PAIR_META), {"values": {"name": "old"}}
    )
    meta = place.postgres.meta

    def moved_once(name: str) -> JSON:
        found = meta(name)
        if name == PAIR_META:
            monkeypatch.undo()
            place.postgres.compare_and_set_meta(PAIR_META, found, {"values": {}})
        return found

    monkeypatch.setattr(place.postgres, "meta", moved_once)

    switch.resume()

    assert switch.error is None
    assert one.store.meta("name") == "mine"


@pytest.mark.parametrize(
    "point",
    [
        "switch.planned",
        "switch.prepared",
        "switch.fenced",
        "switch.drained",
        "switch.sealed",
        "switch.ready",
    ],
)
def test_a_store_that_took_the_place_of_the_follower_gets_what_it_missed(
    place: Place, one: Process, point: str
) -> None:
    """A standby of the secondary without the last batches, in the middle of a switch."""
    to(one, PAR)
    one.put("a", "1")
    one.store.catch_up()
    standby = copied(place.postgres)
    one.put("a", "2")
    one.put("b", "2")
    one.store.catch_up()
    switch = Task(lambda: to(one, PG)).start(point)
    one.postgres.lead_to(standby, "standby")

    switch.resume()

    assert switch.error is None
    assert one.store.phase is PG
    assert living(standby) == living(place.json)
    assert one.get("b") == "2"


def test_an_attached_store_that_is_another_one_by_then_does_not_follow_from_there(
    place: Place, one: Process
) -> None:
    """It was exchanged between its mark and its role."""
    to(one, PAR)
    one.put("a", "1")
    one.store.catch_up()
    to(one, J)
    standby = copied(place.postgres)
    one.put("b", "2")
    attach = Task(lambda: to(one, PG)).start("attach.marked")
    one.postgres.lead_to(standby, "standby")

    attach.resume()

    assert attach.error is None
    assert living(standby) == living(place.json)
    assert one.store.phase is PG
