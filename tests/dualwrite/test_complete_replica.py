"""Complete replica: the precondition for a secondary to become primary."""

from __future__ import annotations

import pytest

from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES
from pend_storage.dualwrite._replication_position import (
    POSITION_META,
    ReplicationPosition,
)
from pend_storage.errors import (
    ConfigError,
    SwitchRefused,
    SwitchTimeout,
)
from pend_storage.phases import Phase
from pend_storage.reports import BackfillReport
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

from .processes import Place, Process, living

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def with_a_past(place: Place) -> Process:
    """JSON has records whose commits are not in its change log any more."""
    place.json.collection(Log).put_many(a_log(f"{n}", "old") for n in range(5))
    place.json.collection(Log).delete("4")
    place.json.prune(place.json.head())  # so that only a backfill can copy them
    return Process(place)


def test_a_secondary_without_a_backfill_does_not_become_primary(place: Place) -> None:
    process = with_a_past(place)
    to(process, PAR)

    with pytest.raises(SwitchRefused) as caught:
        to(process, PG)

    assert [code for code, _ in caught.value.blockers] == ["backfill"]
    assert place.primaries() == ["json"]
    process.store.backfill()
    to(process, PG)
    assert living(place.postgres) == living(place.json)
    process.store.close()


def test_a_switch_through_several_phases_is_refused_before_the_first(
    place: Place,
) -> None:
    process = with_a_past(place)

    with pytest.raises(SwitchRefused):
        to(process, P)

    assert process.store.phase is J
    process.store.close()


def test_an_empty_pair_needs_no_backfill(place: Place, one: Process) -> None:
    one.put("a", "1")
    to(one, P)

    assert one.get("a") == "1"
    assert living(place.postgres) == living(place.json)


def test_a_backfill_from_before_the_pair_was_made_counts(place: Place) -> None:
    """``migrate json`` copies into a database that stands alone."""
    place.json.collection(Log).put(a_log("old", "1"))
    place.json.prune(place.json.head())
    backfill(place.json, place.postgres)
    # After the backfill, and still in the log: the relay has to apply it.
    place.json.collection(Log).put(a_log("later", "2"))

    process = Process(place)
    to(process, PG)

    assert living(place.postgres) == living(place.json)
    assert process.get("later") == "2"
    process.store.close()


def test_a_deleted_record_does_not_come_back_by_a_backfill(place: Place) -> None:
    process = with_a_past(place)
    to(process, PAR)
    source = place.json.read("logs", ["0"])["0"]
    process.store.collection(Log).delete("0")

    process.store.backfill()

    assert place.postgres.collection(Log).get("0") is None
    tombstones = place.postgres.read("logs", ["0", "4"], deleted=True)
    # A lower version would lose against the copy that the backfill read before.
    assert tombstones["0"].version > source.version
    assert tombstones["4"].record is None
    process.store.close()


def test_a_backfill_needs_a_secondary(place: Place) -> None:
    process = with_a_past(place)

    with pytest.raises(ConfigError, match="no secondary"):
        process.store.backfill()
    process.store.close()


def test_a_store_that_was_away_goes_on_where_it_was(place: Place, one: Process) -> None:
    to(one, PAR)
    one.put("a", "1")
    to(one, J)
    one.put("a", "2")
    one.put("b", "2")

    to(one, PG)

    assert one.get("a") == "2"
    assert living(place.postgres) == living(place.json)


def test_a_store_that_was_away_for_too_long_needs_a_backfill_again(
    place: Place, one: Process
) -> None:
    """However complete the last one was: its stamp says nothing about what came since."""
    to(one, PAR)
    one.store.backfill()
    to(one, J)
    one.put("a", "1")
    place.json.prune(place.json.head())
    to(one, PAR)
    one.put("b", "2")

    with pytest.raises(SwitchRefused):
        to(one, PG)
    one.store.backfill()
    to(one, PG)

    assert one.get("a") == "1"
    assert living(place.postgres) == living(place.json)


def test_a_secondary_that_was_down_for_too_long_says_that_it_needs_a_backfill(
    place: Place, one: Process
) -> None:
    to(one, PAR)
    one.postgres.is_cut = True
    one.put("a", "1")
    place.json.prune(place.json.head())
    one.postgres.is_cut = False

    one.store.catch_up()

    assert "backfill-needed" in {event.name for event in one.events}
    assert one.store.readiness(PG).blockers[0].code == "backfill"
    one.put("b", "2")
    one.store.backfill()
    one.store.catch_up()
    assert living(place.postgres) == living(place.json)
    to(one, PG)


@pytest.mark.parametrize("wanted", [PG, PAR, J])
def test_json_that_is_stale_is_brought_up_to_date_on_the_way_back(
    place: Place, one: Process, wanted: Phase
) -> None:
    to(one, P)
    one.put("a", "1")

    to(one, wanted)

    assert living(place.json) == {("logs", "a"): a_log("a", "1")}


@pytest.mark.parametrize("wanted", [PG, PAR, J])
def test_json_that_is_gone_is_written_anew_on_the_way_back(
    place: Place, one: Process, wanted: Phase
) -> None:
    to(one, P)
    one.store.collection(Log).put_many(a_log(f"{n}", "1") for n in range(7))
    one.store.collection(Log).delete("3")
    place.postgres.prune(place.postgres.head())
    one.store.close()

    fresh = Place(json=MemoryStore(SCHEMA), postgres=place.postgres)
    process = Process(fresh)
    assert process.store.phase is P
    to(process, wanted)

    assert living(fresh.json) == {
        ("logs", f"{n}"): a_log(f"{n}", "1") for n in range(7) if n != 3
    }
    process.put("3", "2")
    assert process.get("3") == "2"
    process.store.close()


def test_an_export_that_takes_too_long_goes_on_the_next_time(place: Place) -> None:
    place.postgres.collection(Log).put_many(a_log(f"{n:03}", "1") for n in range(900))
    place.postgres.prune(place.postgres.head())
    process = Process(place, begin=P)
    calls = 0

    def slow(*args: object, **settings: object) -> BackfillReport:
        nonlocal calls
        calls += 1
        progress = settings["progress"]
        assert callable(progress)
        report = backfill(*args, **settings)  # type: ignore[arg-type]
        if calls == 1:
            raise SwitchTimeout("no time left")
        return report

    process.store._maintenance._backfill = slow
    with pytest.raises(SwitchTimeout):
        to(process, J)
    to(process, J)

    assert len(living(place.json)) == 900
    process.store.close()


def test_without_a_way_to_copy_going_back_to_a_stale_json_is_refused(
    place: Place,
) -> None:
    process = Process(place, begin=P, backfill=None)
    process.put("a", "1")
    place.postgres.prune(place.postgres.head())

    with pytest.raises(SwitchRefused) as caught:
        to(process, J)

    assert [code for code, _ in caught.value.blockers] == ["backfill"]
    assert process.store.phase is P
    process.store.close()


def test_a_mark_of_another_version_is_no_mark(place: Place, one: Process) -> None:
    to(one, PAR)
    place.postgres.compare_and_set_meta(
        POSITION_META, place.postgres.meta(POSITION_META), {"strange": True}
    )
    one.put("a", "1")

    assert ReplicationPosition.load(place.postgres) is None
    one.store.catch_up()
    with pytest.raises(SwitchRefused):
        to(one, PG)
    one.store.backfill()
    to(one, PG)
