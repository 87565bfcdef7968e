"""Archive of the change log: nothing is left out, through switches, kills and gaps."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pend_storage import DualWriteStore, MemoryStore
from pend_storage._model.snapshots import ARCHIVE_META, StoredChange
from pend_storage.backup._archive import LEASE, Archived, Archiver
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._segments import manifest_name, read_changes
from pend_storage.backup._streams import Keys
from pend_storage.backup._window import chains
from pend_storage.dualwrite import force_promotion
from pend_storage.errors import CorruptFile, LockTimeout
from pend_storage.events import Event
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore, Retention
from pend_storage.testing import run_until_crash
from pend_storage.testing.crash import Report
from pend_storage.testing.domain import SCHEMA, Tally, a_ship, a_tally


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(str(tmp_path / "repository"), create=True)


def archive(
    repository: Repository, *stores: Store, events: list[Event] | None = None
) -> Archived:
    hook = (events if events is not None else []).append
    with repository.lease(LEASE) as lease:
        return Archiver(stores, repository, Keys(), lease, hook=hook).run()


def entries(repository: Repository) -> list[StoredChange]:
    """Read all chains, one after the other."""
    return [
        change
        for chain in chains(Catalog(repository).segments())
        for change in read_changes(repository, chain.segments, Keys(), 0, 2**62)
    ]


def values(repository: Repository) -> list[int]:
    """Values of the tally, in the order of the archive."""
    spec = SCHEMA["tallies"]
    return [
        spec.codec.decode(record.body).value
        for change in entries(repository)
        for record in change.records
        if record.collection == "tallies" and record.body is not None
    ]


def write(store: Store, first: int, last: int) -> None:
    tallies = store.collection(Tally)
    for number in range(first, last):
        tallies.put(a_tally(name="t", value=number))


def test_the_log_is_archived_as_it_is(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    with store.acting(by="ann", reason="test"):
        store.collection("ships").put(a_ship(id="s1"))
        write(store, 0, 3)
    store.collection("ships").delete("s1")
    done = archive(repository, store)
    assert done.entries == 5
    assert done.gap is None
    log = list(store.changes())
    found = entries(repository)
    assert [(c.sequence, c.epoch, c.at, c.token) for c in found] == [
        (c.sequence, c.epoch, c.at, c.token) for c in log
    ]
    assert [(c.by, c.reason) for c in found] == [(c.by, c.reason) for c in log]
    for change, stored in zip(log, found, strict=True):
        for item, record in zip(change.records, stored.records, strict=True):
            assert record[:3] == item[:3]
            codec = SCHEMA[item.collection].codec
            body = None if item.record is None else codec.encode(item.record)
            assert record.body == body


def test_a_second_pass_continues_the_first(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    for number in range(5):
        write(store, 3 * number, 3 * number + 3)
        assert archive(repository, store).entries == 3
    assert values(repository) == list(range(15))
    [chain] = chains(Catalog(repository).segments())
    assert chain.last.upto >= store.head() - 1


def test_the_position_is_recorded_in_the_store(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    write(store, 0, 3)
    done = archive(repository, store)
    mark = store.meta(ARCHIVE_META)
    assert isinstance(mark, dict)
    assert mark["identity"] == store.identity()
    assert mark["sequence"] == done.end.sequence
    assert mark["repository"] == repository.url


def test_a_pass_over_an_empty_log_begins_the_chain(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    assert archive(repository, store).entries == 0
    write(store, 0, 2)
    archive(repository, store)
    assert len(chains(Catalog(repository).segments())) == 1
    assert values(repository) == [0, 1]


def test_segments_are_bounded(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pend_storage.backup._archive._ENTRIES", 4)
    store = MemoryStore(SCHEMA)
    write(store, 0, 11)
    archive(repository, store)
    found = Catalog(repository).segments()
    assert [s.entries for s in found if s.entries] == [4, 4, 3]
    assert values(repository) == list(range(11))


# -- switches -------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[DualWriteStore]:
    with DualWriteStore(
        json=MemoryStore(SCHEMA), postgres=MemoryStore(SCHEMA), relay_interval=None
    ) as store:
        yield store


def switch(pair: DualWriteStore, phase: str) -> None:
    pair.switch(
        phase, accept=["validation", "lag", "quarantine", "backup", "unclaimed"]
    )


def to_parallel(pair: DualWriteStore) -> None:
    switch(pair, "parallel")
    pair.backfill()


def test_switches_are_followed_in_order(
    pair: DualWriteStore, repository: Repository
) -> None:
    to_parallel(pair)
    number = 0
    for phase in ("postgres-primary", "parallel", "postgres-primary", "parallel"):
        write(pair, number, number + 3)
        archive(repository, *pair.stores)
        write(pair, number + 3, number + 5)
        number += 5
        pair.catch_up()
        switch(pair, phase)
    write(pair, number, number + 2)
    archive(repository, *pair.stores)
    assert values(repository) == list(range(number + 2))
    [chain] = chains(Catalog(repository).segments())
    assert len({s.identity for s in chain.segments}) == 2
    logs = [change for store in pair.stores for change in store.changes()]
    epochs = {change.token: change.epoch for change in logs}
    assert {change.token: change.epoch for change in entries(repository)} == epochs
    places = [(s.epoch, s.upto) for s in chain.segments]
    assert places == sorted(places)


def test_two_switches_between_two_passes_leave_nothing_out(
    pair: DualWriteStore, repository: Repository
) -> None:
    to_parallel(pair)
    write(pair, 0, 3)
    archive(repository, *pair.stores)
    for number, phase in ((3, "postgres-primary"), (6, "parallel"), (9, "")):
        write(pair, number, number + 3)
        pair.catch_up()
        if phase:
            switch(pair, phase)
    archive(repository, *pair.stores)
    assert values(repository) == list(range(12))
    assert len(chains(Catalog(repository).segments())) == 1


def test_a_first_pass_after_switches_has_both_logs(
    pair: DualWriteStore, repository: Repository
) -> None:
    to_parallel(pair)
    write(pair, 0, 3)
    switch(pair, "postgres-primary")
    write(pair, 3, 6)
    switch(pair, "parallel")
    write(pair, 6, 9)
    archive(repository, *pair.stores)
    assert values(repository) == list(range(9))


def test_one_store_alone_does_not_claim_the_log_of_the_other(
    pair: DualWriteStore, repository: Repository
) -> None:
    to_parallel(pair)
    write(pair, 0, 3)
    json, _ = pair.stores
    archive(repository, json)
    switch(pair, "postgres-primary")
    write(pair, 3, 6)
    switch(pair, "parallel")
    write(pair, 6, 9)
    events: list[Event] = []
    done = archive(repository, json, events=events)
    assert done.gap is not None
    assert [event.name for event in events] == ["archive-gap"]
    first, second = chains(Catalog(repository).segments())
    assert first.end.epoch < second.first.epoch
    assert values(repository) == [0, 1, 2, 6, 7, 8]


def test_what_a_forced_promotion_has_lost_begins_a_chain(
    repository: Repository,
) -> None:
    with DualWriteStore(
        json=MemoryStore(SCHEMA),
        postgres=MemoryStore(SCHEMA),
        relay_interval=None,
        secondary_timeout=0,
    ) as pair:
        to_parallel(pair)
        write(pair, 0, 3)
        pair.catch_up()
        archive(repository, *pair.stores)
        write(pair, 3, 6)
        json, postgres = pair.stores
        assert postgres.collection(Tally).get("t") == a_tally(name="t", value=2)
        force_promotion(json, postgres, "postgres")
        write(postgres, 10, 13)
        done = archive(repository, json, postgres)
        assert done.gap is not None
        assert "promoted by force" in done.gap
        first, second = chains(Catalog(repository).segments())
        assert {s.identity for s in first.segments} == {json.identity()}
        assert {s.identity for s in second.segments} == {postgres.identity()}
        assert values(repository) == [*range(6), 10, 11, 12]
        write(postgres, 13, 15)
        assert archive(repository, json, postgres).gap is None


def test_a_forced_promotion_is_found_where_the_log_was_pruned(
    pair: DualWriteStore, repository: Repository
) -> None:
    to_parallel(pair)
    write(pair, 0, 3)
    json, postgres = pair.stores
    archive(repository, json, postgres)
    json.prune(json.head())
    force_promotion(json, postgres, "postgres")
    write(postgres, 10, 13)
    assert archive(repository, json, postgres).gap is not None


def test_what_a_lost_follower_lacks_begins_a_chain(
    pair: DualWriteStore, repository: Repository
) -> None:
    to_parallel(pair)
    write(pair, 0, 3)
    pair.catch_up()
    json, postgres = pair.stores
    archive(repository, json, postgres)
    json.compare_and_set_meta(
        ROLE_META, json.meta(ROLE_META), RoleState(Role.DETACHED, 5).to_meta()
    )
    with DualWriteStore(
        json=MemoryStore(SCHEMA), postgres=MemoryStore(SCHEMA), relay_interval=None
    ) as other:
        to_parallel(other)
        switch(other, "postgres-primary")
        strange = other.stores[1]
        strange.compare_and_set_meta(
            ROLE_META, strange.meta(ROLE_META), RoleState(Role.PRIMARY, 5).to_meta()
        )
        strange.collection("ships").put(a_ship(id="s1"))
        done = archive(repository, json, strange)
        assert done.gap is not None
        assert "does not have the commit" in done.gap


def test_a_switch_without_commits_afterwards_is_covered(
    pair: DualWriteStore, repository: Repository
) -> None:
    to_parallel(pair)
    write(pair, 0, 3)
    pair.catch_up()
    switch(pair, "postgres-primary")
    archive(repository, *pair.stores)
    [chain] = chains(Catalog(repository).segments())
    assert chain.end.identity == pair.stores[1].identity()
    assert chain.end.epoch == pair.stores[1].role().epoch


# -- gaps -----------------------------------------------------------------------------------


def test_a_pruned_log_is_a_gap(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    write(store, 0, 3)
    archive(repository, store)
    write(store, 3, 6)
    store.prune(list(store.changes())[4].sequence)
    events: list[Event] = []
    done = archive(repository, store, events=events)
    assert done.gap is not None
    assert "pruned" in done.gap
    assert [event.name for event in events] == ["archive-gap"]
    assert values(repository) == [0, 1, 2, 5]
    assert len(chains(Catalog(repository).segments())) == 2
    assert archive(repository, store).gap is None


def test_a_log_pruned_up_to_the_mark_is_continued(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    write(store, 0, 3)
    archive(repository, store)
    store.prune(store.head())
    write(store, 3, 6)
    assert archive(repository, store).gap is None
    assert values(repository) == list(range(6))


def test_the_log_of_another_store_is_a_gap(repository: Repository) -> None:
    store, other = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    write(store, 0, 3)
    archive(repository, store)
    write(other, 0, 3)
    assert archive(repository, other).gap is not None
    assert len(chains(Catalog(repository).segments())) == 2


def test_a_rewound_store_is_a_gap(repository: Repository, tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.mkdir()
    with JsonStore(SCHEMA, live) as store:
        store.identity()
        write(store, 0, 3)
    shutil.copytree(live, copy)
    with JsonStore(SCHEMA, live) as store:
        write(store, 3, 6)
        archive(repository, store)
    with JsonStore(SCHEMA, copy) as store:
        write(store, 10, 18)
        done = archive(repository, store)
        assert done.gap is not None
        assert "does not have the entry" in done.gap
        write(store, 18, 20)
        assert archive(repository, store).gap is None


def test_a_damaged_end_is_archived_again(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    write(store, 0, 3)
    archive(repository, store)
    write(store, 3, 6)
    archive(repository, store)
    end = Catalog(repository).segments()[-1]
    repository.put(manifest_name(end.id), [b"{}"])
    write(store, 6, 9)
    archive(repository, store)
    assert len(chains(Catalog(repository).segments())) == 1
    assert values(repository) == list(range(9))
    assert [d.name for d in Catalog(repository).damaged()] == [manifest_name(end.id)]


# -- chain ----------------------------------------------------------------------------------


def test_a_segment_that_is_left_out_is_found(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    for number in range(3):
        write(store, number, number + 1)
        archive(repository, store)
    segments = [s for s in Catalog(repository).segments() if s.entries]
    with pytest.raises(CorruptFile, match="missing"):
        list(read_changes(repository, [segments[0], segments[2]], Keys(), 0, 2**62))


def test_changes_are_read_between_two_positions(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    for number in range(3):
        write(store, 3 * number, 3 * number + 3)
        archive(repository, store)
    [chain] = chains(Catalog(repository).segments())
    log = [c.sequence for c in store.changes()]
    for first in range(9):
        for last in range(first, 9):
            found = read_changes(
                repository, chain.segments, Keys(), log[first], log[last]
            )
            assert [c.sequence for c in found] == log[first + 1 : last + 1]


def test_two_archivers_cannot_continue_one_segment(repository: Repository) -> None:
    store = MemoryStore(SCHEMA)
    write(store, 0, 3)
    archive(repository, store)
    with repository.lease(LEASE) as lease:
        first = Archiver([store], repository, Keys(), lease)
        second = Archiver([store], repository, Keys(), lease)
        write(store, 3, 6)
        first.run()
        with pytest.raises(LockTimeout, match="another archiver"):
            second.run()
    write(store, 6, 8)
    archive(repository, store)
    assert values(repository) == list(range(8))
    assert len(chains(Catalog(repository).segments())) == 1


# -- kills ----------------------------------------------------------------------------------


def _archive_in_child(report: Report, directory: Path, place: str) -> None:
    repository = open_repository(place)
    with JsonStore(SCHEMA, directory, retain=Retention()) as store:
        report(archive(repository, store).entries)


@pytest.mark.parametrize("point", ["archive.segment-written", "archive.published"])
def test_a_kill_leaves_an_archive_that_is_continued(
    repository: Repository, tmp_path: Path, point: str
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    with JsonStore(SCHEMA, directory) as store:
        write(store, 0, 3)
        archive(repository, store)
        write(store, 3, 6)
    place = str(tmp_path / "repository")
    outcome = run_until_crash(_archive_in_child, directory, place, point=point)
    assert outcome.killed, outcome.errors
    expected = 6 if point == "archive.published" else 3
    assert values(repository) == list(range(expected))
    deadline = time.monotonic() + 10
    with JsonStore(SCHEMA, directory) as store:
        write(store, 6, 8)
        with repository.lease(LEASE, wait=deadline - time.monotonic()) as lease:
            Archiver([store], repository, Keys(), lease).run()
    assert values(repository) == list(range(8))
    assert len(chains(Catalog(repository).segments())) == 1
    named = {s.part.name for s in Catalog(repository).segments()}
    stored = {f.name for f in repository.list("log/") if ".json" not in f.name}
    assert stored == named
