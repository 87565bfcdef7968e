"""Contract of commit tokens, attribution (by, reason) and pending changes."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from pend_storage._model.attribution import new_token
from pend_storage._model.records import Batch, Outcome
from pend_storage.errors import ChangesExpired, Conflict, StaleEpoch, UniqueViolation
from pend_storage.phases import Role
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, become, commit, requires
from pend_storage.testing.domain import Log, Ship, Tally, a_log, a_ship, a_tally

__all__ = ["AttributionContract", "PendingContract", "TokenContract"]


def batch_of(store: Store, *records: object, checks: bool = False) -> Batch:
    """Build a batch of puts; with ``checks``, the records must be new."""
    puts = [store.schema.put(type(record), record) for record in records]
    wanted = {(put.collection, put.key): 0 for put in puts} if checks else {}
    return store.schema.batch(puts, wanted)


class TokenContract(Harness):
    """Contract of ``Batch.token`` and ``Store.find_commit``."""

    def test_every_batch_has_a_token_of_its_own(self, store: Store) -> None:
        one, two = batch_of(store, a_log("a")), batch_of(store, a_log("a"))

        assert one.token != two.token
        assert len(one.token) == 32
        assert int(one.token, 16) >= 0

    def test_the_token_is_kept_with_the_entry(self, store: Store) -> None:
        batch = batch_of(store, a_log("a"), a_tally("t", 1))
        store.commit(batch)

        (change,) = store.changes()

        assert change.token == batch.token
        assert store.find_commit(batch.token) == change
        assert store.find_commit(new_token()) is None

    def test_a_commit_repeated_writes_nothing_and_gives_its_versions(
        self, store: Store
    ) -> None:
        batch = batch_of(store, a_log("a"), a_log("b"))
        versions = store.commit(batch)
        log = list(store.changes())

        for _ in range(3):
            assert store.commit(batch) == versions
        assert store.commit_each([batch, batch]) == [versions, versions]

        assert list(store.changes()) == log
        assert store.read("logs", ["a"])["a"].version == versions[0]

    def test_a_commit_repeated_does_not_meet_its_own_checks(self, store: Store) -> None:
        batch = batch_of(store, a_log("a"), checks=True)
        versions = store.commit(batch)

        assert store.commit(batch) == versions
        assert store.commit_each([batch]) == [versions]

    def test_one_put_repeated_does_not_meet_its_own_check(self, store: Store) -> None:
        first = store.collection(Tally).put(a_tally("t", 1))
        put = store.schema.put(Tally, a_tally("t", 2))
        batch = store.schema.batch([put], {("tallies", "t"): first})
        versions = store.commit(batch)

        assert store.commit(batch) == versions
        assert store.collection(Tally).get("t") == a_tally("t", 2)

    def test_a_commit_repeated_late_does_not_undo_what_came_after(
        self, store: Store
    ) -> None:
        batch = batch_of(store, a_log("a", "old"))
        versions = store.commit(batch)
        commit(store, a_log("a", "new"))

        assert store.commit(batch) == versions
        assert store.collection(Log).get("a") == a_log("a", "new")

    def test_a_delete_repeated_does_not_delete_what_came_after(
        self, store: Store
    ) -> None:
        commit(store, a_log("a"))
        schema = store.schema
        batch = schema.batch([schema.delete("logs", "a"), schema.delete("logs", "no")])
        versions = store.commit(batch)
        commit(store, a_log("a", "again"))

        assert versions[0] > 0
        assert versions[1] == 0
        assert store.commit(batch) == versions
        assert store.collection(Log).get("a") == a_log("a", "again")

    def test_a_commit_that_was_refused_may_be_repeated(self, store: Store) -> None:
        commit(store, a_ship("s1", call_sign="AB"))
        batch = batch_of(store, a_ship("s2", call_sign="AB"))
        with pytest.raises(UniqueViolation):
            store.commit(batch)
        assert store.find_commit(batch.token) is None
        store.collection(Ship).delete("s1")

        assert store.commit(batch)[0] > 0
        assert store.collection(Ship).get("s2") is not None

    def test_a_refused_check_is_refused_again(self, store: Store) -> None:
        commit(store, a_log("a"))
        batch = batch_of(store, a_log("a", "new"), checks=True)

        for _ in range(2):
            with pytest.raises(Conflict):
                store.commit(batch)

    def test_a_batch_without_a_token_is_a_new_commit_each_time(
        self, store: Store
    ) -> None:
        batch = replace(batch_of(store, a_log("a")), token="")

        first, second = store.commit(batch), store.commit(batch)

        assert second > first
        assert [change.token for change in store.changes()] == [None, None]

    def test_one_token_from_many_threads_takes_effect_once(self, store: Store) -> None:
        batch = batch_of(store, a_log("a"), a_log("b"))
        answers: list[Outcome] = []

        def write() -> None:
            answers.append(store.commit(batch))
            answers.extend(store.commit_each([batch, batch_of(store, a_log("x"))])[:1])

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(answers) == 16
        assert len(set(map(str, answers))) == 1
        assert [c.token for c in store.changes()].count(batch.token) == 1

    def test_among_others_each_keeps_its_own_answer(self, store: Store) -> None:
        done = batch_of(store, a_log("a"), checks=True)
        versions = store.commit(done)
        new = batch_of(store, a_log("b"), checks=True)
        conflicting = batch_of(store, a_log("a", "x"), checks=True)

        repeated, fresh, refused = store.commit_each([done, new, conflicting])

        assert repeated == versions
        assert isinstance(fresh, tuple)
        assert isinstance(refused, Conflict)
        assert len(list(store.changes())) == 2

    @requires("has_role")
    def test_a_store_that_was_fenced_still_knows_what_it_has_committed(
        self, store: Store
    ) -> None:
        become(store, Role.PRIMARY, 1)
        batch, other = batch_of(store, a_log("a")), batch_of(store, a_log("b"))
        versions = store.commit(batch, epoch=1)
        become(store, Role.FENCED, 1)

        assert store.commit(batch, epoch=1) == versions
        with pytest.raises(StaleEpoch):
            store.commit(other, epoch=1)

    @requires("durable")
    def test_tokens_are_known_after_reopening(self, store: Store) -> None:
        batches = [batch_of(store, a_log(f"{n}"), checks=True) for n in range(5)]
        versions = [store.commit(batch) for batch in batches]

        store = self.reopen(store)

        assert [store.commit(batch) for batch in batches] == versions
        assert [c.token for c in store.changes()] == [b.token for b in batches]
        store.close()


class AttributionContract(Harness):
    """Contract of ``Store.acting``: attribution of commits."""

    def test_who_wrote_and_why_is_in_the_log(self, store: Store) -> None:
        with store.acting(by="ann", reason="a request"):
            store.collection(Log).put(a_log("a"))
            store.run(lambda tx: tx.collection(Log).put(a_log("b")))
            store.collection(Log).delete("a")
        store.collection(Log).put(a_log("c"))

        attributed = [(change.by, change.reason) for change in store.changes()]

        assert attributed == [("ann", "a request")] * 3 + [(None, None)]

    def test_an_inner_block_says_more_and_ends(self, store: Store) -> None:
        with store.acting(by="ann"):
            with store.acting(reason='näher: "so"'):
                store.collection(Log).put(a_log("a"))
            with store.acting(by="bob"):
                store.collection(Log).put(a_log("b"))
            store.collection(Log).put(a_log("c"))

        attributed = [(change.by, change.reason) for change in store.changes()]

        assert attributed == [("ann", 'näher: "so"'), ("bob", None), ("ann", None)]

    def test_threads_do_not_share_it(self, store: Store) -> None:
        def write(name: str) -> None:
            for n in range(10):
                with store.acting(by=name):
                    store.collection(Log).put(a_log(f"{name}-{n}"))

        names = ["ann", "bob", "cee"]
        threads = [threading.Thread(target=write, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        for change in store.changes():
            assert change.by == change.records[0].key.split("-")[0]

    def test_merged_commits_keep_their_own(self, store: Store) -> None:
        batches = []
        for name in ("ann", "bob"):
            with store.acting(by=name, reason=f"for {name}"):
                batches.append(batch_of(store, a_log(name)))
        batches.append(batch_of(store, a_log("anonymous")))

        store.commit_each(batches)

        attributed = {c.records[0].key: (c.by, c.reason) for c in store.changes()}
        assert attributed == {
            "ann": ("ann", "for ann"),
            "bob": ("bob", "for bob"),
            "anonymous": (None, None),
        }

    @requires("durable")
    def test_it_is_there_after_reopening(self, store: Store) -> None:
        with store.acting(by="ann", reason="why"):
            store.collection(Log).put(a_log("a"))

        store = self.reopen(store)

        (change,) = store.changes()
        assert (change.by, change.reason) == ("ann", "why")
        store.close()


class PendingContract(Harness):
    """Contract of ``Store.pending``: number and age of changes after a position."""

    def test_an_empty_log_has_nothing_pending(self, store: Store) -> None:
        assert store.pending(0) == (0, None)

    def test_it_counts_what_the_log_has_after_a_place(self, store: Store) -> None:
        for n in range(7):
            commit(store, a_log(f"{n}"), a_tally("t", n))
        log = list(store.changes())

        assert store.pending(0) == (7, log[0].at)
        for place, change in enumerate(log[:-1]):
            assert store.pending(change.sequence) == (6 - place, log[place + 1].at)
        assert store.pending(log[-1].sequence) == (0, None)
        assert store.pending(log[-1].sequence + 10**6) == (0, None)

    def test_thousands_are_counted(self, store: Store) -> None:
        schema = store.schema
        count = 1500
        for start in range(0, count, 100):
            store.commit_each(
                [
                    schema.batch([schema.put(Log, a_log(f"{n:05}"))])
                    for n in range(start, start + 100)
                ]
            )
        log = list(store.changes())

        assert store.pending(0).commits == count
        assert store.pending(log[99].sequence) == (count - 100, log[100].at)

    def test_a_log_that_does_not_reach_back_says_so(self, store: Store) -> None:
        for n in range(6):
            commit(store, a_log("a", str(n)))
        log = list(store.changes())
        store.prune(log[3].sequence)

        for kept in range(3):
            try:
                list(store.changes(log[kept].sequence))
            except ChangesExpired:
                with pytest.raises(ChangesExpired):
                    store.pending(log[kept].sequence)
        assert store.pending(log[3].sequence) == (2, log[4].at)

    @requires("durable")
    def test_it_counts_after_reopening(self, store: Store) -> None:
        for n in range(5):
            commit(store, a_log("a", str(n)))
        log = list(store.changes())

        store = self.reopen(store)
        commit(store, a_log("b"))

        assert store.pending(0) == (6, log[0].at)
        assert store.pending(log[1].sequence) == (4, log[2].at)
        store.close()
