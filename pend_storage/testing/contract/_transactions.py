"""Contract of ``transaction`` and ``run``, without other writers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pend_storage._transaction import Transaction
from pend_storage.errors import (
    Conflict,
    InvalidQuery,
    InvalidRecord,
    ReferenceViolation,
    UniqueViolation,
)
from pend_storage.query import field
from pend_storage.store import Store
from pend_storage.testing.contract._children import add
from pend_storage.testing.contract._harness import Harness, commit
from pend_storage.testing.domain import (
    Log,
    Ship,
    Tally,
    a_berth,
    a_log,
    a_ship,
    a_tally,
)

__all__ = ["TransactionContract"]


class TransactionContract(Harness):
    """Contract of one transaction, without other writers."""

    def test_all_its_writes_take_effect_at_the_end(self, store: Store) -> None:
        commit(store, a_log("old"))

        with store.transaction() as tx:
            tx.collection(Log).put(a_log("a"))
            tx.collection(Tally).put(a_tally("t"))
            tx.collection(Log).delete("old")
            before = store.collection(Log).get_many(["a", "old"])

        assert before == {"old": a_log("old")}
        assert store.collection(Log).get_many(["a", "old"]) == {"a": a_log("a")}
        assert store.collection(Tally).get("t") == a_tally("t")
        assert len(list(store.changes())) == 2

    def test_it_tells_the_versions_that_it_gave(self, store: Store) -> None:
        with store.transaction() as tx:
            tx.collection(Log).put(a_log("a"))
            tx.collection(Log).delete("never")

        version = store.collection(Log).versioned("a")
        assert version is not None
        assert tx.versions == {("logs", "a"): version.version, ("logs", "never"): 0}

    def test_an_exception_inside_writes_nothing(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:
            tx.collection(Log).put(a_log("a"))
            _ = 1 // 0

        assert store.collection(Log).get("a") is None
        assert list(store.changes()) == []

    def test_an_empty_transaction_does_nothing(self, store: Store) -> None:
        with store.transaction():
            pass

        assert list(store.changes()) == []

    def test_it_sees_its_own_puts(self, store: Store) -> None:
        commit(store, a_log("a", "old"), a_log("b", "old"))

        with store.transaction() as tx:
            logs = tx.collection(Log)
            logs.put(a_log("b", "new"))
            logs.put(a_log("c", "new"))

            assert logs.get("b") == a_log("b", "new")
            assert logs.get_many(["a", "b", "c", "d"]) == {
                "a": a_log("a", "old"),
                "b": a_log("b", "new"),
                "c": a_log("c", "new"),
            }
            assert [log.id for log in logs.find(field("text") == "new").items] == [
                "b",
                "c",
            ]
            assert logs.find(field("text") == "old").items == (a_log("a", "old"),)
            assert logs.count() == 3

    def test_it_sees_its_own_deletes(self, store: Store) -> None:
        commit(store, a_log("a"), a_log("b"))

        with store.transaction() as tx:
            logs = tx.collection(Log)

            assert logs.delete("a") is True
            assert logs.delete("a") is False
            assert logs.delete("x") is False
            assert logs.get("a") is None
            assert logs.versioned("a") is None
            assert logs.find().items == (a_log("b"),)
            assert logs.count() == 1

    def test_it_sees_a_record_that_it_deleted_and_put_again(self, store: Store) -> None:
        (old,) = commit(store, a_log("a", "old"))

        with store.transaction() as tx:
            tx.collection(Log).delete("a")
            tx.collection(Log).put(a_log("a", "new"), if_version=0)
            assert tx.collection(Log).get("a") == a_log("a", "new")

        after = store.collection(Log).versioned("a")
        assert after is not None
        assert after.record == a_log("a", "new")
        assert after.version > old

    def test_it_pages_through_its_own_writes(self, store: Store) -> None:
        commit(store, *(a_log(key, "x") for key in "abcdef"))

        with store.transaction() as tx:
            logs = tx.collection(Log)
            logs.put(a_log("bb", "x"))
            logs.put(a_log("c", "y"))
            logs.delete("d")
            cursor: str | None = None
            seen: list[str] = []
            while cursor is not None or not seen:
                page = logs.find(
                    field("text") == "x", order_by=["-id"], limit=2, after=cursor
                )
                seen.append("".join(log.id for log in page.items))
                cursor = page.next

        assert seen == ["fe", "bbb", "a"]

    def test_limit_zero_gives_nothing_inside_either(self, store: Store) -> None:
        with store.transaction() as tx:
            tx.collection(Log).put(a_log("a"))

            assert tx.collection(Log).find(limit=0).items == ()
            assert tx.collection(Log).get_many([]) == {}

    def test_get_by_sees_its_own_writes(self, store: Store) -> None:
        commit(store, a_ship("s1", call_sign="AB"), a_ship("s2", call_sign="CD"))

        with store.transaction() as tx:
            ships = tx.collection(Ship)
            ships.put(a_ship("s1", call_sign="EF"))
            ships.delete("s2")

            found = [ships.get_by("call_sign", sign) for sign in ("AB", "CD", "EF")]
            with pytest.raises(InvalidQuery):
                ships.get_by("name", "s1")

        assert found == [None, None, a_ship("s1", call_sign="EF")]

    def test_versioned_gives_the_version_that_was_read(self, store: Store) -> None:
        (version,) = commit(store, a_log("a"))

        with store.transaction() as tx:
            logs = tx.collection(Log)
            assert logs.versioned("a") == (a_log("a"), version)
            logs.put(a_log("a", "mine"))
            assert logs.versioned("a") == (a_log("a", "mine"), version)
            logs.put(a_log("b"))
            assert logs.versioned("b") == (a_log("b"), 0)

    def test_it_may_write_again_what_it_read_at_a_version(self, store: Store) -> None:
        commit(store, a_log("a"))

        with store.transaction() as tx:
            logs = tx.collection(Log)
            for text in ("once", "twice"):
                read = logs.versioned("a")
                assert read is not None
                logs.put(replace(read.record, text=text), if_version=read.version)

        assert store.collection(Log).get("a") == a_log("a", "twice")

    def test_if_version_is_checked(self, store: Store) -> None:
        (old,) = commit(store, a_log("a"))
        (new,) = commit(store, a_log("a", "new"))

        for read_before in (False, True):
            with pytest.raises(Conflict) as caught, store.transaction() as tx:
                if read_before:
                    tx.collection(Log).get("a")
                tx.collection(Log).put(a_log("a", "late"), if_version=old)
            assert (caught.value.expected, caught.value.actual) == (old, new)
        with pytest.raises(Conflict) as caught, store.transaction() as tx:
            tx.collection(Log).delete("a", if_version=old)

        assert (caught.value.expected, caught.value.actual) == (old, new)
        assert store.collection(Log).get("a") == a_log("a", "new")

    def test_a_record_of_its_own_is_there_for_if_version_zero(
        self, store: Store
    ) -> None:
        with pytest.raises(Conflict), store.transaction() as tx:
            tx.collection(Log).put(a_log("a"))
            tx.collection(Log).put(a_log("a"), if_version=0)

        assert store.collection(Log).get("a") is None

    def test_a_record_that_breaks_its_schema_is_refused_at_once(
        self, store: Store
    ) -> None:
        with store.transaction() as tx:
            with pytest.raises(InvalidRecord):
                tx.collection(Log).put(a_log("a", "\x00"))
            tx.collection(Log).put(a_log("b"))

        assert [log.id for log in store.collection(Log).scan()] == ["b"]

    def test_rules_are_judged_at_the_end(self, store: Store) -> None:
        commit(store, a_ship("s1", call_sign="AB"))

        with store.transaction() as tx:
            tx.collection(Ship).put(a_ship("s2", call_sign="AB", berth_id="b1"))
            tx.collection(Ship).put(a_ship("s1"))
            tx.collection("berths").put(a_berth("b1"))
        with pytest.raises(UniqueViolation), store.transaction() as tx:
            tx.collection(Ship).put(a_ship("s3", call_sign="AB"))
        with pytest.raises(ReferenceViolation), store.transaction() as tx:
            tx.collection("berths").delete("b1")

        assert store.collection(Ship).count() == 2

    def test_a_record_changed_after_its_put_is_stored_as_it_was_put(
        self, store: Store
    ) -> None:
        extra = {"a": [1]}

        with store.transaction() as tx:
            tx.collection(Ship).put(a_ship("s1", extra=extra))
            extra["a"].append(2)
            seen = tx.collection(Ship).get("s1")
            assert seen is not None
            seen.extra["b"] = 3

        assert store.collection(Ship).get("s1") == a_ship("s1", extra={"a": [1]})

    def test_it_may_be_ended_early(self, store: Store) -> None:
        with store.transaction() as tx:
            assert add(tx, "t") == 0
            tx.commit()
            version = tx.versions["tallies", "t"]

        assert store.collection(Tally).versioned("t") == (a_tally("t", 1), version)

    def test_run_gives_what_the_function_gives(self, store: Store) -> None:
        assert [store.run(lambda tx: add(tx, "t")) for _ in range(3)] == [0, 1, 2]

    def test_run_passes_other_errors_on_and_writes_nothing(self, store: Store) -> None:
        calls = []

        def fail(tx: Transaction) -> None:
            calls.append(add(tx, "t"))
            raise LookupError

        with pytest.raises(LookupError):
            store.run(fail)

        assert calls == [0]
        assert store.collection(Tally).get("t") is None

    def test_run_gives_up_after_so_many_attempts(self, store: Store) -> None:
        calls = []

        def overtaken(tx: Transaction) -> None:
            calls.append(add(tx, "t"))
            store.collection(Tally).put(a_tally("t", 100 * len(calls)))

        with pytest.raises(Conflict):
            store.run(overtaken, attempts=3)

        assert calls == [0, 100, 200]
        assert store.collection(Tally).get("t") == a_tally("t", 300)

    def test_run_repeats_what_conflicted(self, store: Store) -> None:
        calls = []

        def overtaken_once(tx: Transaction) -> None:
            calls.append(add(tx, "t"))
            if len(calls) == 1:
                store.collection(Tally).put(a_tally("t", 10))

        store.run(overtaken_once)

        assert calls == [0, 10]
        assert store.collection(Tally).get("t") == a_tally("t", 11)
