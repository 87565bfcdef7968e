"""A purge of both stores: what is purged never comes back, and writers go on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pend_storage import DualWriteStore
from pend_storage._model.records import ChangedRecord
from pend_storage.dualwrite import CODES
from pend_storage.errors import Conflict, StaleEpoch, StoreUnavailable
from pend_storage.phases import Phase
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import run_until_crash
from pend_storage.testing.crash import Report
from pend_storage.testing.domain import SCHEMA, Tally, a_tally
from pend_storage.testing.faults import FaultyStore

KEY = "Jane-Roe"
FOLLOWED = [Phase.PARALLEL, Phase.POSTGRES_PRIMARY]


def make_pair(phase: Phase, json: Store, postgres: Store) -> DualWriteStore:
    made = DualWriteStore(json=json, postgres=postgres, relay_interval=None)
    made.switch(phase, accept=CODES)
    return made


def use(pair: DualWriteStore) -> None:
    tallies = pair.collection(Tally)
    tallies.put_many([a_tally(KEY, 1), a_tally("stays", 1)])
    tallies.put(a_tally(KEY, 2))
    tallies.delete(KEY)


def remains(store: Store) -> list[str]:
    """Keys of rows, tombstones and log entries."""
    found = [row.key for row in store.scan("tallies", deleted=True)]
    return found + [r.key for change in store.changes() for r in change.records]


@pytest.mark.parametrize("phase", FOLLOWED)
def test_a_write_that_was_on_its_way_does_not_bring_it_back(phase: Phase) -> None:
    stores = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    with make_pair(phase, *stores) as pair:
        use(pair)
        route = pair._router.current()
        late = [ChangedRecord("tallies", KEY, 1, a_tally(KEY, 1))]

        assert pair.purge("tallies", [KEY])

        with pytest.raises(StaleEpoch):
            route.secondary.apply(late, epoch=route.epoch)
        for store in stores:
            assert KEY not in remains(store)
        assert pair.phase is phase
        pair.collection(Tally).put(a_tally("later", 1))
        pair.catch_up()
        assert pair.validate().ok


@pytest.mark.parametrize("phase", FOLLOWED)
def test_nothing_is_purged_where_the_secondary_is_away(phase: Phase) -> None:
    json, postgres = FaultyStore(MemoryStore(SCHEMA)), FaultyStore(MemoryStore(SCHEMA))
    with make_pair(phase, json, postgres) as pair:
        use(pair)
        pair.catch_up()
        away = postgres if phase is Phase.PARALLEL else json
        away.fail("apply", "meta", "read", times=None)

        with pytest.raises(StoreUnavailable):
            pair.purge("tallies", [KEY])

        away.heal()
        for store in (json, postgres):
            assert store.read("tallies", [KEY], deleted=True)[KEY].record is None
        assert pair.purge("tallies", [KEY])


def test_a_record_that_is_there_is_refused_before_anything_is_done() -> None:
    stores = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    with make_pair(Phase.PARALLEL, *stores) as pair:
        use(pair)
        before = pair.roles()
        with pytest.raises(Conflict):
            pair.purge("tallies", [KEY, "stays"])
        assert pair.roles() == before
        assert KEY in remains(stores[0])


@pytest.mark.parametrize("alone", [Phase.JSON_ONLY, Phase.POSTGRES_ONLY])
def test_a_detached_store_with_the_record_keeps_the_tombstone(alone: Phase) -> None:
    json, postgres = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    both = Phase.PARALLEL if alone is Phase.JSON_ONLY else Phase.POSTGRES_PRIMARY
    primary, detached = (
        (json, postgres) if alone is Phase.JSON_ONLY else (postgres, json)
    )
    with make_pair(both, json, postgres) as pair:
        pair.collection(Tally).put(a_tally(KEY, 1))
        pair.catch_up()
        pair.switch(alone, accept=CODES)
        pair.collection(Tally).delete(KEY)

        assert not pair.purge("tallies", [KEY])

        assert primary.read("tallies", [KEY], deleted=True)[KEY].record is None
        assert detached.read("tallies", [KEY])[KEY].record == a_tally(KEY, 1)
        pair.switch(both, accept=CODES)
        pair.backfill()
        pair.catch_up()
        assert detached.read("tallies", [KEY]) == {}
        assert pair.purge("tallies", [KEY])
        assert KEY not in remains(primary) + remains(detached)


@pytest.mark.parametrize("phase", FOLLOWED)
def test_writers_go_on_while_others_are_purged(phase: Phase) -> None:
    stores = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    with make_pair(phase, *stores) as pair:
        done = threading.Event()
        counts: list[int] = []

        def write(name: str) -> None:
            n = 0
            while not done.is_set():
                n += 1
                pair.collection(Tally).put(a_tally(name, n))
            counts.append(n)

        threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for n in range(20):
            pair.collection(Tally).put(a_tally(f"{KEY}-{n}", 1))
            pair.collection(Tally).delete(f"{KEY}-{n}")
            assert pair.purge("tallies", [f"{KEY}-{n}"])
        done.set()
        for thread in threads:
            thread.join()
        pair.catch_up()

        assert len(counts) == 3
        found = {t.value for t in pair.collection(Tally).scan()}
        assert found == set(counts)
        assert not [key for store in stores for key in remains(store) if KEY in key]
        assert pair.validate().ok


def open_pair(directory: Path) -> DualWriteStore:
    return DualWriteStore(
        json=JsonStore(SCHEMA, directory / "left", checkpoint_interval=None),
        postgres=JsonStore(SCHEMA, directory / "right", checkpoint_interval=None),
        relay_interval=None,
    )


def purge_it(report: Report, directory: Path) -> None:
    with open_pair(directory) as pair:
        report(pair.purge("tallies", [KEY]))


@pytest.mark.parametrize("phase", FOLLOWED)
@pytest.mark.parametrize(
    "point",
    [
        "purge.renewed",
        "purge.half",
        "role.changed",
        "json.segment-ended",
        "json.snapshot-written",
        "json.old-dropped",
    ],
)
def test_a_purge_that_was_killed_is_finished_by_the_next(
    point: str, phase: Phase, tmp_path: Path
) -> None:
    directory = tmp_path / "pair"
    directory.mkdir()
    with open_pair(directory) as pair:
        pair.switch(phase, accept=CODES)
        use(pair)

    run_until_crash(purge_it, directory, point=point)

    with open_pair(directory) as pair:
        assert pair.collection(Tally).get(KEY) is None
        assert pair.purge("tallies", [KEY])
        assert pair.collection(Tally).get("stays") == a_tally("stays", 1)
        assert pair.phase is phase
        pair.catch_up()
        assert pair.validate().ok
        assert pair.roles().is_settled
    files = [p for p in directory.rglob("*") if p.is_file()]
    assert [p.name for p in files if KEY.encode() in p.read_bytes()] == []
