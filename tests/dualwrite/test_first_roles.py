"""The first roles of a pair."""

from __future__ import annotations

import pytest

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import (
    ConfigError,
    StoreUnavailable,
)
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.records import ChangedRecord
from pend_storage.schema import Schema
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import Log, a_log

from .processes import Line, Place, Process

J, PAR, PG, P = Phase


def to(process: Process, phase: Phase) -> None:
    process.store.switch(phase, accept=CODES)


def test_a_pair_begins_where_the_data_is(place: Place) -> None:
    place.postgres.collection(Log).put(a_log("a", "1"))

    process = Process(place)

    assert process.store.phase is P
    assert process.get("a") == "1"
    process.store.close()


def test_a_pair_does_not_guess_which_store_holds_the_truth(place: Place) -> None:
    place.json.collection(Log).put(a_log("a", "1"))
    place.postgres.collection(Log).put(a_log("a", "2"))

    with pytest.raises(ConfigError, match="which one holds the truth"):
        Process(place)

    process = Process(place, begin=J)
    assert process.get("a") == "1"
    process.store.close()


def test_a_database_that_was_seeded_as_a_secondary_is_taken_on(place: Place) -> None:
    seeded = RoleState(Role.SECONDARY, 0).to_meta()
    place.postgres.compare_and_set_meta(ROLE_META, None, seeded)

    process = Process(place)

    assert process.store.phase is J
    to(process, PAR)
    process.store.close()


def test_what_was_put_into_the_database_before_does_not_stay_for_ever(
    place: Place,
) -> None:
    """Its versions may be higher than any that JSON has given."""
    place.postgres.apply([ChangedRecord("logs", "a", 1_000, a_log("a", "seed"))])
    process = Process(place)
    to(process, PAR)
    process.put("a", "1")
    assert place.postgres.collection(Log).get("a") == a_log("a", "1")
    process.store.close()


def test_a_pair_needs_one_schema_and_begins_at_an_end(place: Place) -> None:
    with pytest.raises(ConfigError, match="different schemas"):
        DualWriteStore(json=place.json, postgres=MemoryStore(Schema([])))
    with pytest.raises(ConfigError, match="begins"):
        DualWriteStore(json=place.json, postgres=place.postgres, begin=PAR)
    with pytest.raises(ConfigError, match="share"):
        DualWriteStore(json=place.json, postgres=place.postgres, compare=2)


def test_a_fresh_pair_with_a_store_out_of_reach_does_not_begin(place: Place) -> None:
    lone, line = Place(), Line(place.postgres)
    line.is_cut = True
    store = DualWriteStore(json=lone.json, postgres=line, relay_interval=None)

    with pytest.raises(StoreUnavailable):
        store.collection(Log).put(a_log("a"))

    assert lone.json.meta(ROLE_META) is None
    store.close()
