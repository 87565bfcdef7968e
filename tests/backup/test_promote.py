"""Promotion of a restored store: nothing is given twice, and no process goes on with the old one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pend_storage import crashpoints
from pend_storage._restored import note_of
from pend_storage.backfill import backfill
from pend_storage.backup import _lineage
from pend_storage.backup._promote import Promoted, Promotion
from pend_storage.backup._promotion_plan import Scene
from pend_storage.dualwrite import CODES
from pend_storage.dualwrite import _replication_position as positions
from pend_storage.dualwrite._roles import Side, other
from pend_storage.errors import (
    ConfigError,
    StaleEpoch,
    SwitchRefused,
)
from pend_storage.phases import Phase, Role, RoleState
from pend_storage.records import Batch
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from tests.dualwrite.processes import Place, Process, living

from .restored_stores import restored

J, PAR, PG, P = Phase


def copy(source: Store, target: Store, epoch: int) -> None:
    backfill(source, target, epoch=epoch)


def promotion(
    place: Place, side: Store, kind: Side = "postgres", *, reach: str = "both"
) -> Promotion:
    """Promote a store in the place of one of a pair; some may be out of reach."""
    names = {"both": ("json", "postgres"), "none": ()}.get(reach, (reach,))
    others: dict[str, Store] = {
        name: place.of(name) for name in ("json", "postgres") if name in names
    }
    gone = tuple(name for name in ("json", "postgres") if name not in names)
    return Promotion(Scene(side, others, peer=other(kind), unreachable=gone))


def at_phase(place: Place, phase: Phase) -> Process:
    process = Process(place, switch_patience=0.02)
    process.put("l1", "first")
    process.store.switch(phase, accept=CODES)
    process.put("l2", "second")
    return process


@pytest.fixture
def place() -> Place:
    return Place(json=MemoryStore(SCHEMA), postgres=MemoryStore(SCHEMA))


@pytest.fixture
def process(place: Place) -> Iterator[Process]:
    process = at_phase(place, PG)
    yield process
    process.store.close()


def replaced(place: Place, side: Store) -> Place:
    """The same pair, with the restored store behind the address of PostgreSQL."""
    assert isinstance(side, MemoryStore)
    return Place(json=place.json, postgres=side)


def test_names_of_metas_are_those_of_the_pair() -> None:
    assert _lineage.POSITION_META == positions.POSITION_META
    assert _lineage.BACKFILL_META == positions.BACKFILL_META
    assert _lineage.TAINTED_META == positions.TAINTED_META


def test_the_restored_store_is_primary_two_epochs_later(
    place: Place, process: Process
) -> None:
    before = place.postgres.role().epoch
    side = restored(place.postgres)
    process.put("l2", "lost")
    done = promotion(place, side).execute()
    assert side.role() == RoleState(Role.PRIMARY, before + 2)
    assert place.postgres.role() == RoleState(Role.DETACHED, before + 1)
    assert place.json.role() == RoleState(Role.DETACHED, before + 1)
    assert place.postgres.meta("spoiled") is not None
    assert done.epoch == before + 2
    note = note_of(side)
    assert note is not None
    assert note.state == "promoted"


def test_no_number_is_given_twice(place: Place, process: Process) -> None:
    side = restored(place.postgres)
    lost = [process.put("l2", f"lost {n}") for n in range(5)]
    seen = max(change.sequence for change in place.postgres.changes())
    fed = max(change.sequence for change in process.store.changes())
    promotion(place, side).execute()
    pair = Process(replaced(place, side))
    version = pair.put("l2", "after")
    assert version > max(lost)
    assert [c.records[0].record.text for c in side.changes(seen)] == ["after"]
    assert [c.records[0].record.text for c in pair.store.changes(fed)] == ["after"]
    pair.store.close()


def test_old_processes_refuse_and_go_on_where_their_address_leads_to_the_new_one(
    place: Place, process: Process
) -> None:
    epoch = place.postgres.role().epoch
    side = restored(place.postgres)
    process.put("l2", "lost")
    promotion(place, side).execute()
    with pytest.raises(StaleEpoch):
        place.postgres.commit(
            Batch((SCHEMA.put("logs", a_log("l3", "late")),)), epoch=epoch
        )
    with pytest.raises((StaleEpoch, ConfigError)):
        process.put("l3", "late")
    with pytest.raises((StaleEpoch, ConfigError)):
        process.get("l2")
    process.postgres.lead_to(side)
    process.store._router.invalidate()
    assert process.get("l2") == "second"
    process.put("l3", "again")
    assert process.store.phase is P


def test_a_sealed_store_behind_the_address_is_refused_by_a_running_process(
    place: Place, process: Process
) -> None:
    process.postgres.lead_to(restored(place.postgres))
    process.store._router.invalidate()
    with pytest.raises(ConfigError, match="not promoted"):
        process.put("l3", "late")


def test_a_follower_out_of_reach_is_not_healed_into_the_restored_past(
    place: Place, process: Process
) -> None:
    side = restored(place.postgres)
    process.put("l2", "lost")
    done = promotion(place, side, reach="postgres").execute()
    assert done.unreachable == ("json",)
    assert place.json.role().role is Role.SECONDARY
    with pytest.raises(ConfigError, match="disagree about who is primary"):
        Process(replaced(place, side))
    # It is back: the same call detaches it.
    again = promotion(place, side).execute()
    assert again.unreachable == ()
    assert place.json.role().role is Role.DETACHED
    assert place.json.meta("spoiled") is not None
    pair = Process(replaced(place, side))
    assert pair.get("l2") == "second"
    with pytest.raises(SwitchRefused, match="spoiled"):
        pair.store.switch(PG, accept=CODES)
    pair.store.close()


def test_a_follower_that_moved_on_unseen_is_not_healed_either(
    place: Place, process: Process
) -> None:
    side = restored(place.postgres)
    epoch = side.role().epoch
    # It followed through another switch, of which nothing is known any more.
    found = place.json.meta("role")
    later = RoleState(Role.SECONDARY, epoch + 1).to_meta()
    place.json.compare_and_set_meta("role", found, later)
    promotion(place, side, reach="none").execute()
    with pytest.raises(ConfigError, match="disagree"):
        Process(replaced(place, side))


def test_a_phase_change_works_after_the_promotion(
    place: Place, process: Process
) -> None:
    side = restored(place.postgres)
    process.put("l2", "lost")
    promotion(place, side).execute()
    fresh = Place(json=MemoryStore(SCHEMA), postgres=replaced(place, side).postgres)
    pair = Process(fresh)
    pair.put("l3", "new")
    pair.store.switch(PG, accept=CODES)
    pair.store.switch(PAR, accept=CODES)
    assert living(fresh.json) == living(fresh.postgres)
    assert pair.get("l2") == "second"
    pair.store.close()


def test_roll_forward_brings_what_the_follower_has(
    place: Place, process: Process
) -> None:
    process.put("gone", "deleted later")
    side = restored(place.postgres)
    process.put("l2", "kept")
    process.put("l4", "new")
    process.store.collection(Log).delete("gone")
    wanted = living(place.json)
    done = promotion(place, side, reach="json").execute(copy=copy)
    assert living(side) == wanted
    assert done.peer_may_follow
    assert done.brought
    pair = Process(replaced(place, side))
    pair.put("l5", "goes on")
    pair.store.switch(PG, accept=CODES)
    pair.store.switch(PAR, accept=CODES)
    assert living(place.json) == living(side)
    assert pair.get("gone") is None
    pair.store.close()


def test_roll_forward_deletes_what_was_purged_since(
    place: Place, process: Process
) -> None:
    process.put("secret", "to be erased")
    side = restored(place.postgres)
    process.store.collection(Log).delete("secret")
    assert process.store.purge("logs", ["secret"])
    promotion(place, side, reach="json").execute(copy=copy)
    assert side.collection(Log).get("secret") is None


def test_a_store_that_is_behind_cannot_be_rolled_forward_from(
    place: Place, process: Process
) -> None:
    process.json.is_cut = True
    process.put("l2", "not at the follower")
    side = restored(place.postgres)
    with pytest.raises(ConfigError, match="does not have all that was restored"):
        promotion(place, side).execute(copy=copy)
    assert place.postgres.role().role is Role.PRIMARY
    # But it may follow: all that it has is in the restored store.
    assert promotion(place, side).execute().peer_may_follow
    pair = Process(replaced(place, side))
    pair.store.switch(PG, accept=CODES)
    assert living(place.json) == living(side)
    pair.store.close()


def test_an_unrelated_store_cannot_be_rolled_forward_from(place: Place) -> None:
    source, peer = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    source.collection(Log).put(a_log("l1", "x"))
    peer.collection(Log).put(a_log("l1", "y"))
    side = restored(source)
    work = Promotion(Scene(side, {"json": peer}, peer="json"))
    with pytest.raises(ConfigError, match="do not come from the restored log"):
        work.execute(copy=copy)
    work.execute()
    assert peer.meta("spoiled") is not None


def test_the_plan_names_what_is_lost_and_changes_nothing(
    place: Place, process: Process
) -> None:
    side = restored(place.postgres)
    for number in range(30):
        process.put(f"k{number:02}", "lost")
    stores = (side, place.json, place.postgres)
    names = ("role", "restored", "spoiled", "mark")
    before = [store.meta(name) for store in stores for name in names]
    plan = promotion(place, side)._scene.plan()
    assert [store.meta(name) for store in stores for name in names] == before
    assert plan.lost.commits == 30
    assert not plan.lost.is_at_least
    assert plan.lost.keys == tuple(("logs", f"k{n:02}") for n in range(20))
    assert plan.may_roll_forward
    assert plan.ahead is not None
    assert plan.ahead.newer == 30
    assert promotion(place, side)._scene.plan(roll_forward=True).lost.commits == 0
    assert promotion(place, side, reach="json")._scene.plan().lost.commits is None


def test_a_store_alone_is_replaced() -> None:
    old = MemoryStore(SCHEMA)
    old.collection(Log).put(a_log("l1", "x"))
    side = restored(old)
    lost = old.collection(Log).put(a_log("l1", "lost"))
    done = Promotion(Scene(side, {"json": old}, peer=None)).execute()
    with pytest.raises(StaleEpoch):
        old.collection(Log).put(a_log("l1", "late"))
    assert side.collection(Log).put(a_log("l1", "after")) > lost
    assert done.epoch == 2


@pytest.mark.parametrize("roll_forward", [False, True])
@pytest.mark.parametrize("point", sorted(crashpoints.points("promote.")))
def test_an_interrupted_promotion_is_finished_by_the_next_call(
    place: Place, process: Process, point: str, *, roll_forward: bool
) -> None:
    epoch = place.postgres.role().epoch
    side = restored(place.postgres)
    lost = process.put("l2", "lost")
    how = copy if roll_forward else None

    def fail(name: str) -> None:
        if name == point:
            raise InterruptedError(name)

    with crashpoints.handled(fail), pytest.raises(InterruptedError):
        promotion(place, side).execute(copy=how)
    primaries = [s for s in (place.json, place.postgres, side) if is_primary(s)]
    assert len(primaries) <= 1
    done: Promoted = promotion(place, side).execute(copy=how)
    assert done.epoch == side.role().epoch == epoch + 2
    assert done.peer_may_follow is roll_forward
    pair = Process(replaced(place, side))
    assert pair.get("l2") == ("lost" if roll_forward else "second")
    assert pair.put("l2", "after") > lost
    pair.store.close()


def is_primary(store: Store) -> bool:
    return store.role().role is Role.PRIMARY


def test_an_interrupted_roll_forward_is_not_opened_without_it(
    place: Place, process: Process
) -> None:
    side = restored(place.postgres)
    process.put("l2", "lost")

    def fail(name: str) -> None:
        if name == "promote.brought":
            raise InterruptedError(name)

    with crashpoints.handled(fail), pytest.raises(InterruptedError):
        promotion(place, side).execute(copy=copy)
    with pytest.raises(ConfigError, match="roll forward of this store was interrupted"):
        promotion(place, side).execute()


def test_a_second_call_leaves_a_pair_alone_that_went_on(
    place: Place, process: Process
) -> None:
    side = restored(place.postgres)
    promotion(place, side).execute()
    fresh = replaced(place, side)
    pair = Process(fresh)
    pair.store.switch(PG, accept=CODES)
    before = (side.role(), fresh.json.role())
    Promotion(Scene(side, {"json": fresh.json}, peer="json")).execute()
    assert (side.role(), fresh.json.role()) == before
    pair.store.switch(PAR, accept=CODES)
    with pytest.raises(ConfigError, match="was promoted at epoch"):
        Promotion(Scene(side, {"json": fresh.json}, peer="json")).execute()
    pair.store.close()


def test_only_a_sealed_store_is_promoted(place: Place) -> None:
    with pytest.raises(ConfigError, match="not restored"):
        Scene(place.json, {}, peer=None)
