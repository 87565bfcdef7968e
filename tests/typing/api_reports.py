"""Types of what a pair of stores reports."""

from __future__ import annotations

from typing import assert_type

import pend_storage as ps


def reports(pair: ps.DualWriteStore) -> None:
    assert_type(pair.phase, ps.Phase)
    readiness = pair.readiness(ps.Phase.POSTGRES_PRIMARY)
    assert_type(readiness, ps.Readiness)
    assert_type(readiness.ok, bool)
    assert_type(readiness.blockers, tuple[ps.Blocker, ...])
    assert_type(readiness.blockers[0].code, str)
    assert_type(pair.switch("parallel", accept=["backup"]), ps.SwitchReport)
    assert_type(pair.history(), tuple[ps.Switch, ...])
    assert_type(pair.repair(dry_run=True), ps.RepairReport)
    assert_type(pair.divergences(), tuple[ps.Finding, ...])
    lag = pair.lag()
    assert_type(lag, ps.Lag)
    assert_type(lag.commits, int)
    assert_type(lag.seconds, float)
    assert_type(lag.secondary_up, bool)


def changes(store: ps.Store) -> None:
    for change in store.changes(after=0):
        assert_type(change, ps.Change)
        assert_type(change.sequence, int)
        assert_type(change.records, tuple[ps.ChangedRecord, ...])
    assert_type(store.role(), ps.RoleState)
    assert_type(store.pending(0), ps.Pending)
    assert_type(store.find_commit("token"), ps.Change | None)
