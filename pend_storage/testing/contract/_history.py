"""Contract of ``record_history``: the changes of one key, the newest first."""

from __future__ import annotations

import pytest

from pend_storage._model.records import ChangedRecord
from pend_storage._model.snapshots import KeyChange
from pend_storage.errors import StoreUnavailable, UnknownCollection
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, commit, requires
from pend_storage.testing.domain import Log, a_berth, a_log, a_ship, a_tally

__all__ = ["HistoryContract"]


def history(store: Store, key: str, *, before: int | None = None) -> list[KeyChange]:
    """Read the history of a log."""
    return list(store.record_history("logs", key, before=before))


class HistoryContract(Harness):
    """Contract of ``Store.record_history``."""

    def test_a_history_has_every_change_of_the_key_the_newest_first(
        self, store: Store
    ) -> None:
        first = commit(store, a_log("a", "1"), a_log("b"))[0]
        commit(store, a_log("b", "other"), a_tally("a", 1))
        second = commit(store, a_berth("a"), a_log("a", "2"))[1]

        found = history(store, "a")

        assert [(c.version, c.record) for c in found] == [
            (second, a_log("a", "2")),
            (first, a_log("a", "1")),
        ]
        assert [c.sequence for c in found] == sorted(
            {c.sequence for c in found}, reverse=True
        )
        assert found[1].at <= found[0].at

    def test_a_deletion_is_a_change_without_a_record(self, store: Store) -> None:
        commit(store, a_log("a", "1"))
        gone = commit(store, delete=[("logs", "a"), ("logs", "never")])[0]
        commit(store, a_log("a", "2"))

        found = history(store, "a")

        assert [c.record for c in found] == [a_log("a", "2"), None, a_log("a", "1")]
        assert found[1].version == gone
        assert history(store, "never") == []

    def test_a_history_can_be_read_before_a_commit(self, store: Store) -> None:
        for n in range(4):
            commit(store, a_log("a", str(n)))
            commit(store, a_log("b", str(n)))
        found = history(store, "a")
        assert [c.record for c in found] == [a_log("a", str(n)) for n in (3, 2, 1, 0)]

        for place, change in enumerate(found):
            assert history(store, "a", before=change.sequence) == found[place + 1 :]
            assert history(store, "a", before=change.sequence + 1) == found[place:]
        assert history(store, "a", before=0) == []

    def test_a_history_says_who_and_why(self, store: Store) -> None:
        commit(store, a_log("a", "1"))
        with store.acting(by="ann", reason="because"):
            commit(store, a_log("a", "2"))

        now, before = history(store, "a")

        assert (now.by, now.reason) == ("ann", "because")
        assert (before.by, before.reason) == (None, None)

    @requires("has_role")
    def test_a_history_agrees_with_the_change_log(self, store: Store) -> None:
        for n in range(5):
            commit(store, a_log(f"{n % 2}", str(n)), a_tally("0", n))

        found = history(store, "0")

        entries = {change.sequence: change for change in store.changes()}
        for change in found:
            entry = entries[change.sequence]
            assert (change.at, change.epoch) == (entry.at, entry.epoch)
            assert ChangedRecord("logs", "0", change.version, change.record) in (
                entry.records
            )

    @requires("has_role")
    def test_rows_that_were_applied_have_no_history(self, secondary: Store) -> None:
        secondary.apply([ChangedRecord("logs", "a", 5, a_log("a"))])

        assert history(secondary, "a") == []

    def test_a_key_without_changes_has_no_history(self, store: Store) -> None:
        commit(store, a_log("a"))

        assert history(store, "b") == []
        assert history(store, "") == []

    @pytest.mark.parametrize("key", ['"', "\\", "\n", "é\U0001f6a2", "a,b", "x" * 200])
    def test_every_key_has_its_own_history(self, store: Store, key: str) -> None:
        commit(store, a_log(key, "1"), a_log("a", key))
        commit(store, a_log("a", key), a_log(f"{key}2", key))
        commit(store, a_log(key, "2"))

        assert [c.record for c in history(store, key)] == [
            a_log(key, "2"),
            a_log(key, "1"),
        ]

    def test_a_history_may_be_read_in_part(self, store: Store) -> None:
        for n in range(30):
            commit(store, a_log("a", str(n)))

        assert next(store.record_history("logs", "a")).record == a_log("a", "29")

    def test_the_history_of_a_type_is_that_of_its_collection(
        self, store: Store
    ) -> None:
        ship = a_ship("s1", call_sign="AB", extra={"a": [1, None]})
        commit(store, ship)

        (change,) = store.record_history("ships", "s1")

        assert change.record == ship

    def test_the_history_of_an_unknown_collection_is_refused(
        self, store: Store
    ) -> None:
        with pytest.raises(UnknownCollection):
            list(store.record_history("nothing", "a"))

    def test_a_closed_store_has_no_history(self, store: Store) -> None:
        commit(store, a_log("a"))
        store.close()

        with pytest.raises(StoreUnavailable, match="closed"):
            history(store, "a")

    def test_changing_a_record_of_a_history_changes_nothing(self, store: Store) -> None:
        commit(store, a_ship("s1", extra={"a": 1}))

        next(store.record_history("ships", "s1")).record.extra.clear()

        assert next(store.record_history("ships", "s1")).record.extra == {"a": 1}

    @requires("durable")
    def test_a_history_is_there_after_reopening(self, store: Store) -> None:
        commit(store, a_log("a", "1"))
        commit(store, a_log("a", "2"))
        before = history(store, "a")

        again = self.reopen(store)
        try:
            assert history(again, "a") == before
            again.collection(Log).delete("a")
            assert [c.record for c in history(again, "a")] == [
                None,
                a_log("a", "2"),
                a_log("a", "1"),
            ]
        finally:
            again.close()
