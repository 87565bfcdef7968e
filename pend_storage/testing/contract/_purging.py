"""Contract of ``purge``: nothing is left of a deleted record."""

from __future__ import annotations

import pytest

from pend_storage._model.records import Change
from pend_storage.errors import ChangesExpired, Conflict
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, commit, requires
from pend_storage.testing.domain import Tally, a_log, a_tally

__all__ = ["PurgingContract"]


def whole_log(store: Store) -> list[Change]:
    """Read the change log as far back as it is kept."""
    after = 0
    while True:
        try:
            return list(store.changes(after))
        except ChangesExpired as expired:
            # A pair names its stores' own numbers, which lie below those of its feed.
            after = max(expired.oldest, store.head() if after else 0)


class PurgingContract(Harness):
    """Contract of ``Store.purge``."""

    @requires("can_purge")
    def test_neither_log_nor_tombstone_names_a_purged_record(
        self, store: Store
    ) -> None:
        commit(store, a_tally("gone", 1), a_tally("stays", 1))
        commit(store, a_tally("gone", 2))
        commit(store, delete=[("tallies", "gone")])

        assert store.purge("tallies", ["gone"])

        assert store.read("tallies", ["gone"], deleted=True) == {}
        assert "gone" not in [row.key for row in store.scan("tallies", deleted=True)]
        assert "gone" not in [r.key for c in whole_log(store) for r in c.records]
        assert store.collection(Tally).get("stays") == a_tally("stays", 1)

    @requires("can_purge")
    def test_a_record_that_is_there_is_not_purged(self, store: Store) -> None:
        version = commit(store, a_tally("t", 1), a_log("t"))[0]

        with pytest.raises(Conflict):
            store.purge("tallies", ["never", "t"])

        found = store.read("tallies", ["t"])["t"]
        assert (found.version, found.record) == (version, a_tally("t", 1))

    @requires("can_purge")
    def test_a_key_of_another_collection_stays(self, store: Store) -> None:
        commit(store, a_tally("k", 1), a_log("k"))
        commit(store, delete=[("tallies", "k"), ("logs", "k")])

        store.purge("tallies", ["k"])

        assert store.read("logs", ["k"], deleted=True)["k"].record is None

    @requires("can_purge")
    def test_versions_go_on_above_those_of_a_purged_record(self, store: Store) -> None:
        commit(store, a_tally("t", 1))
        commit(store, delete=[("tallies", "t")])
        last = store.read("tallies", ["t"], deleted=True)["t"].version
        store.purge("tallies", ["t"])

        assert commit(store, a_tally("t", 2))[0] > last
        assert store.collection(Tally).get("t") == a_tally("t", 2)

    @requires("can_purge")
    def test_tombstones_can_stay(self, store: Store) -> None:
        commit(store, a_tally("t", 1))
        commit(store, delete=[("tallies", "t")])
        last = store.read("tallies", ["t"], deleted=True)["t"].version

        store.purge("tallies", ["t"], tombstones=False)

        assert store.read("tallies", ["t"], deleted=True)["t"].version == last
        assert all(r.record is None for c in whole_log(store) for r in c.records)

    @requires("can_purge")
    def test_it_can_be_repeated_and_the_log_goes_on(self, store: Store) -> None:
        commit(store, a_tally("t", 1))
        commit(store, delete=[("tallies", "t")])
        store.purge("tallies", ["t"])
        end = max((c.sequence for c in whole_log(store)), default=store.head())
        end = max(end, store.head())

        assert store.purge("tallies", ["t"])
        assert store.purge("tallies", [])

        commit(store, a_tally("u", 1))
        (change,) = store.changes(end)
        assert [record.key for record in change.records] == ["u"]
