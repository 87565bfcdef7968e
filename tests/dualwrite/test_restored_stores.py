"""Stores that went back in time, or were lost; and the vote that leads out of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pend_storage.dualwrite import CODES, force_promotion
from pend_storage.dualwrite._replication_position import is_complete_replica
from pend_storage.errors import (
    ConfigError,
    SwitchRefused,
)
from pend_storage.phases import Phase, Role
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

from .processes import Line, Place, Process, Task, living

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def copied(store: MemoryStore) -> MemoryStore:
    """A backup."""
    backup, state = MemoryStore(store.schema), store._state
    rows = [
        ChangedRow(name, key, version, body)
        for name, table in state.tables.items()
        for key, version, body in (
            *((key, *row) for key, row in table.rows.items()),
            *((key, version, None) for key, version in table.tombstones.items()),
        )
    ]
    backup._state.install(LogRecord(rows=tuple(rows), meta=tuple(state.meta.items())))
    backup._state.sequence = state.sequence
    backup._log, backup._pruned = list(store._log), store._pruned
    return backup


def replaced(place: Place, **stores: MemoryStore) -> Place:
    return Place(
        json=stores.get("json", place.json),
        postgres=stores.get("postgres", place.postgres),
    )


def json_from_before_a_switch(place: Place, process: Process) -> Place:
    to(process, PAR)
    backup = copied(place.json)
    to(process, PG)
    process.put("a", "new")
    return replaced(place, json=backup)


def postgres_from_before_a_switch(place: Place, process: Process) -> Place:
    to(process, PAR)
    backup = copied(place.postgres)
    to(process, PG)
    process.put("a", "new")
    return replaced(place, postgres=backup)


def postgres_from_when_it_was_primary(place: Place, process: Process) -> Place:
    to(process, PG)
    backup = copied(place.postgres)
    to(process, J)
    process.put("a", "new")
    return replaced(place, postgres=backup)


def json_lost(place: Place, process: Process) -> Place:
    to(process, PAR)
    process.put("a", "new")
    return replaced(place, json=MemoryStore(SCHEMA))


def postgres_lost(place: Place, process: Process) -> Place:
    to(process, PG)
    process.put("a", "new")
    return replaced(place, postgres=MemoryStore(SCHEMA))


def primary_from_an_hour_ago(place: Place, process: Process) -> Place:
    """With the same roles, and even the same numbers given again."""
    to(process, PG)
    process.put("a", "1")
    backup = copied(place.postgres)
    process.put("a", "new")
    process.store.catch_up()
    rewound = replaced(place, postgres=backup)
    process.store.close()
    epoch = backup.role().epoch
    backup.commit(SCHEMA.batch([SCHEMA.put(Log, a_log("b", "other"))]), epoch=epoch)
    return rewound


def primary_from_an_hour_ago_and_not_used_since(
    place: Place, process: Process
) -> Place:
    to(process, PG)
    process.put("a", "1")
    backup = copied(place.postgres)
    for n in range(5):
        process.put("a", f"{n}")
    process.store.catch_up()
    return replaced(place, postgres=backup)


def primary_on_a_server_that_counts_anew(place: Place, process: Process) -> Place:
    """Dumped and restored elsewhere: its numbers are below the follower's mark."""
    to(process, PAR)
    process.put("a", "new")
    to(process, PG)
    backup = copied(place.postgres)
    backup._state.sequence = 0
    return replaced(place, postgres=backup)


Accident = Callable[[Place, Process], Place]
ACCIDENTS: list[Accident] = [
    json_from_before_a_switch,
    postgres_from_before_a_switch,
    postgres_from_when_it_was_primary,
    json_lost,
    postgres_lost,
    primary_from_an_hour_ago,
    primary_from_an_hour_ago_and_not_used_since,
    primary_on_a_server_that_counts_anew,
]


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda a: a.__name__)
def test_a_store_that_went_back_in_time_is_refused_with_the_ways_out(
    place: Place, accident: Accident
) -> None:
    process = Process(place)
    damaged = accident(place, process)
    before = [living(damaged.json), living(damaged.postgres)]
    threads = set(threading.enumerate())

    with pytest.raises(ConfigError) as caught:
        Process(damaged, relay_interval=0.01)

    text = str(caught.value)
    assert "elect" in text
    assert "restored" in text or "replaced" in text
    assert [living(damaged.json), living(damaged.postgres)] == before
    assert set(threading.enumerate()) <= threads
    process.store.close()


def test_a_follower_that_went_back_heals_by_itself(place: Place, one: Process) -> None:
    to(one, PAR)
    one.put("a", "1")
    one.store.catch_up()
    backup = copied(place.postgres)
    one.put("a", "2")
    one.put("b", "2")
    one.store.catch_up()

    process = Process(replaced(place, postgres=backup))
    process.store.catch_up()

    assert living(backup) == living(place.json)
    process.store.close()


def test_a_vote_decides_who_holds_the_truth(place: Place) -> None:
    process = Process(place)
    damaged = postgres_from_when_it_was_primary(place, process)
    process.store.close()

    vote = force_promotion(damaged.json, damaged.postgres, "json")

    assert vote.primary == "json"
    assert vote.is_other_reachable
    process = Process(damaged)
    assert process.store.phase is J
    assert process.get("a") == "new"
    process.put("a", "newer")
    process.store.close()


def test_a_vote_tells_what_only_the_loser_has(place: Place, one: Process) -> None:
    to(one, PG)
    one.put("a", "1")
    one.store.catch_up()
    one.json.is_cut = True
    one.put("b", "2")
    one.json.is_cut = False

    vote = force_promotion(place.json, place.postgres, "json")

    assert vote.missing is not None
    assert [r.key for change in vote.missing for r in change.records] == ["b"]


