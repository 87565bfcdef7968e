"""Ledger of a run: the faults that it reports, and those that it tolerates."""

from __future__ import annotations

from pend_storage.testing.hostile._driver import spread
from pend_storage.testing.hostile._ledger import Fate, Ledger, Write


def put(
    ledger: Ledger, key: str, text: str | None, fate: Fate = Fate.DONE, version: int = 1
) -> Write:
    write = ledger.begin(key, text)
    ledger.settle(write, fate, version)
    return write


def test_what_was_acknowledged_must_be_there_or_something_later() -> None:
    ledger = Ledger()
    put(ledger, "k", "t1")
    put(ledger, "k", "t2")
    put(ledger, "k", "t3", Fate.OPEN)

    assert [w.text for w in ledger.missing({"k": "t1"})] == ["t2"]
    assert [w.text for w in ledger.missing({})] == ["t2"]
    assert ledger.missing({"k": "t2"}) == ledger.missing({"k": "t3"}) == []


def test_a_delete_must_be_there_too() -> None:
    ledger = Ledger()
    put(ledger, "k", "t1")
    put(ledger, "k", None)

    assert ledger.missing({}) == []
    assert [w.text for w in ledger.missing({"k": "t1"})] == [None]


def test_what_an_exchange_has_lost_need_not_be_there_and_must_be_told() -> None:
    ledger = Ledger()
    put(ledger, "k", "t1")
    put(ledger, "k", "t2")

    ledger.exchanged({"k": "t2"}, {"k": "t1"})

    assert ledger.missing({"k": "t1"}) == []
    assert [w.text for w in ledger.forgotten({"k": "t1"})] == ["t2"]
    assert ledger.forgotten({"k": "t2"}) == []
    assert [w.text for w in ledger.missing({})] == ["t1"]


def test_who_comes_after_the_exchange_is_not_overwritten_by_what_it_lost() -> None:
    ledger = Ledger()
    put(ledger, "k", "t1")
    ledger.exchanged({"k": "t1"}, {})
    put(ledger, "k", "t2")

    assert [w.text for w in ledger.missing({"k": "t1"})] == ["t2"]


def test_what_was_under_way_and_is_acknowledged_later_may_be_lost() -> None:
    ledger = Ledger()
    write = ledger.begin("k", "t1")
    ledger.exchanged({"k": "t1"}, {})
    ledger.settle(write, Fate.DONE, 7)

    assert ledger.missing({}) == []
    assert [w.text for w in ledger.forgotten({})] == ["t1"]


def test_what_was_refused_or_never_written_is_found() -> None:
    ledger = Ledger()
    put(ledger, "k", "t1", Fate.REFUSED)

    assert len(ledger.wrong({"k": "t1", "other": "x"})) == 2


def test_versions_must_grow() -> None:
    ledger = Ledger()
    put(ledger, "k", "t1", version=5)
    put(ledger, "k", "t2", version=5)

    assert "[5, 5]" in ledger.shrunk()[0]


def test_each_addition_counts_once() -> None:
    assert spread({"sum": "t1 t2 t1", "k": "x"}) == {
        "k": "x",
        "sum t1": "t1 t1",
        "sum t2": "t2",
    }
