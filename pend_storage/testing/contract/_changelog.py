"""Contract of the change log: ``changes``, ``head``, ``prune``."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from pend_storage._model.records import Change, ChangedRecord
from pend_storage.errors import (
    ChangesExpired,
    Conflict,
    InvalidRecord,
    UniqueViolation,
)
from pend_storage.phases import Role
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, become, commit
from pend_storage.testing.domain import Log, a_log, a_ship, a_tally

__all__ = ["ChangesContract"]


def read_log(store: Store, after: int) -> tuple[list[Change], int]:
    """Read the log after a sequence; if it was pruned, return its oldest sequence."""
    try:
        return list(store.changes(after=after)), 0
    except ChangesExpired as error:
        return [], error.oldest


class ChangesContract(Harness):
    """Contract of ``Store.changes``, ``head`` and ``prune``."""

    def test_a_new_store_has_no_changes(self, store: Store) -> None:
        assert list(store.changes()) == []

    def test_each_commit_is_one_entry_in_order(self, store: Store) -> None:
        first = commit(store, a_log("a"), a_tally("t", 3))
        second = commit(store, a_log("a", "new"))

        one, two = store.changes()

        assert set(one.records) == {
            ChangedRecord("logs", "a", first[0], a_log("a")),
            ChangedRecord("tallies", "t", first[1], a_tally("t", 3)),
        }
        assert two.records == (
            ChangedRecord("logs", "a", second[0], a_log("a", "new")),
        )
        assert 0 < one.sequence < two.sequence

    def test_a_delete_is_a_record_without_content(self, store: Store) -> None:
        commit(store, a_log("a"))
        commit(store, delete=[("logs", "a"), ("logs", "never")])

        (_, change) = store.changes()

        version = store.read("logs", ["a"], deleted=True)["a"].version
        assert change.records == (ChangedRecord("logs", "a", version, None),)

    def test_a_commit_that_wrote_nothing_is_not_in_it(self, store: Store) -> None:
        commit(store, delete=[("logs", "never")])
        commit(store, checks={("logs", "a"): 0})

        assert list(store.changes()) == []

    def test_a_refused_commit_is_not_in_it(self, store: Store) -> None:
        commit(store, a_ship("s1", call_sign="AB"))
        with pytest.raises(UniqueViolation):
            commit(store, a_ship("s2", call_sign="AB"))
        with pytest.raises(Conflict):
            commit(store, a_log("a"), checks={("logs", "a"): 5})
        with pytest.raises(InvalidRecord):
            commit(store, a_log("a", "\x00"))

        assert len(list(store.changes())) == 1

    def test_a_feed_resumes_after_a_sequence_number(self, store: Store) -> None:
        for n in range(5):
            commit(store, a_log("a", str(n)))
        feed = list(store.changes())

        for n, change in enumerate(feed):
            assert list(store.changes(after=change.sequence)) == feed[n + 1 :]
        assert list(store.changes(after=0)) == feed
        commit(store, a_log("b"))

        (later,) = store.changes(after=feed[-1].sequence)
        assert later.records[0].key == "b"

    def test_it_keeps_former_contents(self, store: Store) -> None:
        for n in range(3):
            commit(store, a_log("a", str(n)))

        texts = [change.records[0].record.text for change in store.changes()]

        assert texts == ["0", "1", "2"]

    def test_it_tells_when_and_at_which_epoch(self, store: Store) -> None:
        commit(store, a_log("a"))
        become(store, Role.PRIMARY, 7)
        commit(store, a_log("b"))

        one, two = store.changes()

        assert (one.epoch, two.epoch) == (0, 7)
        for change in (one, two):
            assert change.at.tzinfo is UTC
            # Clocks of a server and of this machine may differ, but not by a day.
            assert abs(datetime.now(UTC) - change.at) < timedelta(days=1)

    def test_thousands_of_commits_come_in_order(self, store: Store) -> None:
        commits = 450
        for n in range(commits):
            commit(store, a_log(f"{n:05}"))

        feed = list(store.changes())

        assert [change.records[0].key for change in feed] == [
            f"{n:05}" for n in range(commits)
        ]

    def test_a_reader_of_the_log_misses_nothing_while_others_write(
        self, store: Store
    ) -> None:
        threads, times = 3, 30
        workers = [
            Thread(
                target=lambda me=me: [
                    commit(store, a_log(f"{me}-{n}")) for n in range(times)
                ]
            )
            for me in range(threads)
        ]
        seen: list[Change] = []

        def read_new() -> None:
            seen.extend(store.changes(after=seen[-1].sequence if seen else 0))

        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            read_new()
        read_new()

        keys = [record.key for change in seen for record in change.records]
        assert len(keys) == threads * times
        assert set(keys) == {f"{me}-{n}" for me in range(threads) for n in range(times)}
        sequences = [change.sequence for change in seen]
        assert sequences == sorted(set(sequences))

    def test_every_later_commit_lies_above_the_head(self, store: Store) -> None:
        assert store.head() >= 0
        for n in range(3):
            head = store.head()
            commit(store, a_log("a", str(n)), a_log(f"{n}"))
            *_, change = store.changes()

            assert change.sequence > head
            assert change in list(store.changes(after=head))
            self._wait_for_head(store, change.sequence)

    def _wait_for_head(self, store: Store, sequence: int) -> None:
        """Wait until the head has passed a sequence.

        Transactions of other clients of a server may hold its head back for a moment.
        """
        deadline = time.monotonic() + 20
        while store.head() < sequence:
            assert time.monotonic() < deadline, "the head stays behind the log"
            time.sleep(0.01)

    def test_a_pruned_log_says_so_or_is_still_whole(self, store: Store) -> None:
        for n in range(6):
            commit(store, a_log("a", str(n)))
        feed = list(store.changes())

        store.prune(feed[2].sequence)

        assert list(store.changes(after=feed[2].sequence)) == feed[3:]
        for kept in range(3):
            after = feed[kept - 1].sequence if kept else 0
            found, oldest = read_log(store, after)
            assert found == feed[kept:] or after < oldest <= feed[2].sequence
        assert store.collection(Log).get("a") == a_log("a", "5")

    def test_changing_a_change_does_not_change_the_log(self, store: Store) -> None:
        commit(store, a_ship("s1", extra={"a": 1}))

        next(iter(store.changes())).records[0].record.extra.clear()

        assert next(iter(store.changes())).records[0].record.extra == {"a": 1}
