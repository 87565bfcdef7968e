"""Seal of a restored store: refused by every process, and nothing is given twice."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import pend_storage
from pend_storage import crashpoints
from pend_storage._model.snapshots import RESTORED_META, LogPoint
from pend_storage._restored import note_of, require_usable, unusable_reason
from pend_storage.backup._seal import (
    CARRIED_NOT,
    begin_filling,
    carried_meta,
    highest_number,
    seal,
)
from pend_storage.dualwrite import DualWriteStore
from pend_storage.errors import ConfigError, StaleEpoch
from pend_storage.phases import IDENTITY_META, ROLE_META, Role, RoleState
from pend_storage.records import ChangedRecord
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

POINT = LogPoint(identity="the-source", epoch=4, sequence=70)
META: dict[str, Any] = {
    "role": {"role": "primary", "epoch": 4},
    "identity": "the-source",
    "mark": {"of": "x", "after": 3},
    "environment": "production",
    "postgres.numbering": 9,
    "shared": {
        "values": {
            "switches": [{"after": "parallel"}],
            "backup": {"id": "b"},
            "marks": {
                "early": {"sequence": 60, "epoch": 4, "at": "2026-01-01"},
                "late": {"sequence": 80, "epoch": 4, "at": "2026-01-01"},
            },
        },
        "sealed": 3,
    },
}


def filled() -> MemoryStore:
    store = MemoryStore(SCHEMA)
    begin_filling(store, source=POINT, backup="b-1", target="latest")
    store.apply((ChangedRecord("logs", "l1", 70, a_log("l1", "before")),))
    return store


def sealed(store: Store, above: int = 1_000) -> None:
    seal(store, source=POINT, above=above, meta=META, backup="b-1", target="latest")


def test_a_sealed_store_has_an_identity_of_its_own_and_is_detached() -> None:
    store = filled()
    sealed(store)
    assert store.identity() not in {"the-source", ""}
    assert store.role() == RoleState(Role.DETACHED, 4)
    note = note_of(store)
    assert note is not None
    assert (note.point, note.state, note.above) == (POINT, "sealed", 1_000)
    assert store.meta("environment") == "production"
    assert store.meta("mark") is None
    assert store.meta("postgres.numbering") is None
    shared: Any = store.meta("shared")
    values = shared["values"]
    assert set(values) == {"switches", "marks"}
    assert set(values["marks"]) == {"early"}
    assert "sealed" not in shared


def test_no_number_is_given_again() -> None:
    store = filled()
    sealed(store, above=5_000)
    store.compare_and_set_meta(
        ROLE_META, store.meta(ROLE_META), RoleState(Role.PRIMARY, 6).to_meta()
    )
    assert store.collection(Log).put(a_log("l2", "after")) > 5_000
    assert [change.sequence > 5_000 for change in store.changes(5_000)] == [True]


def test_commits_and_applies_are_refused() -> None:
    store = filled()
    sealed(store)
    with pytest.raises(StaleEpoch):
        store.collection(Log).put(a_log("l2", "x"))
    with pytest.raises(StaleEpoch):
        store.apply((ChangedRecord("logs", "l3", 99, a_log("l3", "x")),))


@pytest.mark.parametrize("point", sorted(crashpoints.points("seal.")))
def test_a_store_whose_seal_was_interrupted_is_refused_and_can_be_sealed(
    point: str,
) -> None:
    store = filled()

    def fail(name: str) -> None:
        if name == point:
            raise InterruptedError(name)

    with crashpoints.handled(fail), pytest.raises(InterruptedError):
        sealed(store)
    with pytest.raises(ConfigError, match="restore did not end"):
        require_usable(store, "the database")
    noted = note_of(store)
    sealed(store)
    assert noted is not None
    assert store.identity() == noted.identity
    assert store.role() == RoleState(Role.DETACHED, 4)
    assert "was not promoted" in (unusable_reason(store, "the database") or "")


def test_a_second_seal_changes_nothing_but_may_reserve_more() -> None:
    store = filled()
    sealed(store)
    identity = store.identity()
    sealed(store, above=9_000)
    assert store.identity() == identity
    assert store.head() >= 9_000


def test_a_store_in_use_is_not_sealed() -> None:
    store = MemoryStore(SCHEMA)
    store.compare_and_set_meta(ROLE_META, None, RoleState(Role.PRIMARY, 2).to_meta())
    with pytest.raises(ConfigError, match="in use"):
        sealed(store)


def test_a_store_of_another_restore_is_not_sealed() -> None:
    store = filled()
    other = LogPoint(identity="another", epoch=1, sequence=5)
    with pytest.raises(ConfigError, match="not to this position"):
        seal(store, source=other, above=9, meta={}, backup="b-2", target="latest")
    with pytest.raises(ConfigError, match="empty"):
        begin_filling(store, source=other, backup="b-2", target="latest")


@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_pair_refuses_a_restored_store(is_sealed: bool) -> None:
    store = filled()
    if is_sealed:
        sealed(store)
    with pytest.raises(ConfigError, match="restored from the backup"):
        DualWriteStore(json=MemoryStore(SCHEMA), postgres=store)
    with pytest.raises(ConfigError, match="restored from the backup"):
        DualWriteStore(json=store, postgres=MemoryStore(SCHEMA))


def test_the_note_of_a_newer_version_is_refused() -> None:
    store = MemoryStore(SCHEMA)
    store.compare_and_set_meta(RESTORED_META, None, {"state": "frozen"})
    with pytest.raises(ConfigError, match=r"newer version.*Upgrade it"):
        require_usable(store, "the database")


def every_meta_name() -> set[str]:
    """Names of meta entries that the package declares."""
    root = Path(pend_storage.__file__).parent
    texts = "\n".join(path.read_text() for path in root.rglob("*.py"))
    return set(
        re.findall(r'^[A-Z_]+_META(?:: Final)? = "([^"]+)"', texts, re.MULTILINE)
    )


def test_each_meta_entry_is_carried_over_or_not_by_decision() -> None:
    carried = {
        "environment",
        "shared",
        "switches",
        "earlier_switches",
        "flags",
        "marks",
        # the findings that were accepted are records, and are carried as well
        "accepted-divergences",
    }
    names = {n for n in every_meta_name() if not n.startswith(("json.", "postgres."))}
    assert names - CARRIED_NOT <= carried
    assert not carried & CARRIED_NOT
    at = datetime.now(UTC).isoformat()
    kept = carried_meta(dict.fromkeys(names | {IDENTITY_META}, at), upto=9)
    assert set(kept) <= carried


def test_the_highest_number_counts_stores_in_reach() -> None:
    store, gone = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    store.collection(Log).put(a_log("l1", "x"))
    gone.reserve_numbers(10_000)
    gone.close()
    assert highest_number(0, store, gone) == store.head()
    assert highest_number(500, store) == 500
