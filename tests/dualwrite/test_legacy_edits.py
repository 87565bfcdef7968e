"""Edits recorded by JSON as secondary, which becomes primary before they are copied.

What is in a store and not in its log does not travel once that store is primary.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pend_storage.dualwrite import CODES
from pend_storage.dualwrite import _legacy_edits as legacy_edits
from pend_storage.errors import Conflict
from pend_storage.phases import Phase
from pend_storage.records import Batch, Delete, Put
from pend_storage.schema import FINDINGS, QUARANTINE, SYSTEM_NAMES
from pend_storage.store import Store
from pend_storage.testing.domain import Log, a_log

from .processes import Task
from .test_divergences import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "data")
    yield made
    made.store.close()


def versions(store: Store) -> set[tuple[str, str, int]]:
    names = [spec.name for spec in store.schema] + list(SYSTEM_NAMES)
    return {
        (name, row.key, row.version)
        for name in dict.fromkeys(names)
        for row in store.scan(name)
    }


def in_log(store: Store) -> set[tuple[str, str, int]]:
    return {
        (r.collection, r.key, r.version) for c in store.changes() for r in c.records
    }


def assert_every_row_travels(site: Site) -> None:
    """Every row of the primary is in its log, or in that of the former primary."""
    logged = in_log(site.json) | in_log(site.postgres)
    assert versions(site.json) <= logged
    site.store.catch_up()
    assert versions(site.postgres) == versions(site.json)


POINTS = [
    "switch.planned",
    "switch.prepared",
    "switch.fenced",
    "switch.drained",
    "switch.ready",
]


@pytest.mark.parametrize("point", [None, *POINTS])
def test_what_json_noted_before_it_became_primary_reaches_the_other_store(
    site: Site, point: str | None
) -> None:
    switch = Task(lambda: site.store.switch(Phase.PARALLEL, accept=CODES))
    if point is None:
        site.edit({"a": "edited", "b": "1"})
        switch.start()
    else:
        switch.start(point)
        site.edit({"a": "edited", "b": "1"})
        switch.resume()
    assert switch.error is None
    site.store.collection(Log).put(a_log("c", "1"))

    assert_every_row_travels(site)

    assert len(list(site.postgres.scan(QUARANTINE))) == 1
    assert [f.source for f in site.store.divergences()] == ["edit"]
    assert site.store.validate().ok


def test_a_switch_that_dies_leaves_them_to_the_relay(site: Site) -> None:
    switch = Task(lambda: site.store.switch(Phase.PARALLEL, accept=CODES))
    switch.start("switch.ready")
    site.edit({"a": "edited", "b": "1"})
    switch.resume("switch.opened")
    switch._dies = True
    site.store._phases._sync_edits = lambda: None  # type: ignore[method-assign]
    switch.resume()
    assert site.json.role().role.value == "primary"
    assert versions(site.json) - in_log(site.json) - in_log(site.postgres)
    relay = site.store._relay
    relay._edits_synced -= 60.0

    relay._run_once(mine=True)

    assert_every_row_travels(site)


def test_nothing_is_committed_again_while_the_secondary_is_behind(site: Site) -> None:
    """Missing rows may be under way."""
    site.store.switch(Phase.PARALLEL, accept=CODES)
    site.edit({"a": "adopted", "b": "1"})  # JSON is primary: an ordinary commit
    head = site.json.head()

    assert legacy_edits.commit_unlogged(site.store._router.route) == 0

    assert site.json.head() == head


def test_a_row_that_was_changed_meanwhile_is_not_put_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator settles the edit between its read and its commit."""
    site.store._phases._sync_edits = lambda: None  # type: ignore[method-assign]
    switch = Task(lambda: site.store.switch(Phase.PARALLEL, accept=CODES))
    switch.start("switch.ready")
    site.edit({"a": "edited", "b": "1"})
    switch.resume()
    (row,) = site.json.scan(QUARANTINE)
    caught_up = legacy_edits._has_caught_up

    def settled(primary: Store, follower: Store) -> bool:
        found = caught_up(primary, follower)
        schema = primary.schema
        primary.commit(schema.batch([schema.delete(QUARANTINE, row.key)]))
        return found

    monkeypatch.setattr(legacy_edits, "_has_caught_up", settled)
    with pytest.raises(Conflict):
        legacy_edits.commit_unlogged(site.store._router.route)

    assert not list(site.json.scan(QUARANTINE))


def test_every_round_of_bringing_an_edit_checks_what_it_has_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secondary's row has a higher version than the first commit gives."""
    site.edit({"a": "edited", "b": "1"})
    route = site.store._router.route
    (aside,) = site.json.scan(QUARANTINE)
    commit, made = route.store.commit, []

    def watched(batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        made.append(batch)
        given = commit(batch, epoch=epoch)
        if len(made) == 1:  # an operator is quicker than the second round
            delete: Delete | Put = Delete(QUARANTINE, aside.key)
            commit(batch=site.json.schema.batch([delete]), epoch=epoch)
            return tuple(1 for _ in given)
        return given

    monkeypatch.setattr(route.store, "commit", watched)
    with pytest.raises(Conflict):
        legacy_edits.replicate_edits(route)

    assert not list(site.postgres.scan(QUARANTINE))
    assert len(list(site.postgres.scan(FINDINGS))) == 1
