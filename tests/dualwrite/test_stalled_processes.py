"""A process that slept while others changed the roles, and then does something."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from pend_storage.dualwrite import CODES, DualWriteStore, force_promotion
from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.errors import ConfigError
from pend_storage.phases import Phase, Role
from pend_storage.testing.domain import Log, a_log
from pend_storage.testing.faults import SlowStore

from .processes import Place, Process, Task, join, living

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def sleeping(place: Place, one: Process, phase: Phase) -> Process:
    """A process that has read the roles in a phase, and does not refresh them by itself."""
    to(one, phase)
    sleeper = Process(place, switch_patience=20.0)
    sleeper.get("a")
    return sleeper


def test_it_reads_the_whole_feed(place: Place, one: Process) -> None:
    sleeper = sleeping(place, one, J)
    one.put("a", "1")
    assert len(list(sleeper.store.changes())) == 1
    to(one, P)
    one.put("a", "2")

    feed = list(sleeper.store.changes())

    assert [change.records[0].record.text for change in feed] == ["1", "2"]
    sleeper.store.close()


def test_it_tells_the_lag_of_the_present_secondary(place: Place, one: Process) -> None:
    sleeper = sleeping(place, one, PAR)
    to(one, PG)
    one.json.is_cut = True
    one.put("a", "1")

    assert sleeper.store.lag().commits == 1
    sleeper.store.close()


def test_it_brings_the_present_secondary_up_to_date(place: Place, one: Process) -> None:
    sleeper = sleeping(place, one, PAR)
    to(one, PG)
    one.json.is_cut = True
    one.put("a", "1")

    assert sleeper.store.catch_up() == 1
    assert living(place.json) == living(place.postgres)
    sleeper.store.close()


def test_it_finds_the_secondary_that_was_attached_meanwhile(
    place: Place, one: Process
) -> None:
    for work in ("backfill", "validate", "repair", "catch_up"):
        sleeper = sleeping(place, one, J)
        to(one, PAR)

        getattr(sleeper.store, work)()

        assert sleeper.store._router.route.follower is sleeper.postgres
        sleeper.store.close()


def test_it_forgets_nothing_that_the_present_secondary_needs(
    place: Place, one: Process
) -> None:
    sleeper = sleeping(place, one, PAR)
    to(one, PG)
    one.json.is_cut = True
    for n in range(9):
        one.put("a", f"{n}")
    one.json.is_cut = False
    sleeper.store._relay._retention = timedelta(0)

    sleeper.store._relay.prune()

    assert one.store.catch_up() == 9
    assert living(place.json) == living(place.postgres)
    assert "backfill-needed" not in {event.name for event in one.events}
    sleeper.store.close()


def test_a_relay_that_was_overtaken_does_not_ask_for_a_backfill(
    place: Place, one: Process
) -> None:
    """Its changes were applied by another relay, and pruned."""
    sleeper = sleeping(place, one, PAR)
    one.postgres.is_cut = True
    for n in range(9):
        one.put("a", f"{n}")
    one.postgres.is_cut = False

    def overtaken() -> None:
        one.store.catch_up()
        place.json.prune(place.json.head())

    sleeper.json.before_next["changes"] = overtaken
    sleeper.store.catch_up()

    mark = ReplicationPosition.load(place.postgres)
    assert mark is not None
    assert mark.needs_no_backfill
    assert "backfill-needed" not in {event.name for event in sleeper.events}
    sleeper.store.close()


def test_what_it_brings_after_a_vote_is_refused(place: Place, one: Process) -> None:
    """A commit that an election discarded must not come back by a stalled relay."""
    to(one, PAR)
    slow = SlowStore(one.postgres)
    late = DualWriteStore(
        json=one.json, postgres=slow, relay_interval=None, secondary_timeout=20.0
    )
    with slow.holding("apply") as gate:
        write = threading.Thread(
            target=late.collection(Log).put, args=(a_log("a", "voted out"),)
        )
        write.start()
        gate.wait_until_reached()
        force_promotion(place.json, place.postgres, "postgres")
        after = Place(postgres=place.postgres)  # with an empty directory
        process = Process(after)
        to(process, PAR)
        gate.open()
        join(write)

    assert place.postgres.role().role is Role.SECONDARY
    assert living(after.json) == living(place.postgres) == {}
    process.store.close()
    late.close()


def test_what_its_backfill_copies_after_a_vote_is_refused(place: Place) -> None:
    place.json.collection(Log).put(a_log("a", "voted out"))
    place.json.prune(place.json.head())  # so that only a backfill brings it
    sleeper = Process(place)
    to(sleeper, PAR)
    after = Place(postgres=place.postgres)  # with an empty directory

    def vote() -> None:
        force_promotion(place.json, place.postgres, "postgres")
        process = Process(after)
        to(process, PAR)
        process.store.close()

    sleeper.postgres.before_next["apply"] = vote
    with pytest.raises(ConfigError, match="elect"):
        sleeper.store.backfill()

    assert place.postgres.role().role is Role.SECONDARY
    assert living(after.json) == living(place.postgres) == {}
    sleeper.store.close()


def test_what_its_relay_applies_after_a_vote_is_refused(
    place: Place, one: Process
) -> None:
    sleeper = sleeping(place, one, PAR)
    one.postgres.is_cut = True
    one.put("a", "voted out")
    relay = Task(sleeper.store.catch_up).start("relay.read")
    force_promotion(place.json, place.postgres, "postgres")
    after = Place(postgres=place.postgres)  # with an empty directory
    process = Process(after)
    to(process, PAR)

    relay.resume()

    mark = ReplicationPosition.load(place.postgres)
    assert mark is not None
    assert mark.source == after.json.identity()
    assert living(after.json) == living(place.postgres) == {}
    process.store.close()
    sleeper.store.close()
