"""Contract of the audit: entries of commits, their chain, and what is refused."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pend_storage._audit_chain import seal, seals
from pend_storage._audit_record import record
from pend_storage._audit_retention import erase, prune
from pend_storage._audit_verification import verify_chain
from pend_storage._model.attribution import Actor
from pend_storage._model.audit import AUDIT, AuditEntry, is_seal, new_entry, values_of
from pend_storage._model.records import Batch, Change, Delete
from pend_storage.contract import StoreBackend
from pend_storage.errors import AppendOnly, ChangesExpired, Conflict
from pend_storage.schema import Schema, collection
from pend_storage.store import Store
from pend_storage.testing.contract._harness import Harness, requires

__all__ = ["AuditContract", "AuditRetentionContract"]

_THREADS = 4
_WRITES = 25


@dataclass(frozen=True)
class Named:
    """Record whose entries keep its key."""

    id: str
    text: str = ""


@dataclass(frozen=True)
class Compared:
    """Record whose entries keep what changed."""

    id: str
    text: str = ""
    number: int = 0


@dataclass(frozen=True)
class Whole:
    """Record whose entries keep it as it was and as it is."""

    id: str
    count: int = 0


@dataclass(frozen=True)
class Free:
    """Record without entries."""

    id: str


SCHEMA = Schema(
    [
        collection("named", Named, audit="keys"),
        collection("compared", Compared, audit="diff"),
        collection("whole", Whole, audit="full"),
        collection("free", Free),
    ]
)


def entries_of(store: Store) -> list[AuditEntry]:
    """Return the entries of a store without seals, in the order of their commits."""
    rows = [row for row in store.scan(AUDIT) if not is_seal(row.key)]
    return [row.record for row in sorted(rows, key=lambda row: (row.version, row.key))]


class AuditHarness(Harness):
    """Store with audited collections."""

    @pytest.fixture
    def audited(self) -> Iterator[Store]:
        """New, empty store with audited collections."""
        store = self.make_store(SCHEMA)
        yield store
        store.close()


class AuditContract(AuditHarness):
    """Contract of the entries of commits."""

    def test_an_entry_names_the_record_and_the_author(self, audited: Store) -> None:
        with audited.acting(by="ann", reason="a ticket", request="r-1"):
            audited.collection(Named).put(Named("n"))
        audited.collection(Named).delete("n")

        first, second = entries_of(audited)

        assert (first.action, first.collection, first.key) == ("put", "named", "n")
        assert (first.by, first.reason, first.request) == ("ann", "a ticket", "r-1")
        assert values_of(first) == {}
        assert (second.action, second.by, second.request) == ("delete", None, None)

    def test_a_collection_without_audit_has_no_entries(self, audited: Store) -> None:
        audited.collection(Free).put(Free("f"))
        audited.collection(Free).delete("f")

        assert entries_of(audited) == []

    def test_a_diff_has_the_changed_fields(self, audited: Store) -> None:
        records = audited.collection(Compared)
        records.put(Compared("c", "old", 1))
        version = records.put(Compared("c", "new", 1))
        records.delete("c", if_version=version)

        put, change, gone = map(values_of, entries_of(audited))

        assert put["after"] == {"id": "c", "text": "old", "number": 1}
        assert change["diff"] == [{"path": ["text"], "before": "old", "after": "new"}]
        assert gone["before"] == {"id": "c", "text": "new", "number": 1}
        assert gone["version_before"] == str(version)

    def test_a_full_entry_has_the_record_before_and_after(self, audited: Store) -> None:
        records = audited.collection(Whole)
        records.put_many([Whole("a", 1), Whole("b", 1)])
        audited.run(lambda tx: tx.collection(Whole).put(Whole("a", 2)))

        last = values_of(entries_of(audited)[-1])

        assert last["before"] == {"id": "a", "count": 1}
        assert last["after"] == {"id": "a", "count": 2}

    def test_the_deletion_of_nothing_has_no_entry(self, audited: Store) -> None:
        assert not audited.collection(Named).delete("n")
        assert not audited.collection(Whole).delete("w")

        assert entries_of(audited) == []

    def test_a_refused_commit_has_no_entry(self, audited: Store) -> None:
        for number in range(2):
            with pytest.raises(Conflict):
                audited.collection(Whole).put(Whole("w"), if_version=7 + number)

        assert entries_of(audited) == []

    def test_a_commit_that_is_repeated_has_one_entry(self, audited: Store) -> None:
        schema = audited.schema
        batch = schema.batch([schema.put(Named, Named("n"))])

        first = audited.commit(batch)

        assert audited.commit(batch) == first
        assert len(entries_of(audited)) == 1

    def test_merged_commits_have_entries_of_their_own(self, audited: Store) -> None:
        schema = audited.schema
        batches = []
        for name in ("ann", "bob"):
            with audited.acting(by=name):
                batches.append(schema.batch([schema.put(Named, Named(name))]))

        audited.commit_each(batches)

        found = {entry.key: entry.by for entry in entries_of(audited)}
        assert found == {"ann": "ann", "bob": "bob"}

    def test_images_follow_one_another_under_concurrency(self, audited: Store) -> None:
        def write(name: int) -> None:
            for number in range(_WRITES):
                audited.collection(Whole).put(Whole("w", name * _WRITES + number))

        _in_threads(write)

        found = [values_of(entry) for entry in entries_of(audited)]
        assert len(found) == _THREADS * _WRITES
        for earlier, later in itertools.pairwise(found):
            assert later["before"] == earlier["after"]

    def test_entries_are_neither_written_nor_changed_nor_deleted(
        self, audited: Store
    ) -> None:
        audited.collection(Named).put(Named("n"))
        (entry,) = entries_of(audited)
        other = new_entry("x", "put", Actor("eve"))
        put = audited.schema.entry(entry)

        def in_transaction() -> None:
            with audited.transaction() as tx:
                tx.collection(AUDIT).delete(entry.id)

        attempts: list[Any] = [
            lambda: audited.collection(AUDIT).put(other),
            lambda: audited.collection(AUDIT).put_many([other]),
            lambda: audited.collection(AUDIT).delete(entry.id),
            in_transaction,
            lambda: audited.commit(Batch((Delete(AUDIT, entry.id),))),
            lambda: audited.commit(Batch((put,))),
            lambda: audited.commit(Batch((put, audited.schema.put(Free, Free("f"))))),
        ]

        for attempt in attempts:
            with pytest.raises(AppendOnly, match="audit"):
                attempt()
        assert entries_of(audited) == [entry]
        assert audited.collection(Free).get("f") is None

    def test_an_operation_has_an_entry(self, audited: Store) -> None:
        name = record(
            audited, "switch", by="ann", reason="why", details={"after": "parallel"}
        )

        (entry,) = entries_of(audited)
        assert (entry.id, entry.action, entry.by) == (name, "switch", "ann")
        assert values_of(entry) == {"after": "parallel"}

    def test_sealers_and_writers_at_once_make_one_chain(self, audited: Store) -> None:
        def work(name: int) -> None:
            for number in range(_WRITES):
                audited.collection(Named).put(Named(f"{name}-{number}"))
                if number % 5 == name:
                    seal(audited, most=7)

        _in_threads(work)
        before = verify_chain(audited)
        seal(audited, most=7)
        after = verify_chain(audited)

        assert before.problems == after.problems == []
        found = before.sealed + before.unsealed + before.unproven
        assert found == _THREADS * _WRITES
        assert (after.sealed, after.unsealed) == (_THREADS * _WRITES, 0)
        chain = [known.seal.number for known in seals(audited)]
        assert chain == list(range(len(chain), 0, -1))
        assert seal(audited) == 0

    @requires("durable")
    def test_entries_and_seals_are_there_after_reopening(self, audited: Store) -> None:
        audited.collection(Whole).put(Whole("w", 1))
        seal(audited)
        audited.collection(Whole).put(Whole("w", 2))
        before = entries_of(audited)

        store = self.reopen(audited)

        assert entries_of(store) == before
        assert verify_chain(store).problems == []
        assert seal(store) == 1
        store.close()


class AuditRetentionContract(AuditHarness):
    """Contract of pruning and erasure, for stores that can purge."""

    @requires("can_purge")
    def test_what_is_erased_leaves_its_entry(self, audited: Store) -> None:
        records = audited.collection(Whole)
        records.put(Whole("secret", 47114711471))
        records.put(Whole("other", 1))
        seal(audited)
        records.put(Whole("secret", 47114711472))

        done = erase(audited, "whole", ["secret"], author=Actor("dpo"))

        assert (done.entries, done.is_clean) == (2, True)
        texts = [str(entry) for entry in entries_of(audited)]
        texts += [str(r) for change in _kept(audited.own_log()) for r in _audit(change)]
        assert not any("secret" in text or "4711471147" in text for text in texts)
        report = verify_chain(audited)
        assert (report.problems, report.erased) == ([], 2)
        gone = [entry for entry in entries_of(audited) if entry.erased_at]
        assert [(e.key, e.salt, e.action) for e in gone] == [(None, None, "put")] * 2

    @requires("can_purge")
    def test_a_pruning_takes_a_prefix_and_the_chain_goes_on(
        self, audited: Store
    ) -> None:
        for number in range(9):
            audited.collection(Named).put(Named(f"{number}"))
            if number % 3 == 2:
                seal(audited)
        audited.collection(Named).put(Named("last"))
        now = datetime.now(UTC) + timedelta(seconds=1)

        planned = prune(audited, before=now, author=Actor("cron"), dry_run=True)
        untouched = len(entries_of(audited))
        done = prune(audited, before=now, author=Actor("cron"))
        seal(audited)
        report = verify_chain(audited)

        assert untouched == 10
        assert min(planned.entries, done.entries) >= 9
        assert report.problems == []
        assert [e.key or e.action for e in entries_of(audited)] == [
            "last",
            "audit.prune",
        ]
        assert next(seals(audited)).seal.number >= 4
        again = prune(audited, before=now - timedelta(days=1), author=Actor("cron"))
        assert again.entries == 0


def _kept(store: StoreBackend) -> Iterator[Change]:
    """Iterate over the change log as far as it is kept."""
    try:
        yield from store.changes()
    except ChangesExpired as expired:
        yield from store.changes(expired.oldest)


def _audit(change: Any) -> Iterator[Any]:
    return (changed for changed in change.records if changed.collection == AUDIT)


def _in_threads(work: Any) -> None:
    errors: list[BaseException] = []

    def run(name: int) -> None:
        try:
            work(name)
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