@pytest.mark.parametrize("is_filled", [False, True])
def test_a_vote_for_a_store_without_a_backfill_tells_what_it_never_got(
    place: Place, is_filled: bool
) -> None:
    """Its mark proves nothing about what lies before the place where it began to follow."""
    process = Process(place)
    to(process, P)
    process.put("a", "1")
    process.put("b", "1")
    place.postgres.prune(place.postgres.head())
    point = None if is_filled else "attach.marked"
    assert (
        Task(lambda: to(process, PG)).start(point, dies=True).has_died is not is_filled
    )
    assert is_complete_replica(place.postgres, place.json) is is_filled

    vote = force_promotion(place.json, place.postgres, "json")

    assert vote.missing is not None
    missing = {item.key for change in vote.missing for item in change.records}
    assert missing == (set() if is_filled else {"a", "b"})


def test_a_vote_tells_what_a_follower_has_of_a_lost_commit_whose_number_was_given_again(
    place: Place, one: Process
) -> None:
    to(one, PG)
    one.put("a", "1")
    one.store.catch_up()
    backup = copied(place.postgres)
    one.put("a", "lost")  # JSON has it, and the mark does not know
    ghost = place.json.read("logs", ["a"])["a"]
    backup.commit(SCHEMA.batch([SCHEMA.put("logs", a_log("a", "other"))]))
    assert backup.read("logs", ["a"])["a"].version == ghost.version

    vote = force_promotion(place.json, backup, "postgres")

    assert vote.missing is not None
    assert [item for change in vote.missing for item in change.records] == [
        ("logs", "a", ghost.version, a_log("a", "lost"))
    ]


def test_a_vote_for_a_former_primary_that_was_put_back_tells_what_it_has_lost(
    place: Place,
) -> None:
    """The loser became primary since; it has that by following, and not in its log."""
    process = Process(place)
    to(process, PG)
    process.put("a", "1")
    process.store.catch_up()
    backup = copied(place.postgres)
    process.put("b", "lost")
    to(process, PAR)
    process.put("c", "new")
    process.store.close()

    vote = force_promotion(place.json, backup, "postgres")

    assert vote.missing is not None
    missing = {item.key for change in vote.missing for item in change.records}
    assert missing == {"b", "c"}


def test_who_lost_a_vote_is_emptied_before_it_follows(place: Place) -> None:
    process = Process(place)
    to(process, PAR)
    process.put("ghost", "1")
    process.store.close()
    force_promotion(place.json, place.postgres, "json")
    process = Process(place)

    with pytest.raises(SwitchRefused, match="empty database"):
        to(process, PAR)

    process.store.close()
    emptied = replaced(place, postgres=MemoryStore(SCHEMA))
    process = Process(emptied)
    to(process, PAR)
    process.store.backfill()
    process.store.catch_up()
    assert living(emptied.json) == living(emptied.postgres)
    to(process, PG)
    process.store.close()


def test_what_a_store_has_of_before_the_vote_covers_nothing(place: Place) -> None:
    """A store that was emptied of records, and of nothing else."""
    process = Process(place)
    to(process, PAR)
    process.put("a", "1")
    process.store.backfill()
    process.store.catch_up()
    process.store.close()
    force_promotion(place.json, place.postgres, "json")
    emptied = MemoryStore(SCHEMA)
    meta = tuple(place.postgres._state.meta.items())
    emptied._state.install(LogRecord(rows=(), meta=meta))

    process = Process(replaced(place, postgres=emptied))
    to(process, PAR)

    with pytest.raises(SwitchRefused, match="run a backfill"):
        to(process, PG)
    process.store.backfill()
    to(process, PG)
    assert process.get("a") == "1"
    process.store.close()


def test_a_vote_without_the_other_store_is_repeated_when_it_is_back(
    place: Place,
) -> None:
    process = Process(place)
    to(process, PG)
    process.put("a", "1")
    process.store.catch_up()
    process.store.close()
    line = Line(place.postgres)
    line.is_cut = True

    vote = force_promotion(place.json, line, "json")

    assert not vote.is_other_reachable
    assert place.json.role().role is Role.PRIMARY
    line.is_cut = False
    with pytest.raises(ConfigError, match="elect"):
        Process(place)
    force_promotion(place.json, place.postgres, "json")
    process = Process(place)
    assert process.get("a") == "1"
    process.store.close()


def an_old_copy() -> MemoryStore:
    """Of the files, without what is kept beside them; its versions are high."""
    old = MemoryStore(SCHEMA)
    for n in range(20):
        old.collection(Log).put(a_log("a", f"old {n}"))
    old.collection(Log).put(a_log("deleted", "old"))
    return old


@pytest.mark.parametrize("phase", [PG, P])
def test_an_old_copy_in_the_place_of_json_does_not_become_the_truth(
    place: Place, one: Process, phase: Phase
) -> None:
    to(one, phase)
    one.put("a", "new")
    one.put("deleted", "1")
    one.store.collection(Log).delete("deleted")
    process = Process(replaced(place, json=an_old_copy()))
    assert process.store.phase is P

    with pytest.raises(SwitchRefused, match="empty directory"):
        to(process, J)

    assert process.get("a") == "new"
    process.store.close()
    emptied = replaced(place, json=MemoryStore(SCHEMA))
    process = Process(emptied)
    to(process, J)
    assert living(emptied.json) == {("logs", "a"): a_log("a", "new")}
    process.store.close()
